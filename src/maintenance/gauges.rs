//! The queue's depth and age for `/metrics`, sampled so that a deep queue costs no more
//! than a shallow one: row counts are the statistics collector's, ages are those of the
//! heads of the lanes.

use std::time::Duration;

use metrics::gauge;
use sqlx::{PgPool, Row};
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_secs(10);

/// Samples one cell until `stop`.
pub async fn run(pool: PgPool, cell: String, stop: CancellationToken) {
    loop {
        if let Err(error) = sample(&pool, &cell).await {
            tracing::debug!(%error, "could not sample the queue");
        }
        gauge!("postrider_db_pool_connections", "cell" => cell.clone(), "state" => "open")
            .set(f64::from(pool.size()));
        gauge!("postrider_db_pool_connections", "cell" => cell.clone(), "state" => "idle")
            .set(pool.num_idle() as f64);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

async fn sample(pool: &PgPool, cell: &str) -> Result<(), sqlx::Error> {
    for row in sqlx::query(include_str!("sql/depth.sql")).fetch_all(pool).await? {
        let state: String = row.try_get("state")?;
        let rows: i64 = row.try_get("rows")?;
        gauge!("postrider_queue_depth", "cell" => cell.to_owned(), "state" => state)
            .set(rows as f64);
    }
    for row in sqlx::query(include_str!("sql/oldest.sql")).fetch_all(pool).await? {
        let class: String = row.try_get("class")?;
        let seconds: f64 = row.try_get("seconds")?;
        gauge!("postrider_queue_oldest_seconds", "cell" => cell.to_owned(), "class" => class)
            .set(seconds);
    }
    Ok(())
}
