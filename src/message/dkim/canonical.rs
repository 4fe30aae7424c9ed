//! The forms of a mail that are signed (RFC 6376 3.4), pure.

use crate::config::Form;

/// One header field with its folds, without its last line end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field<'a> {
    pub(super) bytes: &'a [u8],
    name_len: usize,
}

impl Field<'_> {
    /// Whether it is of that name.
    pub(super) fn is(&self, name: &str) -> bool {
        self.bytes[..self.name_len].trim_ascii_end().eq_ignore_ascii_case(name.as_bytes())
    }
}

/// The header section (with its last CRLF) and the body (after the blank line).
pub(super) fn split(mail: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = memchr::memmem::find(mail, b"\r\n\r\n")?;
    Some((&mail[..at + 2], &mail[at + 4..]))
}

/// The fields of a header section, in order.
pub(super) fn fields(header: &[u8]) -> Vec<Field<'_>> {
    let mut fields = Vec::with_capacity(16);
    let mut rest = header;
    while !rest.is_empty() {
        let len = field_len(rest);
        let bytes = &rest[..len];
        rest = rest.get(len + 2..).unwrap_or_default();
        if let Some(name_len) = memchr::memchr(b':', bytes) {
            fields.push(Field { bytes, name_len });
        }
    }
    fields
}

/// Up to the line end that no white space follows.
fn field_len(rest: &[u8]) -> usize {
    memchr::memmem::find_iter(rest, b"\r\n")
        .find(|at| !matches!(rest.get(at + 2), Some(b' ' | b'\t')))
        .unwrap_or(rest.len())
}

/// Appends a field's canonical form with CRLF.
pub(super) fn header(form: Form, field: &[u8], out: &mut Vec<u8>) {
    match form {
        Form::Relaxed => relaxed_header(field, out),
        Form::Simple => {
            out.extend_from_slice(field);
            out.extend_from_slice(b"\r\n");
        }
    }
}

