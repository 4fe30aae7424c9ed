//! How the queue stands: what waits where, and who works on it.
//!
//! The counts are bounded, so that asking costs the same with a hundred million
//! rows waiting: up to [`MOST`] per lane of what is ready or scheduled, and the first [`MOST`]
//! of what is deferred, in hand, or dead.

use futures_util::FutureExt;
use serde::Serialize;
use sqlx::{FromRow, PgPool};

use super::within;
use crate::domain::ids::{DeliveryId, MessageId};
use crate::tenant::isolation::TenantScope;

/// Rows that are counted at most.
pub const MOST: i64 = 100_000;

/// What waits in one lane.
#[derive(Debug, Clone, PartialEq, Serialize, FromRow)]
pub struct LaneDepth {
    /// Its number.
    pub lane: i32,
    /// Whose.
    pub tenant: String,
    /// For whom; `other` for all that no rule names.
    pub mailbox_provider: String,
    /// Of which stream.
    pub stream: String,
    /// 0 goes first.
    pub priority: i16,
    /// Due now.
    pub ready: i64,
    /// Whether there are more ready ones than were counted.
    pub more_ready: bool,
    /// Age of the oldest ready one in seconds.
    pub oldest_seconds: Option<f64>,
    /// Not due before the time that was asked for.
    pub scheduled: i64,
    /// In a worker's hands.
    pub leased: i64,
    /// To be tried again.
    pub deferred: i64,
    /// Seconds until the first of those two is due.
    pub next_due_seconds: Option<f64>,
    /// Given up until an operator decides.
    pub dead_letters: i64,
    /// Why it is not claimed at present.
    pub held_back: Option<String>,
    /// What else it waits for, as the daemons say: a limit, room, its turn.
    pub waits_for: Option<String>,
}

/// A worker process that is known to the database.
#[derive(Debug, Clone, PartialEq, Serialize, FromRow)]
pub struct WorkerSession {
    /// Its number.
    #[sqlx(rename = "session_id")]
    pub session: i64,
    /// What it calls itself.
    pub worker: String,
    /// `alive` or `draining`.
    pub state: String,
    /// Seconds since it last showed that it lives.
    pub silent_seconds: f64,
}

/// What waits, by lane; lanes without anything are left out.
pub async fn lanes(
    pool: &PgPool,
    scope: Option<TenantScope>,
) -> Result<Vec<LaneDepth>, sqlx::Error> {
    within(pool, scope, move |conn| {
        sqlx::query_as(include_str!("sql/overview.sql"))
            .bind(MOST)
            .bind(scope.map(|scope| scope.tenant().get()))
            .fetch_all(conn)
            .boxed()
    })
    .await
}

/// The workers that are not fenced.
pub async fn workers(pool: &PgPool) -> Result<Vec<WorkerSession>, sqlx::Error> {
    sqlx::query_as(
        "select session_id, worker, state, extract(epoch from now() - beat_at)::float8 as silent_seconds
         from postrider.worker_session where state <> 'fenced' order by session_id",
    )
    .fetch_all(pool)
    .await
}

/// The name of the tenant whose message it is.
pub async fn tenant_of_message(
    pool: &PgPool,
    id: MessageId,
) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar(
        "select t.name from postrider.message m join postrider.tenant t using (tenant_id)
         where m.message_id = $1",
    )
    .bind(id.get())
    .fetch_optional(pool)
    .await
}

/// The name of the tenant whose delivery it is.
pub async fn tenant_of_delivery(
    pool: &PgPool,
    id: DeliveryId,
) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar(
        "select t.name from postrider.job j join postrider.tenant t using (tenant_id)
         where j.job_id = $1",
    )
    .bind(id.get())
    .fetch_optional(pool)
    .await
}
