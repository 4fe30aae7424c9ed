//! How far endpoints are behind, for `/metrics`.

use std::time::Duration;

use metrics::gauge;
use sqlx::{PgPool, Row};
use tokio_util::sync::CancellationToken;

use crate::queue::deadline;

const EVERY: Duration = Duration::from_secs(30);

/// Longest time for one sample.
const LONGEST: Duration = Duration::from_secs(30);

/// Samples one cell until `stop`. Counts are bounded, so an endpoint that is far behind costs
/// no more than one that is a little behind.
pub async fn watch(pool: PgPool, cell: String, stop: CancellationToken) {
    loop {
        if let Err(error) = deadline::within(LONGEST, sample(&pool, &cell)).await {
            tracing::debug!(%error, "could not sample the endpoints");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

async fn sample(pool: &PgPool, cell: &str) -> Result<(), sqlx::Error> {
    let row = sqlx::query(include_str!("sql/watch.sql")).fetch_one(pool).await?;
    for (state, column) in [("active", "active"), ("failing", "failing"), ("disabled", "disabled")]
    {
        let endpoints: i64 = row.try_get(column)?;
        gauge!("postrider_webhook_endpoints", "cell" => cell.to_owned(), "state" => state)
            .set(endpoints as f64);
    }
    let seconds: f64 = row.try_get("lag_seconds")?;
    gauge!("postrider_webhook_lag_seconds", "cell" => cell.to_owned()).set(seconds);
    let pending: i64 = row.try_get("pending")?;
    gauge!("postrider_webhook_pending_events", "cell" => cell.to_owned()).set(pending as f64);
    let retries: i64 = row.try_get("retries")?;
    gauge!("postrider_webhook_retries", "cell" => cell.to_owned()).set(retries as f64);
    Ok(())
}
