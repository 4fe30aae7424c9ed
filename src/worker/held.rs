//! What this process has in hand, from the claim's answer until its settlement is written.
//!
//! A claim can commit and its answer get lost with the connection. Then a lease stands in
//! the database that nobody here knows of; it would stay for as long as this process
//! lives, since only dead sessions are rescued. Knowing what *is* in hand tells those
//! strays apart.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::domain::ids::DeliveryId;
use crate::queue::session::Session;
use crate::queue::signal::Class;

/// How often strays are looked for.
const EVERY: Duration = Duration::from_secs(30);

/// Leases younger than this may belong to a claim under way.
const LEAST_AGE: Duration = Duration::from_secs(45);

/// The jobs in hand, and how many have left it for good.
#[derive(Debug, Default)]
pub struct Held {
    jobs: Mutex<HashMap<DeliveryId, Class>>,
    /// By [`Class::index`].
    ended: [AtomicU64; 2],
}

impl Held {
    /// A claim brought this job.
    pub fn take(&self, job: DeliveryId, class: Class) {
        self.jobs.lock().insert(job, class);
    }

    /// These came to an end, and it is written. Tell it before [`Self::settled`].
    pub fn end(&self, jobs: impl IntoIterator<Item = DeliveryId>) {
        let held = self.jobs.lock();
        for class in jobs.into_iter().filter_map(|job| held.get(&job)) {
            self.ended[class.index()].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many deliveries of a class came to an end here.
    pub fn ended(&self, class: Class) -> u64 {
        self.ended[class.index()].load(Ordering::Relaxed)
    }

    /// Their settlements are written, or were fenced.
    pub fn settled(&self, jobs: impl IntoIterator<Item = DeliveryId>) {
        let mut held = self.jobs.lock();
        for job in jobs {
            held.remove(&job);
        }
    }

    fn ids(&self) -> Vec<i64> {
        self.jobs.lock().keys().map(|job| job.get()).collect()
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
        match session.release_strays(&pool, &held.ids(), LEAST_AGE).await {
            Ok(0) => {}
            Ok(strays) => {
                tracing::warn!(strays, "gave back deliveries whose claim's answer was lost");
            }
            Err(error) => tracing::debug!(%error, "could not look for stray leases"),
        }
    }
}
