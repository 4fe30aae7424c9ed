//! [`Seats`]: the connections that are open at once. When all are taken, the one that has been
//! quiet for longest makes room: callers keep connections open for later, and a caller with a
//! request must not wait for them, whoever holds them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::gauge;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A connection that had a request later than this does not make room: where all are busy, one
/// more waits its turn.
const QUIET: Duration = Duration::from_secs(1);

/// How long one that was asked to leave has, before another is asked.
const COURTESY: Duration = Duration::from_millis(50);

/// Between two lines in the log that say that all are taken.
const SILENCE: Duration = Duration::from_secs(60);

/// All of them.
#[derive(Debug)]
pub(super) struct Seats {
    most: usize,
    room: Arc<Semaphore>,
    /// What is done at the end of all: everybody is asked to leave.
    closing: CancellationToken,
    taken: Mutex<HashMap<u64, Arc<Taken>>>,
    next: AtomicU64,
    said: Mutex<Option<Instant>>,
}

/// One of them; free again when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    number: u64,
    seats: Arc<Seats>,
    this: Arc<Taken>,
    _permit: OwnedSemaphorePermit,
}

#[derive(Debug)]
struct Taken {
    leave: CancellationToken,
    usage: Mutex<Usage>,
}

#[derive(Debug)]
struct Usage {
    /// Requests without an answer.
    running: u32,
    /// Whether there ever was one.
    ever: bool,
    /// Since when it is as it is.
    since: Instant,
}

/// A request that runs.
#[derive(Debug)]
pub(super) struct Running(Arc<Taken>);

impl Seats {
    /// So many.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            room: Arc::new(Semaphore::new(most)),
            closing: CancellationToken::new(),
            taken: Mutex::default(),
            next: AtomicU64::new(0),
            said: Mutex::default(),
        })
    }

    /// A seat, as soon as there is one; where there is none, quiet connections are asked to leave.
    pub(super) async fn take(self: &Arc<Self>) -> Seat {
        let permit = loop {
            if let Ok(permit) = Arc::clone(&self.room).try_acquire_owned() {
                break permit;
            }
            self.say();
            if let Some(quiet) = self.quietest() {
                quiet.cancel();
            }
            let room = Arc::clone(&self.room).acquire_owned();
            if let Ok(Ok(permit)) = tokio::time::timeout(COURTESY, room).await {
                break permit;
            }
        };
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let usage = Mutex::new(Usage { running: 0, ever: false, since: Instant::now() });
        let this = Arc::new(Taken { leave: self.closing.child_token(), usage });
        {
            let mut taken = self.taken.lock();
            taken.insert(number, Arc::clone(&this));
            gauge!("postrider_api_connections").set(taken.len() as f64);
        }
        Seat { number, seats: Arc::clone(self), this, _permit: permit }
    }

    /// Asks everybody to leave, and waits until the last one has.
    pub(super) async fn close(&self) {
        self.closing.cancel();
        let all = u32::try_from(self.most).unwrap_or(u32::MAX);
        let _ = self.room.acquire_many(all).await;
    }

    /// Who has been quiet for longest, and long enough, and was not asked yet.
    fn quietest(&self) -> Option<CancellationToken> {
        let taken = self.taken.lock();
        let quiet = taken.values().filter(|one| !one.leave.is_cancelled());
        quiet
            .filter_map(|one| Some((one.quiet_since()?, one)))
            .min_by_key(|(since, _)| *since)
            .filter(|(since, _)| since.elapsed() >= QUIET)
            .map(|(_, one)| one.leave.clone())
    }

    fn say(&self) {
        let mut said = self.said.lock();
        if said.is_none_or(|at| at.elapsed() >= SILENCE) {
            *said = Some(Instant::now());
            tracing::warn!(
                connections = self.most,
                "all connections of api.max_connections are open; quiet ones are closed for new ones"
            );
        }
    }
}

impl Taken {
    /// `None`: a request runs.
    fn quiet_since(&self) -> Option<Instant> {
        let usage = self.usage.lock();
        (usage.running == 0).then_some(usage.since)
    }

    fn count(&self, change: impl FnOnce(u32) -> u32) {
        let mut usage = self.usage.lock();
        *usage = Usage { running: change(usage.running), ever: true, since: Instant::now() };
    }
}

impl Seat {
    /// Ends when the connection is asked to finish what it does and to leave.
    pub(super) fn asked_to_leave(&self) -> CancellationToken {
        self.this.leave.clone()
    }

    /// Whether nothing can be lost by closing it at once: it makes room, and in all its time not
    /// even the head of a request came in.
    pub(super) fn was_never_used(&self) -> bool {
        !self.seats.closing.is_cancelled() && !self.this.usage.lock().ever
    }

    /// What begins requests on it.
    pub(super) fn desk(&self) -> impl Fn() -> Running + Clone + use<> {
        let this = Arc::clone(&self.this);
        move || {
            this.count(|running| running + 1);
            Running(Arc::clone(&this))
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken.lock();
        taken.remove(&self.number);
        gauge!("postrider_api_connections").set(taken.len() as f64);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.count(|running| running.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_one_that_was_quiet_for_longest_makes_room() {
        let seats = Seats::new(3);
        let (first, second, busy) = (seats.take().await, seats.take().await, seats.take().await);
        let running = busy.desk()();
        tokio::time::sleep(QUIET * 2).await;
        // It was used since, so the second is the quietest, and the busy one is none.
        drop(first.desk()());
        tokio::time::sleep(QUIET).await;
        let waiting = tokio::spawn({
            let seats = Arc::clone(&seats);
            async move { seats.take().await }
        });
        second.asked_to_leave().cancelled().await;
        assert!(!first.asked_to_leave().is_cancelled());
        drop(second);
        let fresh = waiting.await.expect("a seat");
        assert!(!busy.asked_to_leave().is_cancelled() && !fresh.asked_to_leave().is_cancelled());
        drop(running);
    }

    #[tokio::test(start_paused = true)]
    async fn where_all_are_busy_one_more_waits() {
        let seats = Seats::new(1);
        let busy = seats.take().await;
        let running = busy.desk()();
        let more = tokio::time::timeout(QUIET * 20, seats.take()).await;
        assert!(more.is_err() && !busy.asked_to_leave().is_cancelled());
        drop(running);
        let more = tokio::time::timeout(QUIET / 2, seats.take()).await;
        assert!(more.is_err() && !busy.asked_to_leave().is_cancelled(), "it may ask again at once");
        drop(busy);
        seats.take().await;
    }

    #[tokio::test]
    async fn all_leave_in_the_end() {
        let seats = Seats::new(2);
        let seat = seats.take().await;
        let closed = tokio::spawn({
            let seats = Arc::clone(&seats);
            async move { seats.close().await }
        });
        seat.asked_to_leave().cancelled().await;
        assert!(!closed.is_finished());
        drop(seat);
        closed.await.expect("closed");
    }
}
