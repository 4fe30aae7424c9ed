//! The shapes of bodies and answers.

use serde_json::{Value, json};

use crate::queue::lookup::DeliveryState;

/// A reference to one of [`schemas`].
pub(super) fn named(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// All of them.
pub(super) fn schemas() -> Value {
    let text = || json!({"type": "string"});
    let count = || json!({"type": "integer", "minimum": 0});
    let time = || json!({"type": "string", "format": "date-time"});
    let perhaps = |mut schema: Value| {
        let kind = schema["type"].take();
        schema["type"] = json!([kind, "null"]);
        schema
    };
    let object = || json!({"type": "object"});
    let list = |items: Value| json!({"type": "array", "items": items});
    let states: Vec<&str> = DeliveryState::ALL.into_iter().map(DeliveryState::as_str).collect();
    let refused = closed(
        json!({"index": count(), "to": text(), "reason": text()}),
        &["index", "to", "reason"],
    );
    let by_state: serde_json::Map<String, Value> =
        states.iter().map(|state| ((*state).to_owned(), count())).collect();
    json!({
        "Message": closed(json!({
            "from": {"type": "string", "description": "Name <address> or an address of one of the tenant's domains"},
            "subject": {"type": "string", "description": "A template"},
            "html": {"type": "string", "description": "A template; html, text or both"},
            "text": {"type": "string", "description": "A template; without it made from html"},
            "reply_to": text(),
            "headers": {"type": "object", "additionalProperties": {"type": "string"}},
            "vars": object(),
            "stream": {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]{0,62}$", "default": "transactional"},
            "recipients": {"type": "array", "maxItems": 10_000, "items": named("Recipient")},
            "send_at": time(),
            "expires_at": time(),
            "attachments": list(closed(json!({
                "filename": text(), "content_type": text(),
                "content": {"type": "string", "contentEncoding": "base64"}, "content_id": text(),
            }), &["filename", "content_type", "content"])),
            "metadata": object(),
        }), &["from", "subject", "recipients"]),
        "Recipient": closed(json!({
            "to": {"type": "string", "description": "Ann <ann@example.org>"},
            "vars": object(),
            "cc": list(text()),
            "time_zone": {"type": "string", "description": "America/New_York"},
        }), &["to"]),
        "Accepted": closed(json!({
            "id": text(),
            "accepted": count(),
            "suppressed": list(closed(json!({"index": count(), "to": text()}), &["index", "to"])),
            "refused": list(refused),
        }), &["id", "accepted", "suppressed", "refused"]),
        "Appended": closed(json!({
            "id": text(), "lines": count(), "accepted": count(), "suppressed": count(), "refused": count(),
            "refusals": list(closed(json!({"line": count(), "to": text(), "reason": text()}), &["line", "reason"])),
        }), &["id", "lines", "accepted", "suppressed", "refused", "refusals"]),
        "MessageStatus": closed(json!({
            "id": text(), "stream": text(), "from": perhaps(text()), "subject": perhaps(text()),
            "created_at": time(), "send_at": perhaps(time()), "expires_at": time(),
            "cancelled_at": perhaps(time()), "accepted": count(), "suppressed": count(),
            "deliveries": closed(json!(by_state), &states),
            "metadata": perhaps(object()),
        }), &["id", "stream", "created_at", "expires_at", "accepted", "suppressed", "deliveries"]),
        "DeliveryState": {"type": "string", "enum": states},
        "DeliveryPage": closed(json!({
            "deliveries": list(closed(json!({
                "id": text(), "to": text(), "state": named("DeliveryState"), "attempts": count(),
                "code": perhaps(json!({"type": "integer"})), "ended_at": perhaps(time()), "next_at": perhaps(time()),
            }), &["id", "to", "state", "attempts"])),
            "next_cursor": perhaps(text()),
        }), &["deliveries", "next_cursor"]),
        "Delivery": closed(json!({
            "id": text(), "message_id": text(), "to": text(), "state": named("DeliveryState"),
            "attempts": count(), "expires_at": time(), "ended_at": perhaps(time()), "next_at": perhaps(time()),
            "dead_letter": perhaps(closed(json!({"reason": text(), "detail": perhaps(text())}), &["reason"])),
            "history": list(json!({
                "type": "object",
                "description": "Besides: route, source, host, ip, tls, stage, class, reach, reply, cause, took_ms, as known",
                "required": ["at", "attempt", "outcome", "in_doubt"],
                "properties": {
                    "at": time(), "attempt": count(), "in_doubt": {"type": "boolean"},
                    "outcome": {"type": "string", "enum": ["delivered", "bounced", "expired", "suppressed",
                        "cancelled", "dead_lettered", "deferred", "interrupted", "reported"]},
                    "code": perhaps(json!({"type": "integer"})), "next_at": perhaps(time()),
                },
            })),
        }), &["id", "message_id", "to", "state", "attempts", "expires_at", "history"]),
        "Why": {"type": "object", "description": "What binds first, how much is before it, and when it is expected to go; see docs/api.md"},
        "StreamOrder": closed(json!({
            "reason": text(),
            "for": {"type": "string", "description": "Of a pause: 2h; without it until resumed"},
        }), &["reason"]),
        "StreamPaused": closed(json!({
            "stream": text(), "paused": {"type": "boolean"}, "reason": text(), "seconds": perhaps(count()),
        }), &["stream", "paused", "reason", "seconds"]),
        "StreamResumed": closed(json!({
            "stream": text(), "paused": {"type": "boolean"}, "was_paused": {"type": "boolean"},
        }), &["stream", "paused", "was_paused"]),
        "StreamCancelled": closed(json!({
            "stream": text(), "cancelled": {"type": "boolean"}, "lanes": count(),
        }), &["stream", "cancelled", "lanes"]),
        "Problem": {
            "type": "object",
            "description": "RFC 9457",
            "required": ["type", "title", "status"],
            "properties": {
                "type": text(), "title": text(), "status": {"type": "integer"}, "detail": text(),
                "errors": list(closed(json!({"field": text(), "reason": text()}), &["field", "reason"])),
                "stored": closed(json!({"lines": count(), "accepted": count(), "suppressed": count()}),
                    &["lines", "accepted", "suppressed"]),
            },
        },
        "OpenApi": {"type": "object", "required": ["openapi", "info", "paths"]},
    })
}

/// An object with these properties and no other.
#[allow(clippy::needless_pass_by_value, reason = "it is written where it is used")]
pub(super) fn closed(properties: Value, required: &[&str]) -> Value {
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}
