//! A letter taken apart into the fields that SendGrid takes (no I/O).
//!
//! What would be lost on the way is not sent: [`Unfit`] says what. Some of a letter is the
//! service's own matter and is left to it: it signs with the domain's key there, dates the
//! mail, and writes the MIME form anew. Everything else arrives as it was written.

use std::fmt;

use mail_parser::{
    Address, HeaderName, Message, MessageParser, MessagePart, MimeHeaders, PartType,
};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::domain::ids::DeliveryId;
use crate::message::letter::Letter;

/// The body of `mail/send`.
#[derive(Debug, Serialize)]
pub(super) struct Mail<'a> {
    personalizations: [Personalization<'a>; 1],
    from: Mailbox<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_to: Option<Mailbox<'a>>,
    subject: &'a str,
    content: Vec<Content<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attachments: Vec<Attachment<'a>>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    headers: Map<String, Value>,
    custom_args: CustomArgs,
    tracking_settings: Tracking,
}

#[derive(Debug, Serialize)]
struct Personalization<'a> {
    to: [Mailbox<'a>; 1],
}

#[derive(Debug, Serialize)]
struct Mailbox<'a> {
    email: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct Content<'a> {
    #[serde(rename = "type")]
    media_type: &'static str,
    value: &'a str,
}

#[derive(Debug, Serialize)]
struct Attachment<'a> {
    content: String,
    #[serde(rename = "type")]
    media_type: String,
    filename: &'a str,
    disposition: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_id: Option<&'a str>,
}

/// By which events speak of a delivery.
#[derive(Debug, Serialize)]
struct CustomArgs {
    postrider_delivery: String,
}

/// No links are rewritten and nothing is added: what was written is what is read.
#[derive(Debug, Serialize)]
#[allow(clippy::struct_field_names, reason = "the service calls them so")]
struct Tracking {
    click_tracking: Off,
    open_tracking: Off,
    subscription_tracking: Off,
}

#[derive(Debug, Serialize)]
struct Off {
    enable: bool,
}

/// Why a letter cannot be carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unfit {
    /// To shows another address than the one it is for; the service knows only one.
    OtherTo,
    /// Each address in Cc would get a mail of its own.
    Cc,
    /// There is no text.
    Empty,
    /// A part's type has a parameter that is not taken over.
    Parameter(String),
    /// It is not as we write letters.
    Shape(&'static str),
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherTo => f.write_str(
                "SendGrid sends to the address in To, and this letter's is not its recipient's",
            ),
            Self::Cc => f.write_str("SendGrid would send a mail to each address in Cc"),
            Self::Empty => f.write_str("SendGrid takes no mail without a text"),
            Self::Parameter(name) => {
                write!(f, "SendGrid takes no parameter of an attachment's type, found {name:?}")
            }
            Self::Shape(what) => write!(f, "SendGrid takes no {what}"),
        }
    }
}

/// Headers that are written by the service, or have a field of their own.
fn is_taken_over(name: &HeaderName<'_>) -> bool {
    match name {
        HeaderName::From
        | HeaderName::To
        | HeaderName::ReplyTo
        | HeaderName::Subject
        | HeaderName::Date
        | HeaderName::MimeVersion
        | HeaderName::ContentType
        | HeaderName::ContentTransferEncoding
        | HeaderName::DkimSignature => true,
        other => other.as_str().eq_ignore_ascii_case("dkim-signature"),
    }
}

/// The request's body as JSON.
pub(super) fn json(letter: &Letter, delivery: DeliveryId) -> Result<Vec<u8>, Unfit> {
    let message = MessageParser::default()
        .parse(letter.bytes())
        .ok_or(Unfit::Shape("letter of this form"))?;
    let mail = mail(&message, letter, delivery)?;
    serde_json::to_vec(&mail).map_err(|_| Unfit::Shape("letter of this form"))
}

