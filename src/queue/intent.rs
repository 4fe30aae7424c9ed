//! "I am about to send these": durable before the first byte after which a peer may have a
//! mail, so that a dead worker's leases tell what is in doubt from what was never sent.
//!
//! One row for many deliveries. A session's rows go when everything in them is settled; of a
//! dead session they stay until its leases are rescued.

use sqlx::PgPool;

use crate::domain::ids::{DeliveryId, Hold, SessionId};

/// Most deliveries in one row: it must fit into a page.
pub const MOST: usize = 500;

/// The number of a row, counted by its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Batch(i64);

impl Batch {
    /// The batch of this number.
    pub const fn new(number: i64) -> Self {
        Self(number)
    }
}

/// Whether a session may go on to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Leave {
    /// The intent is durable.
    Granted,
    /// The session is fenced: nothing was written, nothing may be sent.
    Fenced,
}

/// Writes one batch and drops those that are `settled`, in one statement. Commits
/// synchronously. On an error it is unknown whether it was written; repeating the same
/// batch is safe.
pub async fn write(
    pool: &PgPool,
    session: SessionId,
    batch: Batch,
    deliveries: &[(DeliveryId, Hold)],
    settled: &[Batch],
) -> Result<Leave, sqlx::Error> {
    debug_assert!(deliveries.len() <= MOST, "a batch must fit into a page");
    let jobs: Vec<i64> = deliveries.iter().map(|(job, _)| job.get()).collect();
    let holds: Vec<i32> = deliveries.iter().map(|(_, hold)| hold.get()).collect();
    let settled: Vec<i64> = settled.iter().map(|batch| batch.0).collect();
    let alive: bool = sqlx::query_scalar(include_str!("sql/write_intent.sql"))
        .bind(session.get())
        .bind(batch.0)
        .bind(jobs)
        .bind(holds)
        .bind(settled)
        .fetch_one(pool)
        .await?;
    Ok(if alive { Leave::Granted } else { Leave::Fenced })
}
