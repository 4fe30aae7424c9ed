//! Sinch Mailgun's webhooks: one event each, with a timestamp and a token that are signed (HMAC
//! with SHA-256). The event itself is not; so a token is taken once, by whichever replica.

use aws_lc_rs::hmac;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::fields::{address, text, word};
use super::said::{self, NAME, News, Said, View};
use super::{Event, Opened, Origin, Refusal, Token};
use crate::config::MailgunCallbacks;
use crate::domain::bounce_class::Class;
use crate::feedback::report::{Action, Finding};

/// What is of concern.
const KINDS: [&str; 6] =
    ["accepted", "delivered", "failed", "rejected", "complained", "unsubscribed"];

/// Longest token; theirs have 50 characters.
const LONGEST_TOKEN: usize = 100;

#[derive(Deserialize)]
pub(super) struct Body<'a> {
    #[serde(default)]
    signature: Option<Signed>,
    #[serde(rename = "event-data", borrow)]
    event: &'a RawValue,
}

#[derive(Deserialize)]
struct Signed {
    timestamp: String,
    token: String,
    signature: String,
}

impl<'a> Body<'a> {
    pub(super) fn read(body: &'a [u8]) -> Result<Self, Refusal> {
        serde_json::from_slice(body).map_err(|_| Refusal::Malformed)
    }

    /// When it was signed, in seconds since 1970, if the account signed it.
    pub(super) fn verify(&self, settings: &MailgunCallbacks) -> Result<i64, Refusal> {
        let Signed { timestamp, token, signature } =
            self.signature.as_ref().ok_or(Refusal::Unsigned)?;
        if token.is_empty() || token.len() > LONGEST_TOKEN {
            return Err(Refusal::Forged);
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, settings.key.expose().as_bytes());
        let signed = [timestamp.as_bytes(), token.as_bytes()].concat();
        let tag = from_hex(signature).ok_or(Refusal::Forged)?;
        hmac::verify(&key, &signed, &tag).map_err(|_| Refusal::Forged)?;
        timestamp.parse().map_err(|_| Refusal::Forged)
    }