fn relaxed_header(field: &[u8], out: &mut Vec<u8>) {
    let colon = memchr::memchr(b':', field).unwrap_or(field.len());
    let (name, value) = field.split_at(colon);
    out.extend(name.trim_ascii_end().iter().map(u8::to_ascii_lowercase));
    out.push(b':');
    let mut space = false;
    let mut begun = false;
    for byte in value.iter().skip(1) {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => space = true,
            byte => {
                if space && begun {
                    out.push(b' ');
                }
                out.push(*byte);
                (space, begun) = (false, true);
            }
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// A body's simple form: as it is, but with one line end at its end. A body of nothing but line
/// ends is one line end.
pub(super) fn simple_body(mut body: &[u8], mut take: impl FnMut(&[u8])) {
    while let Some(shorter) = body.strip_suffix(b"\r\n") {
        body = shorter;
    }
    take(body);
    take(b"\r\n");
}

/// A body's relaxed form: runs of white space become one space, none stays at a
/// line's end, and no empty line at the body's. A line of nothing but white space
/// counts as empty; a body without text is nothing at all. Handed out in pieces, so
/// that a large attachment is not held twice.
pub(super) fn relaxed_body(body: &[u8], mut take: impl FnMut(&[u8])) {
    let mut out = Vec::with_capacity(body.len().min(PIECE) + 1_024);
    let mut empty_lines = 0;
    let mut rest = body;
    while !rest.is_empty() {
        let (line, len) = match memchr::memmem::find(rest, b"\r\n") {
            Some(at) => (&rest[..at], at + 2),
            None => (rest, rest.len()),
        };
        rest = &rest[len..];
        let line = trim_line_end(line);
        if line.is_empty() {
            empty_lines += 1;
            continue;
        }
        for _ in 0..empty_lines {
            out.extend_from_slice(b"\r\n");
        }
        empty_lines = 0;
        write_line(line, &mut out);
        out.extend_from_slice(b"\r\n");
        if out.len() >= PIECE {
            take(&out);
            out.clear();
        }
    }
    take(&out);
}

/// Bytes of a body that are hashed at once: stays in the processor's cache.
const PIECE: usize = 64 << 10;

fn trim_line_end(line: &[u8]) -> &[u8] {
    let end = line.iter().rposition(|byte| !matches!(byte, b' ' | b'\t')).map_or(0, |at| at + 1);
    &line[..end]
}

fn write_line(line: &[u8], out: &mut Vec<u8>) {
    let mut rest = line;
    // Nearly every line has single spaces only, and base64 has none.
    while let Some(at) = memchr::memchr2(b' ', b'\t', rest) {
        out.extend_from_slice(&rest[..at]);
        out.push(b' ');
        let white = rest[at..].iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        rest = &rest[at + white..];
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn relaxed(text: &str) -> String {
        let mut out = Vec::new();
        relaxed_body(text.as_bytes(), |piece| out.extend_from_slice(piece));
        String::from_utf8(out).expect("UTF-8")
    }

    /// RFC 6376 3.4.4, rule by rule.
    fn as_the_rfc_says(text: &str) -> String {
        let mut lines: Vec<String> = text
            .split("\r\n")
            .map(|line| {
                let mut short = line.trim_end_matches([' ', '\t']).replace('\t', " ");
                while short.contains("  ") {
                    short = short.replace("  ", " ");
                }
                short
            })
            .collect();
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        lines.iter().flat_map(|line| [line.as_str(), "\r\n"]).collect()
    }

    proptest! {
        #[test]
        fn a_body_relaxes_by_the_rules(text in "([a.\u{e9} \t]{0,3}(\r\n)?){0,12}") {
            prop_assert_eq!(relaxed(&text), as_the_rfc_says(&text));
        }

        #[test]
        fn pieces_do_not_matter(lines in 1_usize..5_000) {
            let text = "some  words \r\n".repeat(lines);
            prop_assert_eq!(relaxed(&text), "some words\r\n".repeat(lines));
        }
    }

    #[test]
    fn bodies_relax_as_the_rfc_says() {
        for (given, expected) in [
            ("", ""),
            ("\r\n", ""),
            ("\r\n\r\n\r\n", ""),
            (" \t \r\n", ""),
            (" ", ""),
            (" C \r\nD \t E\r\n\r\n\r\n", " C\r\nD E\r\n"),
            ("a", "a\r\n"),
            ("a\r\n \r\n\t\r\n", "a\r\n"),
            ("a\r\n \r\nb", "a\r\n\r\nb\r\n"),
            ("\r\n\r\na\r\n", "\r\n\r\na\r\n"),
            (".\r\n..\r\n", ".\r\n..\r\n"),
            ("\t\ta  b\r\n", " a b\r\n"),
        ] {
            assert_eq!(relaxed(given), expected, "{given:?}");
        }
    }

    #[test]
    fn simple_bodies_lose_only_empty_lines_at_their_end() {
        for (given, expected) in [
            ("", "\r\n"),
            ("\r\n\r\n", "\r\n"),
            (" \r\n", " \r\n"),
            ("a", "a\r\n"),
            (" C \r\nD \t E\r\n\r\n\r\n", " C \r\nD \t E\r\n"),
            ("a\r\n \r\n\r\n", "a\r\n \r\n"),
        ] {
            let mut out = Vec::new();
            simple_body(given.as_bytes(), |piece| out.extend_from_slice(piece));
            assert_eq!(String::from_utf8_lossy(&out), expected, "{given:?}");
        }
    }

    #[test]
    fn headers_relax_as_the_rfc_says() {
        for (given, expected) in [
            ("A: X", "a:X\r\n"),
            ("B : Y\t\r\n\tZ  ", "b:Y Z\r\n"),
            ("SUBJect:", "subject:\r\n"),
            ("C:\r\n d\r\n  e", "c:d e\r\n"),
            ("To: \u{e9}\u{a0}x", "to:\u{e9}\u{a0}x\r\n"),
        ] {
            let mut out = Vec::new();
            header(Form::Relaxed, given.as_bytes(), &mut out);
            assert_eq!(String::from_utf8_lossy(&out), expected, "{given:?}");
            out.clear();
            header(Form::Simple, given.as_bytes(), &mut out);
            assert_eq!(String::from_utf8_lossy(&out), format!("{given}\r\n"));
        }
    }

    #[test]
    fn fields_keep_their_folds() {
        let fields = fields(b"A: 1\r\n 2\r\nB: 3\r\na: 4\r\n");
        let texts: Vec<_> = fields.iter().map(|f| String::from_utf8_lossy(f.bytes)).collect();
        assert_eq!(texts, ["A: 1\r\n 2", "B: 3", "a: 4"]);
        assert_eq!(fields.iter().filter(|f| f.is("A")).count(), 2);
    }
}
