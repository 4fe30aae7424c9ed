//! Twilio SendGrid, API version 3: `mail/send` (no I/O).
//!
//! It takes no MIME form; `parts.rs` takes the letter apart again. It answers 202 without a body,
//! and the id in a header.

use serde::Deserialize;

use super::classify::{self, Meaning, wait_asked_for};
use super::http::Answer;
use crate::domain::verdict::{Class, Reach};

/// Where mail is submitted.
pub(super) const PATH: &str = "/v3/mail/send";

/// Largest mail in bytes, attachments and all (the service's limit is 30 MB).
pub(super) const LARGEST: usize = 30_000_000;

/// The id in a success.
pub(super) fn id(answer: &Answer) -> Option<String> {
    answer.headers.get("x-message-id")?.to_str().ok().map(ToOwned::to_owned)
}

#[derive(Deserialize, Default)]
struct Errors {
    #[serde(default)]
    errors: Vec<Error>,
}

#[derive(Deserialize)]
struct Error {
    #[serde(default)]
    message: String,
    #[serde(default)]
    field: Option<String>,
}

/// The messages, each with its field, and what the first of them means.
pub(super) fn judge(answer: &Answer, now: u64) -> (String, Meaning) {
    let errors: Errors = serde_json::from_slice(&answer.body).unwrap_or_default();
    let said = if errors.errors.is_empty() {
        classify::plain_text(answer)
    } else {
        let one = |error: &Error| match &error.field {
            Some(field) => format!("{field}: {}", error.message),
            None => error.message.clone(),
        };
        errors.errors.iter().map(one).collect::<Vec<_>>().join("; ")
    };
    let first = errors.errors.first();
    let field = first.and_then(|error| error.field.as_deref()).unwrap_or_default();
    let meaning = meaning(answer.status, field, &said.to_ascii_lowercase())
        .unwrap_or_else(|| classify::by_status(answer.status))
        .after(wait_asked_for(answer, now));
    (said, meaning)
}

fn meaning(status: u16, field: &str, text: &str) -> Option<Meaning> {
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let of_recipient = field.starts_with("personalizations") && field.contains(".to");
    match status {
        // An account without credits is told so under 401.
        401 | 403 if says(&["maximum credits exceeded", "credits exceeded"]) => {
            Some(Meaning::QUOTA)
        }
        400 | 403 if says(&["verified sender identity"]) => Some(Meaning::IDENTITY),
        400 if of_recipient && says(&["valid address", "invalid", "not a valid"]) => {
            Some(Meaning::ADDRESS)
        }
        400 if field.starts_with("from") => Some(Meaning::refused(Class::Content, Reach::Message)),
        400 => Some(Meaning::CONTENT),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::classify::tests::answer;
    use super::*;
    use std::time::Duration;

    #[test]
    fn each_error_means_what_it_says() {
        let (route, message) = (Reach::Route, Reach::Message);
        for (status, field, text, class, reach) in [
            (
                401,
                "null",
                "The provided authorization grant is invalid, expired, or revoked",
                Class::Configuration,
                route,
            ),
            (401, "null", "Maximum credits exceeded", Class::Quota, route),
            (403, "null", "access forbidden", Class::Configuration, route),
            (
                403,
                "\"from\"",
                "The from address does not match a verified Sender Identity. Mail cannot be sent until this error is resolved.",
                Class::Configuration,
                Reach::Source,
            ),
            (
                400,
                "\"personalizations.0.to.0.email\"",
                "Does not contain a valid address.",
                Class::AddressBad,
                Reach::Recipient,
            ),
            (
                400,
                "\"from.email\"",
                "The from email does not contain a valid address.",
                Class::Content,
                message,
            ),
            (
                400,
                "\"content\"",
                "The content value must be a string at least one character in length.",
                Class::Content,
                message,
            ),
            (413, "null", "payload too large", Class::Size, message),
            (429, "null", "too many requests", Class::Throttled, route),
            (500, "null", "", Class::Transient, route),
        ] {
            let body =
                format!(r#"{{"errors":[{{"message":"{text}","field":{field},"help":null}}]}}"#);
            let (said, meaning) = judge(&answer(status, &[], &body), 0);
            assert_eq!((meaning.class, meaning.reach), (class, reach), "{said}");
            assert!(said.contains(text));
        }
    }

    #[test]
    fn a_limit_says_when_it_is_renewed() {
        let headers = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1030")];
        let (_, meaning) = judge(&answer(429, &headers, "{}"), 1_000);
        assert_eq!(meaning.retry_after, Some(Duration::from_secs(30)));
        assert_eq!(id(&answer(202, &[("x-message-id", "abc")], "")).as_deref(), Some("abc"));
    }
}
