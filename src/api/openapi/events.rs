//! The operations and shapes of events and endpoints.

use serde_json::{Value, json};

use super::schemas::{closed, named};
use super::{Back, Operation, Sent, of_tenant};
use crate::event::kind::EventKind;

/// Every operation, in the order of docs/api.md.
pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        back: Back::Json("EventPage"),
        problems: &["400", "503"],
        ..of_tenant("get", "/v1/events", "events", "What happened, from a cursor on")
    },
    Operation {
        sent: Sent::Json("EventSwitch"),
        back: Back::Json("EventSwitch"),
        problems: &["400", "409", "413", "415", "422", "503"],
        ..of_tenant("put", "/v1/events", "switchEvents", "Whether events are written")
    },
    Operation {
        back: Back::Json("WebhookList"),
        problems: &["503"],
        ..of_tenant("get", "/v1/webhooks", "webhooks", "All endpoints")
    },
    Operation {
        sent: Sent::Json("NewWebhook"),
        status: "201",
        back: Back::Json("WebhookWithSecret"),
        problems: &["400", "409", "413", "415", "422", "503"],
        ..of_tenant("post", "/v1/webhooks", "createWebhook", "Make an endpoint")
    },
    Operation {
        back: Back::Json("Webhook"),
        ..of_tenant("get", "/v1/webhooks/{id}", "webhook", "An endpoint and how it stands")
    },
    Operation {
        sent: Sent::Json("ChangedWebhook"),
        back: Back::Json("Webhook"),
        problems: &["400", "404", "409", "413", "415", "422", "503"],
        ..of_tenant("patch", "/v1/webhooks/{id}", "changeWebhook", "Change what is given")
    },
    Operation {
        back: Back::Json("WebhookDeleted"),
        ..of_tenant("delete", "/v1/webhooks/{id}", "deleteWebhook", "Delete an endpoint")
    },
    Operation {
        back: Back::Json("WebhookWithSecret"),
        ..of_tenant(
            "post",
            "/v1/webhooks/{id}/rotate-secret",
            "rotateWebhookSecret",
            "A new secret; the one before signs beside it for a while",
        )
    },
    Operation {
        back: Back::Json("WebhookTrial"),
        ..of_tenant("post", "/v1/webhooks/{id}/test", "testWebhook", "Send an event of type test")
    },
    Operation {
        sent: Sent::Json("WebhookReplay"),
        back: Back::Json("Webhook"),
        problems: &["400", "404", "413", "415", "422", "503"],
        ..of_tenant(
            "post",
            "/v1/webhooks/{id}/replay",
            "replayWebhook",
            "Tell again what happened since a moment",
        )
    },
];

/// Their bodies and answers, by name.
pub(super) fn schemas() -> Value {
    let text = || json!({"type": "string"});
    let truth = || json!({"type": "boolean"});
    let count = || json!({"type": "integer", "minimum": 0});
    let upto = |most: u32| json!({"type": "integer", "minimum": 1, "maximum": most});
    let time = || json!({"type": "string", "format": "date-time"});
    let perhaps = |mut schema: Value| {
        let kind = schema["type"].take();
        schema["type"] = json!([kind, "null"]);
        schema
    };
    let kinds: Vec<&str> = EventKind::ALL.into_iter().map(EventKind::as_str).collect();
    let kinds = || json!({"type": "array", "items": {"type": "string", "enum": kinds}});
    let endpoint = json!({
        "id": text(), "url": text(), "description": text(), "types": perhaps(kinds()), "batch": count(),
        "in_flight": count(), "per_second": perhaps(count()),
        "state": {"type": "string", "enum": ["active", "disabled"]}, "disabled_by": perhaps(text()),
        "created_at": time(), "failing_since": perhaps(time()), "next_try_at": perhaps(time()),
        "last_error": perhaps(text()), "last_taken_at": perhaps(time()), "pending": count(),
        "retries": count(),
    });
    let mut with_secret = endpoint.clone();
    with_secret["secret"] = json!({"type": "string", "description": "Shown this once"});
    let asked = json!({
        "url": text(), "description": text(), "types": perhaps(kinds()), "batch": upto(1_000),
        "in_flight": upto(64), "per_second": perhaps(upto(10_000)),
    });
    let mut changed = asked.clone();
    changed["enabled"] = truth();
    let stands = ["id", "url", "state", "created_at", "pending", "retries"];
    json!({
        "Event": closed(json!({
            "id": text(), "type": text(), "timestamp": time(),
            "data": {"type": "object", "description": "What it is about; see docs/events.md"},
        }), &["id", "type", "timestamp", "data"]),
        "EventPage": closed(json!({
            "events": {"type": "array", "items": named("Event")}, "next_cursor": text(), "more": truth(),
            "enabled": truth(),
        }), &["events", "next_cursor", "more", "enabled"]),
        "EventSwitch": closed(json!({"enabled": truth()}), &["enabled"]),
        "NewWebhook": closed(asked, &["url"]),
        "ChangedWebhook": closed(changed, &[]),
        "Webhook": closed(endpoint, &stands),
        "WebhookWithSecret": closed(with_secret, &[&stands[..], &["secret"]].concat()),
        "WebhookList": closed(
            json!({"webhooks": {"type": "array", "items": named("Webhook")}}), &["webhooks"]),
        "WebhookDeleted": closed(json!({"deleted": text()}), &["deleted"]),
        "WebhookTrial": closed(
            json!({"taken": truth(), "answer": text(), "took_ms": count()}), &["taken", "answer", "took_ms"]),
        "WebhookReplay": closed(json!({"since": time()}), &["since"]),
    })
}
