//! The operation and shapes of tenant health.

use serde_json::{Value, json};

use super::schemas::{closed, named};
use super::{Back, Operation, of_tenant};

/// Every operation.
pub(super) const OPERATIONS: &[Operation] = &[Operation {
    back: Back::Json("TenantHealth"),
    problems: &["503"],
    ..of_tenant("get", "/v1/health", "health", "Bounces and complaints of each stream")
}];

/// Answers, by name.
pub(super) fn schemas() -> Value {
    let count = || json!({"type": "integer", "minimum": 0});
    let share = || json!({"type": "number", "minimum": 0});
    let perhaps_text = || json!({"type": ["string", "null"]});
    let perhaps_time = || json!({"type": ["string", "null"], "format": "date-time"});
    json!({
        "TenantHealth": closed(json!({
            "tenant": {"type": "string"},
            "streams": {"type": "array", "items": named("StreamHealth")},
        }), &["tenant", "streams"]),
        "StreamHealth": closed(json!({
            "stream": {"type": "string"},
            "level": {"type": "string", "enum": ["well", "warned", "stopped"]},
            "since": perhaps_time(), "reason": perhaps_text(), "counted_from": perhaps_time(),
            "limits": closed(json!({
                "pause": {"type": "boolean"}, "minimum": count(), "bounce_warn": share(), "bounce_stop": share(),
                "complaint_warn": share(), "complaint_stop": share(),
            }), &["pause", "minimum", "bounce_warn", "bounce_stop", "complaint_warn", "complaint_stop"]),
            "figures": {"type": "array", "items": named("HealthFigures")},
        }), &["stream", "level", "limits", "figures"]),
        "HealthFigures": closed(json!({
            "window": {"type": "string", "description": "1h"}, "mailbox_provider": perhaps_text(),
            "sent": count(), "bounced": count(), "refused": count(), "complained": count(),
            "bounce_rate": share(), "complaint_rate": share(),
        }), &["window", "sent", "bounced", "refused", "complained", "bounce_rate", "complaint_rate"]),
    })
}
