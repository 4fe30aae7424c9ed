//! The parts of a mail, found within bounds.
//!
//! Only what a report needs: which parts there are, how deep, and the text of one. Depth,
//! number of parts, size of a header section and size of the whole are bounded, so a mail made
//! to cost much costs little; what lies beyond a bound is not looked at. The inner mail of
//! `message/rfc822` is one part and never descended into: it is the evidence, not the report.
//! Transfer encodings and character sets of a leaf are mail-parser's matter.

use std::borrow::Cow;

use mail_parser::MessageParser;
use memchr::memmem;

/// Bytes of a mail that are looked at.
const MAX_BYTES: usize = 2 << 20;
/// Nesting of multiparts; real reports have two.
const MAX_DEPTH: usize = 8;
/// Parts of a mail; real reports have three.
const MAX_PARTS: usize = 48;
/// Bytes of a header section that are read.
const MAX_HEADER: usize = 64 << 10;
/// Bytes of a text that are decoded.
const MAX_TEXT: usize = 128 << 10;
/// Fields of a header section that are read.
const MAX_FIELDS: usize = 400;
/// Longest field that is kept.
const MAX_FIELD: usize = 8 << 10;

/// A leaf of the mail, or the mail itself if it has no parts.
#[derive(Debug)]
pub(super) struct Part<'m> {
    /// `text/plain` and so on, lower-case, without parameters.
    pub(super) kind: String,
    /// Header section, blank line and content.
    whole: &'m [u8],
    /// The content as it stands.
    pub(super) content: &'m [u8],
}

/// The fields of a header section: lower-case name, unfolded value.
#[derive(Debug, Default)]
pub(super) struct Header(Vec<(String, String)>);

/// All leaves in their order.
pub(super) fn parts(mail: &[u8]) -> Vec<Part<'_>> {
    let mail = mail.get(..MAX_BYTES).unwrap_or(mail);
    let mut found = Vec::new();
    walk(mail, 0, &mut found);
    found
}

fn walk<'m>(whole: &'m [u8], depth: usize, found: &mut Vec<Part<'m>>) {
    if found.len() >= MAX_PARTS {
        return;
    }
    let (head, content) = split(whole);
    let header = Header::read(head);
    let written = header.get("content-type").unwrap_or("text/plain");
    let kind = written.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let kind = if kind.contains('/') { kind } else { "text/plain".to_owned() };
    if kind.starts_with("multipart/")
        && depth < MAX_DEPTH
        && let Some(boundary) = parameter(written, "boundary")
    {
        let mut inner = Vec::new();
        cut(content, &boundary, &mut inner);
        if !inner.is_empty() {
            for one in inner {
                walk(one, depth + 1, found);
            }
            return;
        }
    }
    found.push(Part { kind, whole, content });
}

/// Header section and content, parted by the first empty line.
pub(super) fn split(whole: &[u8]) -> (&[u8], &[u8]) {
    if let Some(rest) = whole.strip_prefix(b"\r\n").or_else(|| whole.strip_prefix(b"\n")) {
        return (&[], rest);
    }
    let mut from = 0;
    while let Some(at) = whole.get(from..).and_then(|rest| memchr::memchr(b'\n', rest)) {
        let next = from + at + 1;
        let rest = whole.get(next..).unwrap_or_default();
        for blank in [b"\r\n".as_slice(), b"\n"] {
            if let Some(content) = rest.strip_prefix(blank) {
                return (whole.get(..next).unwrap_or_default(), content);
            }
        }
        from = next;
    }
    (whole, &[])
}

/// The pieces between the lines of a boundary (RFC 2046 5.1.1).
fn cut<'m>(content: &'m [u8], boundary: &str, inner: &mut Vec<&'m [u8]>) {
    let line = format!("--{boundary}");
    let mut begin = None;
    for at in memmem::find_iter(content, line.as_bytes()) {
        if at > 0 && content.get(at - 1) != Some(&b'\n') {
            continue;
        }
        let after = content.get(at + line.len()..).unwrap_or_default();
        // Another boundary may begin with this one.
        if !matches!(after.first(), None | Some(b'\r' | b'\n' | b'-' | b' ' | b'\t')) {
            continue;
        }
        if let Some(begin) = begin.take() {
            inner.push(content.get(begin..at).unwrap_or_default());
        }
        if inner.len() >= MAX_PARTS || after.starts_with(b"--") {
            return;
        }
        begin = memchr::memchr(b'\n', after).map(|end| at + line.len() + end + 1);
    }
    // The closing line is missing: the mail was cut short.
    if let Some(rest) = begin.and_then(|begin| content.get(begin..)) {
        inner.push(rest);
    }
}

/// A parameter of a Content-Type.
fn parameter(value: &str, name: &str) -> Option<String> {
    value.split(';').skip(1).find_map(|one| {
        let (key, text) = one.split_once('=')?;
        if !key.trim().eq_ignore_ascii_case(name) {
            return None;
        }
        let text = text.trim().trim_matches('"');
        // RFC 2046: at most 70 characters; some send more.
        (!text.is_empty() && text.len() <= 200).then(|| text.to_owned())
    })
}

