//! The queue's depth and age for `/metrics`, sampled so that a deep queue costs no more
//! than a shallow one: row counts are the statistics collector's, ages are those of the
//! heads of the lanes.

use std::time::Duration;

use metrics::gauge;
use sqlx::{PgPool, Row};
use tokio_util::sync::CancellationToken;

use crate::queue::deadline;

const EVERY: Duration = Duration::from_secs(10);

/// Longest time for one sample.
const LONGEST: Duration = Duration::from_secs(60);

/// Samples until `stop`.
pub async fn run(pool: PgPool, stop: CancellationToken) {
    loop {
        if let Err(error) = deadline::within(LONGEST, sample(&pool)).await {
            tracing::debug!(%error, "could not sample the queue");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

async fn sample(pool: &PgPool) -> Result<(), sqlx::Error> {
    for row in sqlx::query(include_str!("sql/depth.sql")).fetch_all(pool).await? {
        let state: String = row.try_get("state")?;
        let rows: i64 = row.try_get("rows")?;
        gauge!("postrider_queue_depth", "state" => state).set(rows as f64);
    }
    for row in sqlx::query(include_str!("sql/oldest.sql")).fetch_all(pool).await? {
        let class: String = row.try_get("class")?;
        let seconds: f64 = row.try_get("seconds")?;
        gauge!("postrider_queue_oldest_seconds", "class" => class).set(seconds);
    }
    Ok(())
}
