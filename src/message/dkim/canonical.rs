//! The relaxed canonical forms of header fields and bodies (RFC 6376 3.4.2, 3.4.4).

/// The fields of a header section, each with its folded lines and without its line end.
pub(super) fn fields(head: &[u8]) -> Vec<&[u8]> {
    let mut fields = Vec::with_capacity(24);
    let mut start = 0;
    let mut from = 0;
    while let Some(at) = memchr::memmem::find(&head[from..], b"\r\n") {
        let end = from + at;
        from = end + 2;
        // A line that begins with white space continues the field.
        if matches!(head.get(from), Some(b' ' | b'\t')) {
            continue;
        }
        if end > start {
            fields.push(&head[start..end]);
        }
        start = from;
    }
    if start < head.len() {
        fields.push(&head[start..]);
    }
    fields
}

/// Whether a field has this name, whatever its case.
pub(super) fn is_named(field: &[u8], name: &str) -> bool {
    field.split_at_checked(name.len()).is_some_and(|(start, rest)| {
        start.eq_ignore_ascii_case(name.as_bytes())
            && rest.trim_ascii_start().first() == Some(&b':')
    })
}

/// Writes a field as `name:value CRLF`: name in lower case, unfolded, runs of white space
/// as one space, none at the ends of the value.
pub(super) fn header(field: &[u8], out: &mut Vec<u8>) {
    let colon = memchr::memchr(b':', field).unwrap_or(field.len());
    let (name, value) = field.split_at(colon);
    out.extend(name.trim_ascii_end().iter().map(u8::to_ascii_lowercase));
    out.push(b':');
    let mut gap = false;
    let start = out.len();
    for byte in value.iter().skip(1) {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => gap = true,
            byte => {
                if gap && out.len() > start {
                    out.push(b' ');
                }
                gap = false;
                out.push(*byte);
            }
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Feeds the canonical body to `hash`: white space at line ends gone, runs of it within
/// lines as one space, empty lines at the end gone. A line of white space only counts as
/// empty, also at the end.
pub(super) fn body(body: &[u8], mut hash: impl FnMut(&[u8])) {
    let mut empty_lines = 0_usize;
    let mut from = 0;
    while from < body.len() {
        let (line, next) = match memchr::memmem::find(&body[from..], b"\r\n") {
            Some(at) => (&body[from..from + at], from + at + 2),
            None => (&body[from..], body.len()),
        };
        from = next;
        let line = trim_end(line);
        if line.is_empty() {
            empty_lines += 1;
            continue;
        }
        for _ in 0..empty_lines {
            hash(b"\r\n");
        }
        empty_lines = 0;
        squeeze(line, &mut hash);
        hash(b"\r\n");
    }
}

/// Feeds a line with each run of white space as one space.
fn squeeze(line: &[u8], hash: &mut impl FnMut(&[u8])) {
    let mut rest = line;
    while let Some(at) = memchr::memchr2(b' ', b'\t', rest) {
        hash(&rest[..at]);
        hash(b" ");
        let run = rest[at..].iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        rest = &rest[at + run..];
    }
    hash(rest);
}

fn trim_end(line: &[u8]) -> &[u8] {
    let end = line.iter().rposition(|byte| !matches!(byte, b' ' | b'\t')).map_or(0, |at| at + 1);
    &line[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body_of(text: &str) -> String {
        let mut out = Vec::new();
        body(text.as_bytes(), |bytes| out.extend_from_slice(bytes));
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn the_examples_of_rfc_6376_3_4_5() {
        let mut out = Vec::new();
        for field in fields(b"A: X\r\nB : Y\t\r\n\tZ  \r\n") {
            header(field, &mut out);
        }
        assert_eq!(out, b"a:X\r\nb:Y Z\r\n");
        assert_eq!(body_of(" C \r\nD \t E\r\n\r\n\r\n"), " C\r\nD E\r\n");
    }

    #[test]
    fn trailing_lines_of_white_space_count_as_empty() {
        assert_eq!(body_of("x\r\n \t\r\n\r\n   \r\n"), "x\r\n");
        assert_eq!(body_of(" \r\n\r\nx"), "\r\n\r\nx\r\n");
        assert_eq!(body_of(""), "");
        assert_eq!(body_of("\r\n \r\n"), "");
    }

    #[test]
    fn names_are_found_whatever_their_case_and_spacing() {
        assert!(is_named(b"SUBJECT : x", "Subject"));
        assert!(!is_named(b"Subjects: x", "Subject"));
        assert!(!is_named(b"Sub", "Subject"));
    }
}
