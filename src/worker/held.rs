//! What this process has in hand, from the claim's answer until its settlement is written.
//!
//! A claim can commit and its answer get lost with the connection. Then a lease stands in
//! the database that nobody here knows of; it would stay for as long as this process
//! lives, since only dead sessions are rescued. Knowing what *is* in hand tells those
//! strays apart.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::domain::ids::DeliveryId;
use crate::queue::deadline;
use crate::queue::session::Session;

/// How often strays are looked for.
const EVERY: Duration = Duration::from_secs(30);

/// Leases younger than this may belong to a claim under way.
const LEAST_AGE: Duration = Duration::from_secs(45);

/// The jobs in hand.
#[derive(Debug, Default)]
pub struct Held(Mutex<HashSet<DeliveryId>>);

impl Held {
    /// A claim brought this job.
    pub fn take(&self, job: DeliveryId) {
        self.0.lock().insert(job);
    }

    /// Their settlements are written, or were fenced.
    pub fn settled(&self, jobs: impl IntoIterator<Item = DeliveryId>) {
        let mut held = self.0.lock();
        for job in jobs {
            held.remove(&job);
        }
    }

    fn ids(&self) -> Vec<i64> {
        self.0.lock().iter().map(|job| job.get()).collect()
    }
}

/// Gives strays back until `stop`.
pub async fn release_strays(
    pool: PgPool,
    session: Arc<Session>,
    held: Arc<Held>,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        let held = held.ids();
        let released = session.release_strays(&pool, &held, LEAST_AGE);
        match deadline::within(LEAST_AGE, released).await {
            Ok(0) => {}
            Ok(strays) => {
                tracing::warn!(strays, "gave back deliveries whose claim's answer was lost");
            }
            Err(error) => tracing::debug!(%error, "could not look for stray leases"),
        }
    }
}
