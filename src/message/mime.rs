//! Texts and files → the bytes of one mail (RFC 5322, MIME).
//!
//! Promises: every line ends in CRLF and is at most 998 bytes long, no CR or LF
//! stands alone, bodies are 7-bit, and the same delivery always yields the same
//! bytes (Message-ID and boundaries come from its id), so that a second attempt
//! sends the same mail.

use std::borrow::Cow;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mail_builder::MessageBuilder;
use mail_builder::headers::HeaderType;
use mail_builder::headers::address::Address as Written;
use mail_builder::headers::content_type::ContentType;
use mail_builder::headers::date::Date;
use mail_builder::headers::message_id::MessageId;
use mail_builder::headers::raw::Raw;
use mail_builder::headers::text::Text;
use mail_builder::mime::{BodyPart, MimePart};

use super::address::Address;
use super::attachment::Attachment;
use super::mailbox::Mailbox;
use super::template::Filled;
use crate::domain::ids::DeliveryId;

/// What one mail is made of.
pub(crate) struct Parts<'a> {
    pub(crate) delivery: DeliveryId,
    pub(crate) from: &'a Mailbox,
    pub(crate) to: &'a Mailbox,
    pub(crate) cc: &'a [Mailbox],
    pub(crate) reply_to: Option<&'a Mailbox>,
    pub(crate) filled: &'a Filled<'a>,
    pub(crate) attachments: &'a [Attachment],
    /// Seconds since 1970.
    pub(crate) date: u64,
    /// The one-click link (RFC 8058): ASCII without spaces and angle brackets.
    pub(crate) unsubscribe: Option<&'a str>,
    /// The address that a mail to unsubscribes, beside the link.
    pub(crate) unsubscribe_mail: Option<&'a Address>,
}

/// Writes the mail.
pub(crate) fn build(parts: &Parts<'_>) -> Vec<u8> {
    let mut mail = MessageBuilder::new().from(written(parts.from)).to(written(parts.to));
    if !parts.cc.is_empty() {
        mail = mail.cc(Written::new_list(parts.cc.iter().map(written).collect()));
    }
    if let Some(reply_to) = parts.reply_to {
        mail = mail.reply_to(written(reply_to));
    }
    mail = mail
        .subject(parts.filled.subject.as_str())
        .date(Date::new(parts.date as i64))
        .message_id(MessageId::new(message_id(parts)));
    for (name, value) in &parts.filled.headers {
        let ours = parts.unsubscribe.is_some() && name.is_unsubscribe();
        // An empty value is how a template leaves a header out.
        if !ours && !value.as_str().is_empty() {
            mail = mail.header(name.as_str(), custom(value.as_str()));
        }
    }
    if let Some(link) = parts.unsubscribe {
        mail = mail
            .header("List-Unsubscribe", Raw::new(unsubscribe_ways(link, parts.unsubscribe_mail)))
            .header("List-Unsubscribe-Post", Raw::new("List-Unsubscribe=One-Click"));
    }
    let mut bytes = Vec::new();
    mail.body(body(parts)).serialize(&mut bytes);
    bytes
}

/// By a click, and by a mail for those whose program knows nothing else (RFC 2369 3.2).
fn unsubscribe_ways(link: &str, mail: Option<&Address>) -> String {
    match mail {
        Some(mail) => format!("<{link}>, <mailto:{mail}?subject=unsubscribe>"),
        None => format!("<{link}>"),
    }
}

/// The same for every attempt of a delivery.
fn message_id(parts: &Parts<'_>) -> String {
    format!("{}@{}", parts.delivery, parts.from.address().domain())
}

fn written(mailbox: &Mailbox) -> Written<'_> {
    Written::new_address(mailbox.name(), mailbox.address().as_str())
}

/// Readers of machine-made headers (List-Id, Feedback-ID) want them as they are;
/// only what is no ASCII is encoded.
fn custom(value: &str) -> HeaderType<'_> {
    if value.is_ascii() { Raw::new(value).into() } else { Text::new(value).into() }
}

/// `mixed(related(alternative(text, html), inline…), file…)`, each level only if needed.
fn body<'a>(parts: &'a Parts<'a>) -> MimePart<'a> {
    let text = parts.filled.text.as_deref().map(|text| leaf("text/plain", text));
    let html = parts.filled.html.as_deref().map(|html| leaf("text/html", html));
    let is_html = html.is_some();
    let (inline, files): (Vec<_>, Vec<_>) = parts
        .attachments
        .iter()
        // Only html can show an inline part.
        .partition(|attachment| attachment.content_id.is_some() && is_html);
    let boundary = boundary(parts);
    let multi = |kind, level, members| multipart(&boundary, kind, level, members);

    let mut body = match (text, html) {
        (Some(text), Some(html)) => multi("alternative", 'a', vec![text, html]),
        (Some(only), None) | (None, Some(only)) => only,
        (None, None) => leaf("text/plain", ""),
    };
    if !inline.is_empty() {
        let members = std::iter::once(body).chain(inline.into_iter().map(file)).collect();
        body = multi("related", 'r', members);
    }
    if !files.is_empty() {
        let report = files.iter().find_map(|file| report_type(&file.media_type));
        let members = std::iter::once(body).chain(files.into_iter().map(file)).collect();
        body = match report {
            None => multi("mixed", 'm', members),
            Some(kind) => report_of(kind, multi("report", 'm', members)),
        };
    }
    body
}

