//! Sinch Mailgun, API version 3: `messages.mime`, which takes the whole MIME form (no I/O).
//!
//! Mailgun would rewrite links and add a picture for its tracking, which our signature does not
//! survive; so tracking is switched off for every mail. The recipient is given beside the mail.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mail_parser::MessageParser;
use serde::Deserialize;

use super::classify::{self, Meaning, wait_asked_for};
use super::http::Answer;
use crate::domain::ids::DeliveryId;
use crate::message::letter::Letter;

/// Largest mail in bytes (the service's limit is 25 MB).
pub(super) const LARGEST: usize = 25_000_000;

/// The variable by which events speak of a delivery.
const VARIABLE: &str = "v:postrider_delivery";

/// A body as `multipart/form-data`, and its boundary.
pub(super) struct Form {
    pub(super) body: Vec<u8>,
    pub(super) boundary: String,
}

/// Where mail of a domain is submitted.
pub(super) fn path(domain: &str) -> String {
    format!("/v3/{domain}/messages.mime")
}

/// The domain in the mail's From: that of its tenant, whatever the envelope's sender is.
pub(super) fn domain_of(letter: &Letter) -> Option<String> {
    let message = MessageParser::default().parse_headers(letter.bytes())?;
    let from = message.from()?.first()?.address.as_deref()?;
    let (_, domain) = from.rsplit_once('@')?;
    Some(domain.to_ascii_lowercase())
}

/// The form of a request. `salt` is random: no letter can hold a boundary that it did not know.
pub(super) fn form(letter: &Letter, delivery: DeliveryId, salt: [u8; 18]) -> Form {
    let boundary = format!("postrider-{}", URL_SAFE_NO_PAD.encode(salt));
    let mut body = Vec::with_capacity(letter.bytes().len() + 1_024);
    let mut part = |name: &str, more: &str, value: &[u8]| {
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"{more}\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(value);
        body.extend_from_slice(b"\r\n");
    };
    part("to", "", letter.recipient().as_str().as_bytes());
    part("o:tracking", "", b"no");
    part(VARIABLE, "", delivery.to_string().as_bytes());
    let file = "; filename=\"message.mime\"\r\nContent-Type: message/rfc822";
    part("message", file, letter.bytes());
    body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    Form { body, boundary }
}

/// The id in a success, as it stands in the mail's Message-ID but without angle brackets: so
/// do events write it.
pub(super) fn id(answer: &Answer) -> Option<String> {
    #[derive(Deserialize)]
    struct Queued {
        id: String,
    }
    let queued: Queued = serde_json::from_slice(&answer.body).ok()?;
    Some(queued.id.trim_matches(['<', '>']).to_owned())
}

/// The message, and what it means.
pub(super) fn judge(answer: &Answer, now: u64) -> (String, Meaning) {
    #[derive(Deserialize)]
    struct Error {
        message: String,
    }
    let said = serde_json::from_slice::<Error>(&answer.body)
        .map_or_else(|_| classify::plain_text(answer), |error| error.message);
    let meaning = meaning(answer.status, &said.to_ascii_lowercase())
        .unwrap_or_else(|| classify::by_status(answer.status))
        .after(wait_asked_for(answer, now));
    (said, meaning)
}

fn meaning(status: u16, text: &str) -> Option<Meaning> {
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if status >= 500 {
        return None;
    }
    // "Domain x is not allowed to send: recipient limit exceeded, retry after …"
    if says(&["limit exceeded", "exceeded your", "sending limit", "message limit"]) {
        return Some(if status == 429 { Meaning::THROTTLED } else { Meaning::QUOTA });
    }
    match status {
        400 | 403 | 404 if says(&["not allowed to send", "domain not found", "sandbox"]) => {
            Some(Meaning::IDENTITY)
        }
        400 if says(&[
            "'to' parameter is not",
            "to parameter is not a valid",
            "recipient is not valid",
        ]) =>
        {
            Some(Meaning::ADDRESS)
        }
        400 if says(&["too large", "size limit", "larger than"]) => Some(Meaning::SIZE),
        400 => Some(Meaning::CONTENT),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::classify::tests::answer;
    use super::*;
    use crate::domain::verdict::{Class, Reach};

    #[test]
    fn each_error_means_what_it_says() {
        let route = Reach::Route;
        for (status, text, class, reach) in [
            (401, "Forbidden", Class::Configuration, route),
            (403, "Forbidden", Class::Configuration, route),
            (402, "Payment required", Class::Quota, route),
            (404, "Domain not found: mg.shop.example", Class::Configuration, Reach::Source),
            (
                403,
                "Domain mg.shop.example is not allowed to send: The domain is unverified and requires DNS configuration. Log in to your control panel to view required DNS records.",
                Class::Configuration,
                Reach::Source,
            ),
            (
                403,
                "Domain mg.shop.example is not allowed to send: recipient limit exceeded, retry after 59 minutes",
                Class::Quota,
                route,
            ),
            (
                400,
                "'to' parameter is not a valid address. please check documentation",
                Class::AddressBad,
                Reach::Recipient,
            ),
            (
                400,
                "to parameter is not a valid address. please check documentation",
                Class::AddressBad,
                Reach::Recipient,
            ),
            (400, "'message' parameter is missing", Class::Content, Reach::Message),
            (413, "Request Entity Too Large", Class::Size, Reach::Message),
            (429, "Too Many Requests", Class::Throttled, route),
            (500, "Internal Server Error", Class::Transient, route),
        ] {
            let (said, meaning) =
                judge(&answer(status, &[], &format!(r#"{{"message":"{text}"}}"#)), 0);
            assert_eq!((meaning.class, meaning.reach), (class, reach), "{status} {said}");
            let (said, _) = judge(&answer(status, &[], text), 0);
            assert_eq!(said, text, "a text that is no JSON");
        }
    }

    #[test]
    fn an_id_has_no_brackets() {
        let body = r#"{"id":"<2011.1@mg.shop.example>","message":"Queued. Thank you."}"#;
        assert_eq!(id(&answer(200, &[], body)).as_deref(), Some("2011.1@mg.shop.example"));
    }
}
