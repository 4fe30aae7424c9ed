//! The couriers of one daemon in one cell: take endpoints and give each a turn.
//!
//! Any daemon may take any endpoint; the lease in the database says who has it. Endpoints that
//! fail get a quarter of the places at most, so that those that work are not held up by others'
//! time limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::lease::{self, Lease};
use super::sender::Sender;
use super::turn::{Ended, LONGEST, Turns};
use crate::config::Settings;
use crate::domain::backoff::Backoff;
use crate::domain::ids::SessionId;
use crate::queue::deadline;
use crate::tenant::seal::Sealer;

/// The lease outlasts the turn by the last request and this, for the database's answers.
const SLACK: Duration = Duration::from_secs(30);

/// Longest time for one look.
const LONGEST_LOOK: Duration = Duration::from_secs(30);

/// Wait after the database refused.
const AFTER_ERROR: Duration = Duration::from_secs(2);

/// What couriers work with; shared by all cells of a process.
#[derive(Debug, Clone)]
pub struct Gear {
    sender: Arc<Sender>,
    sealer: Arc<Sealer>,
    backoff: Backoff,
}

/// Why there are no couriers.
#[derive(Debug, thiserror::Error)]
pub enum GearError {
    /// No requests can be made.
    #[error(transparent)]
    Sender(#[from] super::sender::SenderError),
    /// Secrets cannot be opened.
    #[error(transparent)]
    Key(#[from] crate::tenant::seal::SealError),
    /// The waits make no sense.
    #[error("webhook.first_retry and webhook.longest_retry: {0}")]
    Waits(#[from] crate::domain::backoff::InvalidBackoff),
}

impl Gear {
    /// As configured.
    pub fn new(settings: &Settings) -> Result<Self, GearError> {
        let webhook = &settings.webhook;
        Ok(Self {
            sender: Arc::new(Sender::new(settings)?),
            sealer: Arc::new(Sealer::new(&settings.secrets)?),
            backoff: Backoff::try_new(webhook.first_retry, 2.0, webhook.longest_retry)?,
        })
    }

    /// Delivers a cell's events as `session` until `stop`. `pool` acts as the worker's role.
    pub async fn run(self, pool: PgPool, session: SessionId, stop: CancellationToken) {
        let settings = self.sender.settings();
        let (every, places) = (settings.poll_interval, settings.endpoints as usize);
        let longest = LONGEST + settings.timeout + SLACK;
        let turns = Arc::new(Turns {
            pool: pool.clone(),
            session,
            sender: self.sender,
            sealer: self.sealer,
            backoff: self.backoff,
            stop: stop.clone(),
        });
        let seats = Arc::new(Seats::default());
        let tasks = TaskTracker::new();
        loop {
            let (working, failing) = seats.free(places);
            let took = if working == 0 {
                Ok(Vec::new())
            } else {
                let look = lease::take(&pool, session, longest, working, failing);
                deadline::within(LONGEST_LOOK, look).await
            };
            let rest = match took {
                Ok(leases) => {
                    for lease in leases {
                        let seat = Seat::take(&seats, lease.failures > 0);
                        tasks.spawn(serve(Arc::clone(&turns), seat, lease));
                    }
                    every.mul_f64(0.75 + 0.5 * rand::random::<f64>())
                }
                Err(error) => {
                    tracing::warn!(%error, "could not look for events to tell");
                    metrics::counter!("postrider_db_errors_total", "statement" => "webhook_take")
                        .increment(1);
                    AFTER_ERROR
                }
            };
            tokio::select! {
                () = stop.cancelled() => break,
                () = seats.more.notified() => {}
                () = tokio::time::sleep(rest) => {}
            }
        }
        // What is on its way comes to its end; no turn begins another request.
        tasks.close();
        tasks.wait().await;
    }
}

async fn serve(turns: Arc<Turns>, seat: Seat, lease: Lease) {
    let webhook = lease.webhook;
    let ended = turns.run(lease).await;
    let seats = Arc::clone(&seat.seats);
    drop(seat);
    match ended {
        Ok(Ended::More) => seats.more.notify_one(),
        Ok(Ended::Idle) => {}
        // The lease runs out, and the endpoint is told again.
        Err(error) => {
            tracing::warn!(%webhook, %error, "could not finish an endpoint's turn");
            metrics::counter!("postrider_db_errors_total", "statement" => "webhook_turn")
                .increment(1);
        }
    }
}

/// Endpoints in hand.
#[derive(Debug, Default)]
struct Seats {
    all: AtomicUsize,
    failing: AtomicUsize,
    more: Notify,
}

impl Seats {
    /// How many more may be taken, of those that work and of those that fail.
    fn free(&self, places: usize) -> (usize, usize) {
        let failing = self.failing.load(Ordering::Relaxed);
        let for_failing = (places / 4).max(1).saturating_sub(failing);
        let free = places.saturating_sub(self.all.load(Ordering::Relaxed));
        (free, for_failing.min(free))
    }
}

/// One endpoint in hand.
struct Seat {
    seats: Arc<Seats>,
    failing: bool,
}

impl Seat {
    fn take(seats: &Arc<Seats>, failing: bool) -> Self {
        seats.all.fetch_add(1, Ordering::Relaxed);
        if failing {
            seats.failing.fetch_add(1, Ordering::Relaxed);
        }
        Self { seats: Arc::clone(seats), failing }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.all.fetch_sub(1, Ordering::Relaxed);
        if self.failing {
            self.seats.failing.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failing_endpoints_leave_most_places_to_the_others() {
        let seats = Arc::new(Seats::default());
        assert_eq!(seats.free(16), (16, 4));
        let held: Vec<Seat> = (0..4).map(|_| Seat::take(&seats, true)).collect();
        assert_eq!(seats.free(16), (12, 0));
        drop(held);
        assert_eq!(seats.free(1), (1, 1));
    }
}
