//! Addresses in running text.

use std::ops::Range;

/// RFC 5321 4.5.3.1.3.
const MAX_LEN: usize = 254;

/// Where addresses stand in a line, from the left; at most 20.
pub(super) fn find(line: &str) -> Vec<Range<usize>> {
    let bytes = line.as_bytes();
    let mut found: Vec<Range<usize>> = Vec::new();
    for at in memchr::memchr_iter(b'@', bytes).take(100) {
        let floor = found.last().map_or(0, |last| last.end);
        let before = bytes.get(floor..at).unwrap_or_default();
        let local = before.iter().rev().take_while(|b| is_local(**b)).count();
        let mut begin = at - local;
        // `mailto:a@b`, `'a@b'`, `.a@b`
        while begin < at && bytes.get(begin).is_some_and(|b| b"'.=?/&!*+-".contains(b)) {
            begin += 1;
        }
        let after = bytes.get(at + 1..).unwrap_or_default();
        let mut len = after.iter().take_while(|b| is_domain(**b)).count();
        while len > 0 && after.get(len - 1).is_some_and(|b| b".-_".contains(b)) {
            len -= 1;
        }
        let end = at + 1 + len;
        let bracketed =
            begin > 0 && bytes.get(begin - 1) == Some(&b'<') && bytes.get(end) == Some(&b'>');
        let dotted = bytes.get(at + 1..end).is_some_and(|domain| domain.contains(&b'.'));
        if begin < at && len > 0 && end - begin <= MAX_LEN && (dotted || bracketed) {
            found.push(begin..end);
            if found.len() == 20 {
                break;
            }
        }
    }
    found
}

/// The first address of a text.
pub(super) fn first(text: &str) -> Option<&str> {
    find(text).first().and_then(|range| text.get(range.clone()))
}

/// As it is compared: without brackets, lower-case.
pub(super) fn normal(text: &str) -> String {
    text.trim().trim_matches(['<', '>', '"', '\'']).trim().to_lowercase()
}

fn is_local(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b".!#$%&'*+/=?^_`{|}~-".contains(&byte) || byte >= 0x80
}

fn is_domain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b".-_".contains(&byte) || byte >= 0x80
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(line: &str) -> Vec<&str> {
        find(line).into_iter().map(|range| &line[range]).collect()
    }

    #[test]
    fn addresses_are_found_where_they_stand() {
        for (line, expected) in [
            ("<a@b.example>... User unknown", vec!["a@b.example"]),
            ("to a@b.example, c@d.example.", vec!["a@b.example", "c@d.example"]),
            ("mailto:a+x=y@b.example>", vec!["a+x=y@b.example"]),
            ("<a@localhost> and a@localhost", vec!["a@localhost"]),
            ("@ x@ @y a@b", vec![]),
            ("用户@例子.中国 is gone", vec!["用户@例子.中国"]),
        ] {
            assert_eq!(all(line), expected, "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_text_can_be_searched(line in ".{0,80}") {
            for range in find(&line) {
                prop_assert!(line.get(range).is_some());
            }
        }
    }
}
