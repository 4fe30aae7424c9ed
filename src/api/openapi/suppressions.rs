//! The operations and shapes of lists of suppressions.

use serde_json::{Value, json};

use super::schemas::{closed, named};
use super::{Back, Operation, Sent, of_tenant};

/// Every operation, in the order of docs/api.md.
pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        back: Back::Json("SuppressionPage"),
        problems: &["400", "503"],
        ..of_tenant(
            "get",
            "/v1/suppressions",
            "suppressions",
            "The list by page; whole as text/csv or application/x-ndjson, if accepted",
        )
    },
    Operation {
        sent: Sent::Json("NewSuppression"),
        status: "201",
        back: Back::Json("SuppressionAdded"),
        problems: &["400", "413", "415", "422", "503"],
        ..of_tenant(
            "post",
            "/v1/suppressions",
            "suppress",
            "Put an address or a domain on the list",
        )
    },
    Operation {
        sent: Sent::File("SuppressionLine"),
        back: Back::Json("SuppressionImport"),
        problems: &["400", "415", "422", "503"],
        ..of_tenant(
            "post",
            "/v1/suppressions/import",
            "importSuppressions",
            "Put the lines of a file on the list",
        )
    },
    Operation {
        back: Back::Json("SuppressionKnown"),
        problems: &["422", "503"],
        ..of_tenant(
            "get",
            "/v1/suppressions/{address}",
            "suppression",
            "What is known of an address or a domain",
        )
    },
    Operation {
        back: Back::Json("SuppressionRemoved"),
        problems: &["400", "404", "422", "503"],
        ..of_tenant(
            "delete",
            "/v1/suppressions/{address}",
            "unsuppress",
            "Take it off the list; the past keeps who did it",
        )
    },
];

/// Query parameters of an operation: name and meaning.
pub(super) fn parameters(id: &str) -> &'static [(&'static str, &'static str)] {
    match id {
        "suppressions" => {
            &[("cursor", "next_cursor of the page before"), ("limit", "1 to 1000; 100")]
        }
        "importSuppressions" => &[
            ("mode", "lines (a bad line stops no other) or whole (all or none)"),
            ("stream", "Of lines that name none: only for this stream"),
            ("reason", "Of lines that have none"),
        ],
        "unsuppress" => &[("stream", "Only the entry about this stream"), ("reason", "Why")],
        _ => &[],
    }
}

/// Their bodies and answers, by name.
pub(super) fn schemas() -> Value {
    let text = || json!({"type": "string"});
    let truth = || json!({"type": "boolean"});
    let count = || json!({"type": "integer", "minimum": 0});
    let time = || json!({"type": "string", "format": "date-time"});
    let perhaps = |mut schema: Value| {
        let kind = schema["type"].take();
        schema["type"] = json!([kind, "null"]);
        schema
    };
    let list = |items: Value| json!({"type": "array", "items": items});
    let entry = json!({
        "address": {"type": "string", "description": "ann@example.org, @example.org, or # and a keyed hash (@# of a domain)"},
        "stream": perhaps(text()), "reason": text(), "source": text(), "created_at": time(),
        "expires_at": perhaps(time()),
    });
    let stands = ["address", "stream", "reason", "source", "created_at", "expires_at"];
    let mut past = entry.clone();
    for (name, schema) in [("removed_at", time()), ("removed_by", text()), ("removal", text())] {
        past[name] = schema;
    }
    let was = [&stands[..], &["removed_at", "removed_by", "removal"]].concat();
    json!({
        "Suppression": closed(entry, &stands),
        "SuppressionPast": closed(past, &was),
        "SuppressionPage": closed(json!({
            "suppressions": list(named("Suppression")), "next_cursor": perhaps(text()),
        }), &["suppressions", "next_cursor"]),
        "NewSuppression": closed(json!({
            "address": {"type": "string", "description": "ann@example.org, or a domain as @example.org"},
            "stream": perhaps(text()), "reason": perhaps(text()), "expires_at": perhaps(time()),
        }), &["address"]),
        "SuppressionAdded": closed(
            json!({"address": text(), "added": truth()}), &["address", "added"]),
        "SuppressionLine": {
            "type": "object",
            "description": "One of email, address and recipient; other fields are passed over",
            "properties": {"email": text(), "address": text(), "recipient": text(), "stream": text(),
                           "reason": text(), "expires_at": time()},
        },
        "SuppressionImport": closed(json!({
            "stored": truth(), "lines": count(), "added": count(), "present": count(), "refused": count(),
            "refusals": list(closed(
                json!({"line": count(), "field": text(), "reason": text()}), &["line", "field", "reason"])),
        }), &["stored", "lines", "added", "present", "refused", "refusals"]),
        "SuppressionKnown": closed(json!({
            "address": text(), "suppressed": truth(), "entries": list(named("Suppression")),
            "everywhere": truth(), "past": list(named("SuppressionPast")), "soft_failures": count(),
        }), &["address", "suppressed", "entries", "everywhere", "past", "soft_failures"]),
        "SuppressionRemoved": closed(
            json!({"removed": list(named("SuppressionPast"))}), &["removed"]),
    })
}
