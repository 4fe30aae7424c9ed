//! Amazon SES, API version 2: `SendEmail` with raw content (no I/O).
//!
//! SES takes the whole MIME form and writes three headers anew: Date, Message-ID and
//! Return-Path; our signature leaves the first two out (see `RouteChoice::rewritten_headers`).
//! The recipient is given beside the mail, so what To and Cc show stays as it is.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::classify::{self, Meaning, wait_asked_for};
use super::http::Answer;
use crate::domain::ids::DeliveryId;
use crate::domain::verdict::{Class, Reach};
use crate::message::letter::Letter;

/// Where mail is submitted.
pub(super) const PATH: &str = "/v2/email/outbound-emails";

/// Largest mail in bytes (quota of the API, after base64).
pub(super) const LARGEST: usize = 40_000_000;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct SendEmail<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    configuration_set_name: Option<&'a str>,
    destination: Destination<'a>,
    content: Content,
    email_tags: [Tag; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Destination<'a> {
    to_addresses: [&'a str; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Content {
    raw: Raw,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Raw {
    data: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Tag {
    name: &'static str,
    value: String,
}

/// The tag by which events speak of a delivery.
const TAG: &str = "postrider_delivery";

/// The body of a request.
pub(super) fn body(
    letter: &Letter,
    delivery: DeliveryId,
    configuration_set: Option<&str>,
) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&SendEmail {
        configuration_set_name: configuration_set,
        destination: Destination { to_addresses: [letter.recipient().as_str()] },
        content: Content { raw: Raw { data: STANDARD.encode(letter.bytes()) } },
        email_tags: [Tag { name: TAG, value: delivery.to_string() }],
    })
}

/// The id in a success.
pub(super) fn id(answer: &Answer) -> Option<String> {
    #[derive(Deserialize)]
    struct Sent {
        #[serde(rename = "MessageId")]
        id: String,
    }
    serde_json::from_slice::<Sent>(&answer.body).ok().map(|sent| sent.id)
}

/// The exception and its message as one text, and what they mean.
pub(super) fn judge(answer: &Answer, now: u64) -> (String, Meaning) {
    #[derive(Deserialize, Default)]
    struct Error {
        #[serde(rename = "__type", default)]
        kind: Option<String>,
        #[serde(alias = "Message", default)]
        message: Option<String>,
    }
    let error: Error = serde_json::from_slice(&answer.body).unwrap_or_default();
    let kind = answer.headers.get("x-amzn-errortype").and_then(|kind| kind.to_str().ok());
    let kind = kind.map(ToOwned::to_owned).or(error.kind).unwrap_or_default();
    // `TooManyRequestsException:http://…` and `namespace#TooManyRequestsException`.
    let kind = kind.split(':').next().unwrap_or_default();
    let kind = kind.rsplit('#').next().unwrap_or_default();
    let message = error.message.unwrap_or_else(|| classify::plain_text(answer));
    let meaning = meaning(kind, &message.to_ascii_lowercase())
        .unwrap_or_else(|| classify::by_status(answer.status))
        .after(wait_asked_for(answer, now));
    let said = if kind.is_empty() { message } else { format!("{kind}: {message}") };
    (said, meaning)
}

fn meaning(kind: &str, message: &str) -> Option<Meaning> {
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if says(&["daily message quota exceeded", "daily sending quota"]) {
        return Some(Meaning::QUOTA);
    }
    Some(match kind {
        "TooManyRequestsException"
        | "ThrottlingException"
        | "Throttling"
        | "LimitExceededException"
        | "RequestLimitExceeded"
        | "SlowDown" => Meaning::THROTTLED,
        "AccountSuspendedException"
        | "SendingPausedException"
        | "NotFoundException"
        | "AccessDeniedException"
        | "AccessDenied"
        | "UnrecognizedClientException"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "IncompleteSignature"
        | "IncompleteSignatureException"
        | "InvalidClientTokenId"
        | "ExpiredTokenException"
        | "ExpiredToken"
        | "MissingAuthenticationTokenException"
        | "RequestExpired"
        | "OptInRequired"
        | "NotAuthorized" => Meaning::LOGIN,
        "MailFromDomainNotVerifiedException" => Meaning::IDENTITY,
        "MessageRejected" if says(&["not verified"]) => Meaning::IDENTITY,
        "MessageRejected" if says(&["address blacklisted"]) => {
            Meaning::refused(Class::Policy, Reach::Recipient)
        }
        "MessageRejected" => Meaning::CONTENT,
        "BadRequestException" | "ValidationException" | "InvalidParameterValue" => {
            let of_address = [
                "missing final '@domain'",
                "domain contains illegal",
                "local address contains",
                "local address ends",
                "local address starts",
                "illegal address",
                "invalid domain name",
                "user name is missing",
                "domain starts with dot",
                "domain ends with dot",
            ];
            if says(&of_address) {
                Meaning::ADDRESS
            } else if says(&["message length", "message size", "too long", "too large"]) {
                Meaning::SIZE
            } else {
                Meaning::CONTENT
            }
        }
        "RequestEntityTooLargeException" => Meaning::SIZE,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::classify::tests::answer;
    use super::*;

    #[test]
    fn each_error_means_what_the_guide_says() {
        let route = Reach::Route;
        for (status, kind, message, class, reach) in [
            (
                429,
                "TooManyRequestsException",
                "Maximum sending rate exceeded.",
                Class::Throttled,
                route,
            ),
            (400, "ThrottlingException", "Rate exceeded", Class::Throttled, route),
            (400, "LimitExceededException", "", Class::Throttled, route),
            (429, "TooManyRequestsException", "Daily message quota exceeded.", Class::Quota, route),
            (400, "SendingPausedException", "Sending paused", Class::Configuration, route),
            (400, "AccountSuspendedException", "", Class::Configuration, route),
            (
                403,
                "InvalidSignatureException",
                "The request signature we calculated does not match",
                Class::Configuration,
                route,
            ),
            (
                403,
                "UnrecognizedClientException",
                "The security token included in the request is invalid.",
                Class::Configuration,
                route,
            ),
            (403, "ExpiredTokenException", "expired", Class::Configuration, route),
            (
                404,
                "NotFoundException",
                "Configuration set <x> does not exist.",
                Class::Configuration,
                route,
            ),
            (400, "MailFromDomainNotVerifiedException", "", Class::Configuration, Reach::Source),
            (
                400,
                "MessageRejected",
                "Email address is not verified. The following identities failed the check",
                Class::Configuration,
                Reach::Source,
            ),
            (400, "MessageRejected", "Message contains a virus", Class::Content, Reach::Message),
            (
                400,
                "BadRequestException",
                "Local address contains control or whitespace",
                Class::AddressBad,
                Reach::Recipient,
            ),
            (
                400,
                "BadRequestException",
                "Missing final '@domain'",
                Class::AddressBad,
                Reach::Recipient,
            ),
            (
                400,
                "BadRequestException",
                "Message length is more than 41943040 bytes long: 50000000",
                Class::Size,
                Reach::Message,
            ),
            (
                400,
                "BadRequestException",
                "Duplicate header 'From'.",
                Class::Content,
                Reach::Message,
            ),
            (400, "", "{}", Class::Unknown, Reach::Message),
            (503, "ServiceUnavailable", "", Class::Transient, route),
        ] {
            let kind_header = [("x-amzn-errortype", kind)];
            let body = format!(r#"{{"message":"{message}"}}"#);
            for answer in [
                answer(status, &kind_header, &body),
                answer(
                    status,
                    &[],
                    &format!(r#"{{"__type":"com.amazon#{kind}","Message":"{message}"}}"#),
                ),
            ] {
                let (said, meaning) = judge(&answer, 0);
                assert_eq!((meaning.class, meaning.reach), (class, reach), "{said}");
            }
        }
    }

    #[test]
    fn a_success_has_an_id() {
        assert_eq!(id(&answer(200, &[], r#"{"MessageId":"0100-x"}"#)).as_deref(), Some("0100-x"));
        assert_eq!(id(&answer(200, &[], "{")), None);
    }
}