fn mail<'a>(
    message: &'a Message<'a>,
    letter: &'a Letter,
    delivery: DeliveryId,
) -> Result<Mail<'a>, Unfit> {
    let to = single(message.to()).ok_or(Unfit::OtherTo)?;
    if !to.email.eq_ignore_ascii_case(letter.recipient().as_str()) {
        return Err(Unfit::OtherTo);
    }
    if message.cc().is_some() {
        return Err(Unfit::Cc);
    }
    let reply_to = match message.reply_to() {
        Some(given) => {
            Some(single(Some(given)).ok_or(Unfit::Shape("several addresses in Reply-To"))?)
        }
        None => None,
    };
    let raw = letter.bytes();
    let (mut content, mut attachments) = (Vec::new(), Vec::new());
    for part in &message.parts {
        let is_file = part.content_disposition().is_some();
        match &part.body {
            PartType::Multipart(_) => {}
            _ if is_file => attachments.push(attachment(part, raw)?),
            PartType::Text(text) => content.push(Content { media_type: "text/plain", value: text }),
            PartType::Html(text) => content.push(Content { media_type: "text/html", value: text }),
            _ => return Err(Unfit::Shape("part without a file name")),
        }
    }
    // The service refuses empty texts, and wants the plain one first.
    content.retain(|text| !text.value.trim().is_empty());
    content.sort_by_key(|text| text.media_type == "text/html");
    if content.is_empty() {
        return Err(Unfit::Empty);
    }
    Ok(Mail {
        personalizations: [Personalization { to: [to] }],
        from: single(message.from()).ok_or(Unfit::Shape("several addresses in From"))?,
        reply_to,
        subject: message.subject().unwrap_or_default(),
        content,
        attachments,
        headers: headers(message),
        custom_args: CustomArgs { postrider_delivery: delivery.to_string() },
        tracking_settings: Tracking {
            click_tracking: Off { enable: false },
            open_tracking: Off { enable: false },
            subscription_tracking: Off { enable: false },
        },
    })
}

/// The one mailbox of a header.
fn single<'a>(address: Option<&'a Address<'a>>) -> Option<Mailbox<'a>> {
    let mut all = address?.iter();
    let one = all.next()?;
    if all.next().is_some() {
        return None;
    }
    let name = one.name.as_deref().filter(|name| !name.is_empty());
    Some(Mailbox { email: one.address.as_deref()?, name })
}

/// The letter's other headers on one line each, as they were written.
fn headers(message: &Message<'_>) -> Map<String, Value> {
    let mut headers = Map::new();
    let root = message.parts.first();
    for header in root.into_iter().flat_map(|part| &part.headers) {
        if is_taken_over(&header.name) {
            continue;
        }
        let raw = message
            .raw_message
            .get(header.offset_start as usize..header.offset_end as usize)
            .unwrap_or_default();
        let value = String::from_utf8_lossy(raw);
        let value: Vec<&str> = value.split_whitespace().collect();
        headers.insert(header.name.as_str().to_owned(), value.join(" ").into());
    }
    headers
}

