//! How many deliveries may have an intent before they have a connection (pure).
//!
//! Enough that connections do not stand still during a commit, and no more: every one of
//! them is in doubt when this process dies. What is needed is what a host takes in the time
//! that an intent takes, which is measured; a slow host or a fast disk needs next to nothing.
//! While it is the intents that hold the host up, the answer grows from window to window.
//! Where a peer takes the next envelope behind a body, each connection has use for one more.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Deliveries with an intent for each connection that a host may have, at most; those that
/// are being sent included (docs/adr/0011).
pub const MOST_PER_CONNECTION: u32 = 8;

/// What is measured before the number is set anew.
const WINDOW: Duration = Duration::from_millis(50);

/// More than the mean, because intents come in batches.
const SLACK: f64 = 1.5;

/// What deliveries to one host report.
#[derive(Debug, Default)]
pub struct Meter {
    sent: AtomicU32,
    follow: AtomicU32,
    declared: AtomicU32,
    declaring_micros: AtomicU64,
}

impl Meter {
    /// An intent took so long to become durable.
    pub fn declared(&self, took: Duration) {
        self.declared.fetch_add(1, Ordering::Relaxed);
        self.declaring_micros.fetch_add(took.as_micros() as u64, Ordering::Relaxed);
    }

    /// A delivery with an intent is over.
    pub fn sent(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    /// The next one's envelope could follow its body at once.
    pub fn could_be_followed(&self) {
        self.follow.fetch_add(1, Ordering::Relaxed);
    }
}

/// The number for one host, and since when it is measured anew.
#[derive(Debug)]
pub struct Ahead {
    number: u32,
    /// Whether connections to the host take the next envelope behind a body.
    follows: bool,
    since: Instant,
}

impl Ahead {
    /// For a host of which nothing is known.
    pub fn new(connections: u32, now: Instant) -> Self {
        Self { number: least(connections, false), follows: false, since: now }
    }

    /// Deliveries that may have an intent at `now`: `connections` of them, and those ahead.
    pub fn turns(&mut self, connections: u32, meter: &Meter, now: Instant) -> u32 {
        let elapsed = now.saturating_duration_since(self.since);
        if elapsed >= WINDOW {
            self.since = now;
            let sent = meter.sent.swap(0, Ordering::Relaxed);
            let follow = meter.follow.swap(0, Ordering::Relaxed);
            if sent > 0 {
                self.follows = follow > sent / 4;
            }
            let declared = meter.declared.swap(0, Ordering::Relaxed);
            let micros = meter.declaring_micros.swap(0, Ordering::Relaxed);
            let taken = f64::from(sent) / elapsed.as_secs_f64();
            let each = micros as f64 / 1e6 / f64::from(declared.max(1));
            self.number = (SLACK * taken * each).ceil() as u32;
        }
        let most = connections.saturating_mul(MOST_PER_CONNECTION - 1);
        connections.saturating_add(self.number.clamp(least(connections, self.follows), most))
    }
}

/// One for each connection that takes it behind what it is sending; else a quarter of them.
fn least(connections: u32, follows: bool) -> u32 {
    if follows { connections } else { (connections / 4).max(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Windows of a host that takes at most `rate` a second from those that have leave, with
    /// commits of `commit`.
    fn settle(connections: u32, rate: f64, commit: Duration) -> u32 {
        let (mut now, meter) = (Instant::now(), Meter::default());
        let mut ahead = Ahead::new(connections, now);
        let mut turns = ahead.turns(connections, &meter, now);
        for _window in 0..40 {
            now += WINDOW;
            let by_intents = f64::from(turns - connections) / commit.as_secs_f64();
            let taken = (rate.min(by_intents) * WINDOW.as_secs_f64()).round() as u32;
            for _ in 0..taken {
                meter.declared(commit);
                meter.sent();
            }
            turns = ahead.turns(connections, &meter, now);
        }
        turns
    }

    #[test]
    fn what_a_host_takes_during_a_commit_is_ahead() {
        let milli = Duration::from_millis;
        // 20,000 a second, 4 ms: 80 are taken during a commit, and half as much again.
        assert_eq!(settle(50, 20_000.0, milli(4)), 50 + 120);
        assert_eq!(settle(50, 20.0, milli(4)), 50 + 12, "a slow host: the least");
        assert_eq!(settle(1, 20.0, milli(4)), 2);
        assert_eq!(settle(50, 100_000.0, milli(50)), 400, "never more than the most");
    }

    #[test]
    fn a_host_that_takes_envelopes_behind_bodies_has_one_more_for_each_connection() {
        let (mut now, meter) = (Instant::now(), Meter::default());
        let mut ahead = Ahead::new(40, now);
        assert_eq!(ahead.turns(40, &meter, now), 50);
        for _ in 0..10 {
            meter.sent();
            meter.could_be_followed();
        }
        now += WINDOW;
        assert_eq!(ahead.turns(40, &meter, now), 80);
        now += WINDOW;
        assert_eq!(ahead.turns(40, &meter, now), 80, "nothing was sent: as before");
        meter.sent();
        now += WINDOW;
        assert_eq!(ahead.turns(40, &meter, now), 50);
    }

    #[test]
    fn nothing_is_set_anew_within_a_window() {
        let (now, meter) = (Instant::now(), Meter::default());
        let mut ahead = Ahead::new(10, now);
        for _ in 0..100 {
            meter.declared(WINDOW);
            meter.sent();
        }
        assert_eq!(ahead.turns(10, &meter, now + WINDOW / 2), 12);
        assert_eq!(ahead.turns(10, &meter, now + WINDOW), 80);
    }
}
