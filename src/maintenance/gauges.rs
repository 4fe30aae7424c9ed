//! The queue's depth and age for `/metrics`, and what keeps the store from being cleaned.
//!
//! Sampled so that a deep queue costs no more than a shallow one: row counts are the
//! statistics collector's, ages are those of the heads of the lanes. Where there are so
//! many lanes that even this takes time, it is done less often. A sample that fails is
//! left out; the next one follows.

use std::time::{Duration, Instant};

use metrics::gauge;
use sqlx::{PgPool, Row};
use tokio_util::sync::CancellationToken;

use crate::queue::deadline;

const EVERY: Duration = Duration::from_secs(10);

/// Walking over the lanes may take one part in so many of the time.
const SPARING: u32 = 100;

/// Longest time for one sample.
const LONGEST: Duration = Duration::from_secs(60);

/// Samples one cell until `stop`.
pub async fn run(pool: PgPool, cell: String, stop: CancellationToken) {
    let mut walk_from = Instant::now();
    loop {
        let sampled = async {
            depths(&pool, &cell).await?;
            watch(&pool, &cell).await?;
            if Instant::now() >= walk_from {
                let started = Instant::now();
                ages(&pool, &cell).await?;
                walk_from = started + started.elapsed() * SPARING;
            }
            Ok::<(), sqlx::Error>(())
        };
        if let Err(error) = deadline::within(LONGEST, sampled).await {
            tracing::debug!(%error, "could not sample the queue");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

async fn depths(pool: &PgPool, cell: &str) -> Result<(), sqlx::Error> {
    for row in sqlx::query(include_str!("sql/depth.sql")).fetch_all(pool).await? {
        let state: String = row.try_get("state")?;
        let rows: i64 = row.try_get("rows")?;
        let dead: i64 = row.try_get("dead")?;
        gauge!("postrider_queue_depth", "cell" => cell.to_owned(), "state" => state.clone())
            .set(rows as f64);
        gauge!("postrider_dead_rows", "cell" => cell.to_owned(), "state" => state).set(dead as f64);
    }
    Ok(())
}

async fn ages(pool: &PgPool, cell: &str) -> Result<(), sqlx::Error> {
    let mut most = 0.0_f64;
    for row in sqlx::query(include_str!("sql/oldest.sql")).fetch_all(pool).await? {
        let class: String = row.try_get("class")?;
        let seconds: f64 = row.try_get("seconds")?;
        gauge!("postrider_queue_oldest_seconds", "cell" => cell.to_owned(), "class" => class)
            .set(seconds);
        most = most.max(row.try_get("overdue")?);
    }
    gauge!("postrider_queue_overdue_seconds", "cell" => cell.to_owned(), "state" => "ready")
        .set(most);
    Ok(())
}

async fn watch(pool: &PgPool, cell: &str) -> Result<(), sqlx::Error> {
    let row = sqlx::query(include_str!("sql/watch.sql")).fetch_one(pool).await?;
    for (holder, column) in [("session", "session_seconds"), ("prepared", "prepared_seconds")] {
        let seconds: f64 = row.try_get(column)?;
        gauge!("postrider_xmin_held_seconds", "cell" => cell.to_owned(), "holder" => holder)
            .set(seconds);
    }
    for (holder, column) in
        [("session", "session_xids"), ("prepared", "prepared_xids"), ("slot", "slot_xids")]
    {
        let transactions: i64 = row.try_get(column)?;
        gauge!("postrider_xmin_held_transactions", "cell" => cell.to_owned(), "holder" => holder)
            .set(transactions as f64);
    }
    let overdue: f64 = row.try_get("deferred_overdue")?;
    gauge!("postrider_queue_overdue_seconds", "cell" => cell.to_owned(), "state" => "deferred")
        .set(overdue);
    let stuck: f64 = row.try_get("generation_stuck")?;
    gauge!("postrider_generation_stuck_seconds", "cell" => cell.to_owned()).set(stuck);
    let defaults: i64 = row.try_get("defaults_in_use")?;
    gauge!("postrider_default_partitions_in_use", "cell" => cell.to_owned()).set(defaults as f64);
    for (level, column) in [("warned", "streams_warned"), ("stopped", "streams_stopped")] {
        let streams: i64 = row.try_get(column)?;
        gauge!("postrider_health_streams", "cell" => cell.to_owned(), "level" => level)
            .set(streams as f64);
    }
    Ok(())
}