/// A file; its bytes stand in the letter in base64 already.
fn attachment<'a>(part: &'a MessagePart<'a>, raw: &[u8]) -> Result<Attachment<'a>, Unfit> {
    let body = raw.get(part.offset_body as usize..part.offset_end as usize).unwrap_or_default();
    let encoding = part.content_transfer_encoding().unwrap_or_default();
    if !encoding.eq_ignore_ascii_case("base64") {
        return Err(Unfit::Shape("attachment that is not in base64"));
    }
    let content: String =
        body.iter().filter(|b| !b.is_ascii_whitespace()).map(|b| char::from(*b)).collect();
    let kind = part.content_type().ok_or(Unfit::Shape("attachment without a type"))?;
    for attribute in kind.attributes.iter().flatten() {
        let (name, value) =
            (attribute.name.to_ascii_lowercase(), attribute.value.to_ascii_lowercase());
        let implied = name == "charset" && matches!(&*value, "utf-8" | "us-ascii");
        if name != "name" && !implied {
            return Err(Unfit::Parameter(name));
        }
    }
    let subtype = kind.c_subtype.as_deref().unwrap_or("octet-stream");
    let inline = part.content_disposition().is_some_and(|how| how.c_type == "inline");
    Ok(Attachment {
        content,
        media_type: format!("{}/{subtype}", kind.c_type),
        filename: part.attachment_name().ok_or(Unfit::Shape("attachment without a name"))?,
        disposition: if inline { "inline" } else { "attachment" },
        content_id: part.content_id(),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::message::address::Address as Recipient;

    fn letter(headers: &str, body: &str) -> Letter {
        let text = format!("{headers}\r\n{body}").replace("\r\n", "\n").replace('\n', "\r\n");
        let to = Recipient::try_new("ann@example.org").unwrap();
        Letter::seal(None, to, text.into_bytes(), false)
    }

    const HEAD: &str = "From: Shop <me@shop.example>\nTo: =?utf-8?B?w4RubmU=?= <ann@example.org>\n\
        Subject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?=\nDate: Mon, 2 Nov 2026 10:00:00 +0000\n\
        Message-ID: <dlv_1@shop.example>\nDKIM-Signature: v=1; b=x\nMIME-Version: 1.0\n\
        List-Unsubscribe: <https://shop.example/u/\n 1>\nReply-To: help@shop.example\n";

    fn read(letter: &Letter) -> Result<Value, Unfit> {
        json(letter, DeliveryId::new(1)).map(|json| serde_json::from_slice(&json).unwrap())
    }

    #[test]
    fn a_letter_is_taken_apart_and_nothing_is_lost() {
        let body = "--m\nContent-Type: multipart/related; boundary=r\n\n\
            --r\nContent-Type: multipart/alternative; boundary=a\n\n\
            --a\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64\n\nSGFsbG8gw4RubmU=\n\
            --a\nContent-Type: text/html; charset=utf-8\n\n<p>Hallo</p>\n--a--\n\
            --r\nContent-Type: image/png\nContent-ID: <logo>\nContent-Transfer-Encoding: base64\n\
            Content-Disposition: inline; filename=logo.png\n\niVBO\n Rw==\n--r--\n\
            --m\nContent-Type: text/csv; charset=utf-8; name=a.csv\nContent-Transfer-Encoding: base64\n\
            Content-Disposition: attachment; filename=\"a b.csv\"\n\nYSxi\n--m--\n";
        let head = format!("{HEAD}Content-Type: multipart/mixed; boundary=m\n");
        let mail = read(&letter(&head, body)).unwrap();
        let to = &mail["personalizations"][0]["to"];
        assert_eq!(*to, serde_json::json!([{"email": "ann@example.org", "name": "Änne"}]));
        assert_eq!(mail["from"], serde_json::json!({"email": "me@shop.example", "name": "Shop"}));
        assert_eq!(mail["reply_to"]["email"], "help@shop.example");
        assert_eq!(mail["subject"], "Grüße");
        assert_eq!(mail["content"][0]["type"], "text/plain");
        assert_eq!(mail["content"][0]["value"], "Hallo Änne");
        assert!(mail["content"][1]["value"].as_str().unwrap().starts_with("<p>Hallo</p>"));
        assert_eq!(
            mail["attachments"],
            serde_json::json!([
                {"content": "iVBORw==", "type": "image/png", "filename": "logo.png",
                 "disposition": "inline", "content_id": "logo"},
                {"content": "YSxi", "type": "text/csv", "filename": "a b.csv",
                 "disposition": "attachment"},
            ])
        );
        assert_eq!(
            mail["headers"],
            serde_json::json!({
                "Message-ID": "<dlv_1@shop.example>",
                "List-Unsubscribe": "<https://shop.example/u/ 1>",
            })
        );
        assert_eq!(mail["custom_args"]["postrider_delivery"], DeliveryId::new(1).to_string());
    }

    #[test]
    fn what_cannot_be_carried_is_told() {
        let plain = "Content-Type: text/plain\n";
        let with = |head: String, body| read(&letter(&head, body)).unwrap_err();
        let other = HEAD.replace("<ann@example.org>", "<list@example.org>");
        assert_eq!(with(format!("{other}{plain}"), "x"), Unfit::OtherTo);
        assert_eq!(with(format!("{HEAD}Cc: bob@example.org\n{plain}"), "x"), Unfit::Cc);
        assert_eq!(with(format!("{HEAD}{plain}"), "\n"), Unfit::Empty);
        let invite = "--m\nContent-Type: text/plain\n\nx\n--m\nContent-Type: text/calendar; method=REQUEST\n\
            Content-Transfer-Encoding: base64\nContent-Disposition: attachment; filename=i.ics\n\nQQ==\n--m--\n";
        let head = format!("{HEAD}Content-Type: multipart/mixed; boundary=m\n");
        assert_eq!(with(head, invite), Unfit::Parameter("method".into()));
    }
}