/// Machines look for their reports under a type of its own (RFC 6522, RFC 8460 5.3).
fn report_type(media_type: &str) -> Option<&'static str> {
    matches!(media_type, "application/tlsrpt+gzip" | "application/tlsrpt+json").then_some("tlsrpt")
}

fn report_of<'a>(kind: &'static str, mut part: MimePart<'a>) -> MimePart<'a> {
    for (name, value) in &mut part.headers {
        if name == "Content-Type"
            && let HeaderType::ContentType(content_type) = value
        {
            content_type.attributes.push(("report-type".into(), kind.into()));
        }
    }
    part
}

fn leaf<'a>(media_type: &'static str, text: &'a str) -> MimePart<'a> {
    MimePart::new(media_type, BodyPart::Text(wire_lines(text)))
}

fn multipart<'a>(
    boundary: &str,
    kind: &'static str,
    level: char,
    members: Vec<MimePart<'a>>,
) -> MimePart<'a> {
    let content_type = ContentType::new(format!("multipart/{kind}"))
        .attribute("boundary", format!("{boundary}_{level}"));
    MimePart::new(content_type, BodyPart::Multipart(members))
}

/// A boundary that stands in none of the texts, whoever wrote them: a variable that
/// guessed the delivery's id must not open a part of its own. Base64 has no `=_`.
fn boundary(parts: &Parts<'_>) -> String {
    let texts =
        || [&parts.filled.text, &parts.filled.html].into_iter().filter_map(Option::as_deref);
    let plain = format!("=_{}", parts.delivery);
    if !texts().any(|text| text.contains(&plain)) {
        return plain;
    }
    // No text can hold its own hash.
    let mut hash = digest::Context::new(&digest::SHA256);
    hash.update(plain.as_bytes());
    texts().for_each(|text| hash.update(text.as_bytes()));
    format!("=_{}", URL_SAFE_NO_PAD.encode(&hash.finish().as_ref()[..18]))
}

/// An attachment's bytes are encoded already.
fn file(attachment: &Attachment) -> MimePart<'_> {
    let mut content_type = ContentType::new(attachment.media_type.as_str());
    for (name, value) in &attachment.parameters {
        content_type = content_type.attribute(name.as_str(), value.as_str());
    }
    let mut part =
        MimePart::new(content_type, BodyPart::Binary(Cow::Borrowed(&attachment.encoded)))
            .transfer_encoding("base64");
    let disposition = match &attachment.content_id {
        Some(id) => {
            part = part.cid(id.as_str());
            "inline"
        }
        None => "attachment",
    };
    part.header(
        "Content-Disposition",
        ContentType::new(disposition).attribute("filename", attachment.filename.as_str()),
    )
}

/// The text with every line ended by CRLF. Control characters other than tab have no
/// place in a mail (a NUL would end it for some readers) and become U+FFFD.
fn wire_lines(text: &str) -> Cow<'_, str> {
    let text = text.trim_end_matches(['\r', '\n']);
    let mut out = String::with_capacity(text.len() + text.len() / 32 + 2);
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|b| (b < b' ' && b != b'\t') || b == 0x7f) {
        out.push_str(&rest[..at]);
        let found = rest.as_bytes()[at];
        rest = &rest[at + 1..];
        match found {
            b'\r' => {
                rest = rest.strip_prefix('\n').unwrap_or(rest);
                out.push_str("\r\n");
            }
            b'\n' => out.push_str("\r\n"),
            _ => out.push('\u{FFFD}'),
        }
    }
    out.push_str(rest);
    out.push_str("\r\n");
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_are_made_one_kind() {
        for (given, expected) in [
            ("", "\r\n"),
            ("a", "a\r\n"),
            ("a\n", "a\r\n"),
            ("a\r\n\r\n\n", "a\r\n"),
            ("a\nb\rc\r\nd", "a\r\nb\r\nc\r\nd\r\n"),
            ("a\r\rb\n\rc", "a\r\n\r\nb\r\n\r\nc\r\n"),
            ("a\0b\u{7f}\tc\u{1b}", "a\u{FFFD}b\u{FFFD}\tc\u{FFFD}\r\n"),
            (".\r\n.", ".\r\n.\r\n"),
            ("ü\n", "ü\r\n"),
        ] {
            assert_eq!(wire_lines(given), expected, "{given:?}");
        }
    }
}