impl Part<'_> {
    /// The text, decoded; HTML as plain text.
    pub(super) fn text(&self) -> String {
        let whole = self.whole.get(..MAX_TEXT).unwrap_or(self.whole);
        let (head, raw) = split(whole);
        let raw = || String::from_utf8_lossy(raw).into_owned();
        if head.is_empty() || head.len() > MAX_HEADER || !self.kind.starts_with("text/") {
            return raw();
        }
        MessageParser::default()
            .parse(whole)
            .and_then(|mail| mail.body_text(0).map(Cow::into_owned))
            .filter(|text| !text.trim().is_empty())
            .unwrap_or_else(raw)
    }

    /// Whether it is a file and not what is said.
    pub(super) fn is_attachment(&self) -> bool {
        let header = Header::read(split(self.whole).0);
        header
            .get("content-disposition")
            .is_some_and(|how| how.trim_start().to_ascii_lowercase().starts_with("attachment"))
    }

    /// Fields of a `message/*` part, whose content may be encoded all the same.
    pub(super) fn fields(&self) -> String {
        let (head, _) = split(self.whole);
        let encoding = Header::read(head).get("content-transfer-encoding").map(str::to_owned);
        match encoding.as_deref().map(str::trim) {
            Some(how)
                if how.eq_ignore_ascii_case("base64")
                    || how.eq_ignore_ascii_case("quoted-printable") =>
            {
                let mut mail = format!("Content-Transfer-Encoding: {how}\r\n\r\n").into_bytes();
                mail.extend_from_slice(self.content.get(..MAX_TEXT).unwrap_or(self.content));
                MessageParser::default()
                    .parse(&mail)
                    .and_then(|mail| mail.body_text(0).map(Cow::into_owned))
                    .unwrap_or_default()
            }
            _ => {
                let content = self.content.get(..MAX_TEXT).unwrap_or(self.content);
                String::from_utf8_lossy(content).into_owned()
            }
        }
    }
}

impl Header {
    /// Reads a header section; what is no field is skipped.
    pub(super) fn read(section: &[u8]) -> Self {
        let section = section.get(..MAX_HEADER).unwrap_or(section);
        let text = String::from_utf8_lossy(section);
        let mut fields: Vec<(String, String)> = Vec::new();
        for line in text.lines() {
            if line.starts_with([' ', '\t']) {
                if let Some((_, value)) = fields.last_mut()
                    && value.len() + line.len() < MAX_FIELD
                {
                    value.push(' ');
                    value.push_str(line.trim());
                }
            } else if let Some((name, value)) = line.split_once(':')
                && fields.len() < MAX_FIELDS
                && !name.is_empty()
                && name.bytes().all(|b| b.is_ascii_graphic())
            {
                let value: String = value.trim().chars().take(MAX_FIELD).collect();
                fields.push((name.to_ascii_lowercase(), value));
            }
        }
        Self(fields)
    }

    /// The first field of a name (lower-case).
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// A field with its encoded words decoded (RFC 2047).
    pub(super) fn decoded(&self, name: &str) -> Option<String> {
        let value = self.get(name)?;
        if !value.contains("=?") {
            return Some(value.to_owned());
        }
        let mail = format!("Subject: {value}\r\n\r\n");
        MessageParser::default()
            .parse_headers(&mail)
            .and_then(|mail| mail.subject().map(str::to_owned))
            .or_else(|| Some(value.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    fn kinds(mail: &str) -> Vec<String> {
        parts(mail.as_bytes()).into_iter().map(|part| part.kind).collect()
    }

    #[test]
    fn a_report_has_its_parts() {
        let mail = "Content-Type: multipart/report; boundary=\"a b\"\r\n\r\npreamble\r\n\
            --a b\r\n\r\nwords\r\n--a b\r\nContent-Type: message/delivery-status\r\n\r\nAction: failed\r\n\
            --a b\r\nContent-Type: message/rfc822\r\n\r\nContent-Type: multipart/mixed; boundary=z\r\n\r\n--z\r\n\r\nx\r\n--a b--\r\n";
        assert_eq!(kinds(mail), ["text/plain", "message/delivery-status", "message/rfc822"]);
        assert_eq!(parts(mail.as_bytes())[0].text().trim(), "words");
    }

    #[test]
    fn what_is_not_closed_or_not_there_is_read_as_far_as_it_goes() {
        assert_eq!(kinds("Content-Type: multipart/mixed; boundary=b\n\n--b\n\nx"), ["text/plain"]);
        assert_eq!(kinds("Content-Type: multipart/mixed; boundary=b\n\nx"), ["multipart/mixed"]);
        assert_eq!(kinds("Content-Type: multipart/mixed\n\nx"), ["multipart/mixed"]);
        assert_eq!(kinds(""), ["text/plain"]);
    }

    #[test]
    fn encodings_and_character_sets_are_undone() {
        let mail = "Content-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: quoted-printable\n\nr=E9pertoire\n";
        assert_eq!(parts(mail.as_bytes())[0].text().trim(), "répertoire");
        let header = Header::read(b"Subject: =?utf-8?q?a=20b?=\r\nX: 1\r\n 2\r\n");
        assert_eq!(header.decoded("subject").as_deref(), Some("a b"));
        assert_eq!(header.get("x"), Some("1 2"));
    }

    #[test]
    fn depth_and_number_are_bounded() {
        let mut mail = String::new();
        for n in 0..200 {
            writeln!(mail, "Content-Type: multipart/mixed; boundary=b{n}\n\n--b{n}").unwrap();
        }
        assert_eq!(kinds(&mail).len(), 1);
        let many =
            format!("Content-Type: multipart/mixed; boundary=b\n\n{}", "--b\n\nx\n".repeat(10_000));
        assert_eq!(kinds(&many).len(), MAX_PARTS);
    }
}
