//! The tables with rows of a tenant, and what a move does with each.

use sqlx::{AssertSqlSafe, PgPool};

use crate::domain::ids::TenantId;

/// A table that is copied by the tenant's key.
pub(super) struct Keyed {
    pub(super) name: &'static str,
    pub(super) page: &'static str,
    /// Numbers that the new cell gives out itself.
    pub(super) overriding: &'static str,
}

const fn keyed(name: &'static str, page: &'static str) -> Keyed {
    Keyed { name, page, overriding: "" }
}

/// In the order of their references.
pub(super) const KEYED: [Keyed; 19] = [
    keyed("sending_domain", include_str!("../sql/page_sending_domain.sql")),
    keyed("dkim_key", include_str!("../sql/page_dkim_key.sql")),
    Keyed {
        name: "api_key",
        page: include_str!("../sql/page_api_key.sql"),
        overriding: "overriding user value",
    },
    keyed("suppression", include_str!("../sql/page_suppression.sql")),
    keyed("suppression_past", include_str!("../sql/page_suppression_past.sql")),
    keyed("soft_bounce", include_str!("../sql/page_soft_bounce.sql")),
    keyed("idempotency", include_str!("../sql/page_idempotency.sql")),
    keyed("upload_chunk", include_str!("../sql/page_upload_chunk.sql")),
    keyed("cancellation", include_str!("../sql/page_cancellation.sql")),
    keyed("transit", include_str!("../sql/page_transit.sql")),
    keyed("lane_cancellation", include_str!("../sql/page_lane_cancellation.sql")),
    keyed("late_outcome", include_str!("../sql/page_late_outcome.sql")),
    keyed("event_tenant", include_str!("../sql/page_event_tenant.sql")),
    keyed("event", include_str!("../sql/page_event.sql")),
    keyed("webhook", include_str!("../sql/page_webhook.sql")),
    keyed("webhook_secret", include_str!("../sql/page_webhook_secret.sql")),
    keyed("webhook_retry", include_str!("../sql/page_webhook_retry.sql")),
    keyed("health_bucket", include_str!("../sql/page_health_bucket.sql")),
    keyed("health_stream", include_str!("../sql/page_health_stream.sql")),
];

/// Every table with rows of a tenant that a move knows what to do with: copied, made anew by
/// name, emptied into transit before, or forgotten. One that is missing here would be left behind.
pub const CARRIED: [&str; 33] = [
    "tenant",
    "tenant_login",
    "sending_domain",
    "dkim_key",
    "api_key",
    "suppression",
    "suppression_past",
    "suppression_import",
    "soft_bounce",
    "idempotency",
    "upload_chunk",
    "cancellation",
    "transit",
    "message",
    "job",
    "attempt",
    "stream",
    "lane",
    "ready",
    "deferred",
    "dead_letter",
    "block",
    "route_override",
    "lane_cancellation",
    "late_outcome",
    "event_tenant",
    "event",
    "tracked",
    "webhook",
    "webhook_secret",
    "webhook_retry",
    "health_bucket",
    "health_stream",
];

/// A table whose rows are counted on both sides.
pub(super) struct Counted {
    pub(super) name: &'static str,
    by: By,
}

#[derive(Clone, Copy)]
enum By {
    Tenant,
    Message,
}

/// What both cells must agree on.
pub(super) const COUNTED: [Counted; 18] = [
    Counted { name: "message", by: By::Tenant },
    Counted { name: "job", by: By::Message },
    Counted { name: "attempt", by: By::Message },
    Counted { name: "transit", by: By::Tenant },
    Counted { name: "sending_domain", by: By::Tenant },
    Counted { name: "dkim_key", by: By::Tenant },
    Counted { name: "api_key", by: By::Tenant },
    Counted { name: "suppression", by: By::Tenant },
    Counted { name: "suppression_past", by: By::Tenant },
    Counted { name: "idempotency", by: By::Tenant },
    Counted { name: "upload_chunk", by: By::Tenant },
    Counted { name: "cancellation", by: By::Tenant },
    Counted { name: "lane_cancellation", by: By::Tenant },
    Counted { name: "late_outcome", by: By::Tenant },
    Counted { name: "event", by: By::Tenant },
    Counted { name: "webhook", by: By::Tenant },
    Counted { name: "webhook_secret", by: By::Tenant },
    Counted { name: "webhook_retry", by: By::Tenant },
];

impl Counted {
    /// Rows of the tenant.
    pub(super) async fn count(&self, pool: &PgPool, tenant: TenantId) -> Result<i64, sqlx::Error> {
        let template = match self.by {
            By::Tenant => include_str!("../sql/count.sql"),
            By::Message => include_str!("../sql/count_of_messages.sql"),
        };
        // The name is one of ours.
        sqlx::query_scalar(AssertSqlSafe(template.replace("{table}", self.name)))
            .bind(tenant.get())
            .fetch_one(pool)
            .await
    }
}

/// The statement that puts rows into a table of the new cell.
pub(super) fn put(table: &str, overriding: &str) -> String {
    include_str!("../sql/put.sql").replace("{table}", table).replace("{overriding}", overriding)
}