    /// Its event. The token is used up by storing it, until `expires_at`.
    pub(super) fn open(&self, expires_at: u64) -> Result<Opened, Refusal> {
        let event: Value =
            serde_json::from_str(self.event.get()).map_err(|_| Refusal::Malformed)?;
        let token =
            self.signature.as_ref().map(|one| Token { text: one.token.clone(), expires_at });
        if !KINDS.contains(&&*word(&event, "/event")) {
            return Ok(Opened { idle: 1, token, ..Opened::default() });
        }
        // The id is unique within a day.
        let of = |path: &str| text(&event, path).unwrap_or_default();
        let parts = ["/id", "/timestamp", "/event", "/recipient"].map(of);
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let event = Event::new(Origin::Mailgun, &parts, self.event.get().as_bytes());
        Ok(Opened { events: vec![event], idle: 0, token })
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |b: &u8| char::from(*b).to_digit(16).map(|digit| digit as u8);
    let digits: Option<Vec<u8>> = text.as_bytes().iter().take(129).map(digit).collect();
    let digits = digits.filter(|digits| digits.len() == 64)?;
    Some(digits.as_chunks::<2>().0.iter().map(|[high, low]| high << 4 | low).collect())
}

/// What it says.
pub(super) fn said(event: &Value) -> Said {
    let to = address(event, "/recipient");
    let news = match &*word(event, "/event") {
        "unsubscribed" => Some(News::Unsubscribed { recipient: to }),
        kind => finding(kind, event, to).map(News::Finding),
    };
    let id = text(event, "/message/headers/message-id");
    Said {
        origin: Origin::Mailgun,
        delivery: text(event, &format!("/user-variables/{NAME}")).and_then(|id| id.parse().ok()),
        provider_ids: id.map(|id| id.trim_matches(['<', '>']).to_owned()).into_iter().collect(),
        news: news.into_iter().collect(),
    }
}

fn finding(kind: &str, event: &Value, to: Option<String>) -> Option<Finding> {
    let of = |path: &str| text(event, path).unwrap_or_default();
    Some(match kind {
        "accepted" => said::progress(Action::Relayed, to, "", "mailgun-accepted"),
        "delivered" => {
            let words = of("/delivery-status/message");
            said::progress(Action::Delivered, to, &words, "mailgun-delivered")
        }
        "failed" => failed(event, to),
        "rejected" => {
            let view = Some(View::own(Class::Content, "mailgun-rejected"));
            said::refusal(Action::Failed, to, &of("/reject/reason"), None, view, false)
        }
        "complained" => said::complaint(to, "", "mailgun-complained"),
        _ => return None,
    })
}

fn failed(event: &Value, to: Option<String>) -> Finding {
    let permanent = word(event, "/severity") == "permanent";
    let status = |name: &str| text(event, &format!("/delivery-status/{name}"));
    let code = status("code").unwrap_or_default();
    let said_by_receiver = status("message").or_else(|| status("description")).unwrap_or_default();
    let view = match (&*word(event, "/reason"), code.as_str()) {
        // What Mailgun keeps is what other mail met: nobody asked the receiver this time.
        (reason, _) if reason.starts_with("suppress-") => {
            Some(View::own(Class::Policy, "mailgun-suppression-list"))
        }
        (_, "605" | "606" | "607") => Some(View::own(Class::Policy, "mailgun-suppression-list")),
        ("espblock", _) => Some(View::own(Class::Policy, "mailgun-esp-block")),
        ("old", _) => Some(View::new(Class::Transient, "mailgun-too-old")),
        ("greylisted", _) => Some(View::new(Class::Transient, "mailgun-greylisted")),
        _ if !permanent => Some(View::new(Class::Transient, "mailgun-temporary")),
        _ => None,
    };
    // The code stands before the words only where it is one of SMTP.
    let smtp = code.len() == 3 && code.starts_with(['4', '5']);
    let words = if smtp && !said_by_receiver.starts_with(&code) {
        format!("{code} {said_by_receiver}")
    } else {
        said_by_receiver
    };
    let action = if permanent { Action::Failed } else { Action::Delayed };
    let lasting = permanent && word(event, "/delivery-status/bounce-type") != "soft";
    said::refusal(action, to, &words, status("enhanced-code").as_deref(), view, lasting)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_failure_has_its_class() {
        for (severity, reason, status, class, condemned, action) in [
            (
                "permanent",
                "bounce",
                json!({"code": 550, "message": "5.1.1 user unknown"}),
                Class::AddressBad,
                true,
                Action::Failed,
            ),
            (
                "permanent",
                "bounce",
                json!({"code": 550, "message": "5.1.1 user unknown", "bounce-type": "soft"}),
                Class::AddressBad,
                false,
                Action::Failed,
            ),
            (
                "permanent",
                "suppress-bounce",
                json!({"code": 605, "message": "", "description": "Not delivering to previously bounced address"}),
                Class::Policy,
                false,
                Action::Failed,
            ),
            (
                "permanent",
                "generic",
                json!({"code": 550, "message": "5.7.1 blocked using zen.spamhaus.org"}),
                Class::Policy,
                false,
                Action::Failed,
            ),
            (
                "permanent",
                "old",
                json!({"code": 602, "message": "Too old"}),
                Class::Transient,
                false,
                Action::Failed,
            ),
            (
                "temporary",
                "generic",
                json!({"code": 452, "message": "4.2.2 mailbox full"}),
                Class::MailboxFull,
                false,
                Action::Delayed,
            ),
            (
                "temporary",
                "generic",
                json!({"code": 550, "message": "5.1.1 user unknown"}),
                Class::AddressBad,
                false,
                Action::Delayed,
            ),
        ] {
            let event = json!({"event": "failed", "severity": severity, "reason": reason,
                "delivery-status": status, "recipient": "ann@b.example"});
            let found = finding("failed", &event, None).expect("a finding");
            assert_eq!(
                (found.class, found.condemns_address(), found.action),
                (class, condemned, action),
                "{event}"
            );
        }
    }

    #[test]
    fn a_signature_is_64_hexadecimal_digits() {
        assert_eq!(from_hex(&"0f".repeat(32)), Some(vec![15; 32]));
        for bad in ["", "0", &"0g".repeat(32), &"00".repeat(33), &"ä".repeat(32)] {
            assert_eq!(from_hex(bad), None, "{bad}");
        }
    }
}
