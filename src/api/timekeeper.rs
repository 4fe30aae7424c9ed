//! Time goes on while no daemon lives.
//!
//! Whoever reads a message's state through the API is told that it has expired, not that
//! it still waits: every few seconds, in small steps, what is past its limit is ended, and
//! what is due is made ready. The daemons do the same more often; rows that one of them has
//! in hand are passed over. A step that fails is repeated.

use std::time::Duration;

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::queue::upkeep;

const EVERY: Duration = Duration::from_secs(3);

/// Rows that one step makes ready.
const ROWS: i32 = 1_000;

/// Keeps time until `stop`. `pool` acts as the API's role.
pub async fn run(pool: PgPool, stop: CancellationToken) {
    loop {
        let wait = match upkeep::keep_time(&pool, ROWS).await {
            Ok(ended) => {
                metrics::counter!("postrider_expired_total").increment(ended);
                if ended >= upkeep::EXPIRED_AT_ONCE { EVERY / 10 } else { EVERY }
            }
            Err(error) => {
                tracing::warn!(%error, "could not end what has expired; will be repeated");
                EVERY * 2
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait.mul_f64(0.8 + 0.4 * rand::random::<f64>())) => {}
        }
    }
}
