//! Removes the rows of a tenant from a cell that it does not live in, in bounded batches.

use sqlx::AssertSqlSafe;

use super::{BATCH, Event, Move, MoveError, Told, say};
use crate::cell::Cell;

/// Messages looked at together.
const MESSAGES: i64 = 200;

/// Tables that are emptied by the tenant's key, references first. `tracked` is not copied before: it
/// only keeps events of the same hour from being told twice.
const KEYED: [&str; 20] = [
    "transit",
    "webhook_retry",
    "webhook_secret",
    "webhook",
    "event",
    "event_tenant",
    "tracked",
    "suppression",
    "suppression_past",
    "suppression_import",
    "soft_bounce",
    "idempotency",
    "upload_chunk",
    "cancellation",
    "lane_cancellation",
    "late_outcome",
    "dkim_key",
    "sending_domain",
    "api_key",
    "tenant_login",
];

impl Move {
    /// Empties `cell`; the tenant lives in `other`.
    pub(super) async fn remove(
        &self,
        cell: &Cell,
        other: &Cell,
        told: Told<'_>,
    ) -> Result<(), MoveError> {
        let (pool, tenant) = (&cell.pool, self.tenant.get());
        for table in KEYED {
            let statement = include_str!("../sql/remove.sql").replace("{table}", table);
            loop {
                // The name is one of ours.
                let done = sqlx::query(AssertSqlSafe(statement.as_str()))
                    .bind(tenant)
                    .bind(BATCH)
                    .execute(pool)
                    .await?
                    .rows_affected();
                if done == 0 {
                    break;
                }
                say(told, &Event::Removed(table, done))?;
            }
        }
        loop {
            let messages: Vec<i64> = sqlx::query_scalar(include_str!("../sql/next_messages.sql"))
                .bind(tenant)
                .bind(MESSAGES)
                .fetch_all(pool)
                .await?;
            if messages.is_empty() {
                break;
            }
            loop {
                let jobs: i64 = sqlx::query_scalar(include_str!("../sql/remove_jobs.sql"))
                    .bind(&messages)
                    .bind(BATCH)
                    .fetch_one(pool)
                    .await?;
                if jobs == 0 {
                    break;
                }
                say(told, &Event::Removed("job", jobs.unsigned_abs()))?;
            }
            let done = sqlx::query(include_str!("../sql/remove_messages.sql"))
                .bind(&messages)
                .execute(pool)
                .await?
                .rows_affected();
            say(told, &Event::Removed("message", done))?;
        }
        self.step(cell, other, "tenant removed", include_str!("../sql/forget.sql")).await?;
        Ok(())
    }
}
