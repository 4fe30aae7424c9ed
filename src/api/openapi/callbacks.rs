//! The operations and shapes of providers' callbacks.

use serde_json::{Value, json};

use super::{Back, Operation, Sent, of_anybody};

const fn callback(
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    schema: &'static str,
) -> Operation {
    Operation {
        sent: Sent::Json(schema),
        problems: &["400", "403", "404", "406", "413", "503"],
        ..of_anybody("post", path, id, summary, Back::Text)
    }
}

/// Every operation, in the order of docs/api.md.
pub(super) const OPERATIONS: &[Operation] = &[
    callback("/v1/callbacks/ses", "callbackSes", "A message of SNS, signed", "SnsMessage"),
    callback(
        "/v1/callbacks/sendgrid",
        "callbackSendGrid",
        "Events of SendGrid, signed in headers",
        "SendGridEvents",
    ),
    callback(
        "/v1/callbacks/mailgun",
        "callbackMailgun",
        "An event of Mailgun with its signature",
        "MailgunEvent",
    ),
];

/// Their bodies, by name: what providers write is theirs, and may grow.
pub(super) fn schemas() -> Value {
    json!({
        "SnsMessage": {"type": "object", "required": ["Type", "MessageId", "TopicArn", "Message", "Timestamp"]},
        "SendGridEvents": {"type": "array", "items": {"type": "object"}},
        "MailgunEvent": {"type": "object", "required": ["signature", "event-data"]},
    })
}
