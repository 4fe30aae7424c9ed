//! How near a process's database pool is to its end.
//!
//! sqlx tells how many connections there are and how many are idle, but not who waits. So
//! now and then one is asked for like anyone would, and given back at once: how long that
//! took is what everybody else waits too.

use std::time::{Duration, Instant};

use metrics::{counter, gauge, histogram};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_secs(5);

/// Watches until `stop`.
pub async fn watch(pool: PgPool, cell: String, stop: CancellationToken) {
    gauge!("postrider_db_pool_limit", "cell" => cell.clone())
        .set(f64::from(pool.options().get_max_connections()));
    loop {
        let (open, idle) = (f64::from(pool.size()), pool.num_idle() as f64);
        let connections = |state: &'static str| gauge!("postrider_db_pool_connections", "cell" => cell.clone(), "state" => state);
        connections("open").set(open);
        connections("idle").set(idle);
        connections("in_use").set((open - idle).max(0.0));
        let asked = Instant::now();
        match stop.run_until_cancelled(pool.acquire()).await {
            Some(Ok(_connection)) => {
                histogram!("postrider_db_pool_acquire_seconds", "cell" => cell.clone())
                    .record(asked.elapsed());
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "no database connection could be had");
                counter!("postrider_db_pool_exhausted_total", "cell" => cell.clone()).increment(1);
            }
            None => return,
        }
        if stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_none() {
            return;
        }
    }
}
