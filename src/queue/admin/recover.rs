//! After a restore: what waited in the backup may have been sent since it was made.
//!
//! The database knows nothing of the time between the backup and the loss. Whatever was due by
//! then is held, each as a dead letter in doubt with its evidence, whatever its stream's policy
//! says: nothing is sent again before somebody decides (`admin/doubt.rs`). What was scheduled
//! for later cannot have been sent and stays. Sessions of the backup are fenced, so that a
//! process that still runs can write nothing.
//!
//! Batch by batch, each of them whole; broken off, it is simply asked again.

use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use serde::Serialize;
use sqlx::{AssertSqlSafe, PgPool};

use super::doubt::Run;
use super::order::{Order, together};
use crate::queue::{Generation, PerGeneration};

static READY: LazyLock<PerGeneration> =
    LazyLock::new(|| PerGeneration::new(include_str!("sql/hold_ready.sql")));
static LEASE: LazyLock<PerGeneration> =
    LazyLock::new(|| PerGeneration::new(include_str!("sql/hold_lease.sql")));

/// Deliveries that one statement holds.
const BATCH: i64 = 5_000;

/// What was held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Held {
    /// Sessions that were fenced.
    pub sessions: u64,
    /// Deliveries that sessions had in hand.
    pub in_hand: u64,
    /// Deliveries that were due.
    pub ready: u64,
    /// Deliveries that were due for another try.
    pub deferred: u64,
}

impl Held {
    /// All deliveries.
    pub const fn deliveries(&self) -> u64 {
        self.in_hand + self.ready + self.deferred
    }
}

/// Holds what was due by `lost_until`, for the reason of `order`, which is recorded first.
pub async fn hold(
    pool: &PgPool,
    lost_until: DateTime<Utc>,
    order: Order,
    run: Run,
) -> Result<Held, sqlx::Error> {
    if run == Run::Dry {
        return count(pool, lost_until).await;
    }
    let reason = order.reason.clone();
    let sessions = together(pool, move |conn| {
        async move {
            order.record(conn).await?;
            let fenced =
                "update postrider.worker_session set state = 'fenced' where state <> 'fenced'";
            Ok::<_, sqlx::Error>(sqlx::query(fenced).execute(&mut *conn).await?.rows_affected())
        }
        .boxed()
    })
    .await?;
    let mut held = Held { sessions, ..Held::default() };
    for generation in Generation::ring() {
        held.in_hand += drain(pool, || LEASE.of(generation), lost_until, &reason).await?;
    }
    for generation in Generation::all() {
        held.ready += drain(pool, || READY.of(generation), lost_until, &reason).await?;
    }
    let deferred = || AssertSqlSafe(include_str!("sql/hold_deferred.sql"));
    held.deferred = drain(pool, deferred, lost_until, &reason).await?;
    Ok(held)
}

/// Repeats a statement until nothing is left for it.
async fn drain<'s>(
    pool: &PgPool,
    statement: impl Fn() -> AssertSqlSafe<&'s str>,
    lost_until: DateTime<Utc>,
    reason: &str,
) -> Result<u64, sqlx::Error> {
    let mut all = 0;
    loop {
        let batch: i64 = sqlx::query_scalar(statement())
            .bind(lost_until)
            .bind(BATCH)
            .bind(reason)
            .fetch_one(pool)
            .await?;
        all += batch.unsigned_abs();
        if batch == 0 {
            return Ok(all);
        }
    }
}

async fn count(pool: &PgPool, lost_until: DateTime<Utc>) -> Result<Held, sqlx::Error> {
    let (sessions, in_hand, ready, deferred): (i64, i64, i64, i64) = sqlx::query_as(
        "select (select count(*) from postrider.worker_session where state <> 'fenced'),
                (select count(*) from postrider.lease),
                (select count(*) from postrider.ready where run_at <= $1),
                (select count(*) from postrider.deferred where due_at <= $1)",
    )
    .bind(lost_until)
    .fetch_one(pool)
    .await?;
    let [sessions, in_hand, ready, deferred] =
        [sessions, in_hand, ready, deferred].map(i64::unsigned_abs);
    Ok(Held { sessions, in_hand, ready, deferred })
}
