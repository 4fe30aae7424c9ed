//! How long a delivery is put aside that cannot take its route while others of its lane go by
//! another (no I/O).
//!
//! A lane may be divided among routes, and a claim does not ask whose share a delivery is. What a
//! route has no room for comes back one after the other, twice as fast as the route takes them,
//! so that it is neither left without work nor asked for in vain too often; however many they
//! are, each is looked at twice in [`LONGEST`] at most (docs/adr/0029).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Longest time aside.
const LONGEST: Duration = Duration::from_secs(600);

/// Fewest that come back in a second.
const SLOWEST: f64 = 20.0;

/// Over which span it is counted how fast a route takes them.
const SPAN: Duration = Duration::from_secs(5);

/// Deliveries of a route that may wait for its limits in hand: enough to bring what is there for
/// the taking, few enough to leave the places to the others.
const PATIENT: u32 = 4;

/// The lines of all routes, as this process sees them.
#[derive(Debug, Default)]
pub struct Aside(Mutex<HashMap<Arc<str>, Line>>);

#[derive(Debug)]
struct Line {
    /// When the last of the line comes back.
    end: Instant,
    /// Deliveries that had room since `from`, and how many there were a second before that.
    taken: u32,
    from: Instant,
    lately: f64,
    patient: Arc<AtomicU32>,
}

/// Leave to wait in hand.
#[derive(Debug)]
pub struct Patient(Arc<AtomicU32>);

impl Drop for Patient {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Line {
    fn new(now: Instant) -> Self {
        Self { end: now, taken: 0, from: now, lately: 0.0, patient: Arc::default() }
    }

    fn roll(&mut self, now: Instant) {
        let span = now.saturating_duration_since(self.from);
        if span >= SPAN {
            self.lately = f64::from(self.taken) / span.as_secs_f64();
            (self.taken, self.from) = (0, now);
        }
    }
}

impl Aside {
    /// A delivery of a lane that is divided had room on its route.
    pub fn had_room(&self, route: &Arc<str>, now: Instant) {
        // Only what somebody waits for is counted.
        if let Some(line) = self.0.lock().get_mut(route) {
            line.roll(now);
            line.taken += 1;
        }
    }

    /// Leave to wait a moment for room, for a few at a time.
    pub fn patient(&self, route: &Arc<str>, now: Instant) -> Option<Patient> {
        let mut lines = self.0.lock();
        let line = lines.entry(Arc::clone(route)).or_insert_with(|| Line::new(now));
        let more = |waiting| (waiting < PATIENT).then_some(waiting + 1);
        let patient = &line.patient;
        patient.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        Some(Patient(Arc::clone(patient)))
    }

    /// How long one waits that had none: at least `least`. `draw` is even in 0..1 and spreads
    /// those at the end of a long line.
    pub fn wait(&self, route: &Arc<str>, least: Duration, draw: f64, now: Instant) -> Duration {
        let mut lines = self.0.lock();
        let line = lines.entry(Arc::clone(route)).or_insert_with(|| Line::new(now));
        line.roll(now);
        let since = now.saturating_duration_since(line.from).max(SPAN);
        let rate = line.lately.max(f64::from(line.taken) / since.as_secs_f64());
        let step = Duration::from_secs_f64(1.0 / (2.0 * rate).max(SLOWEST));
        line.end = (line.end.max(now) + step).min(now + LONGEST);
        let place = line.end - now;
        if place >= LONGEST {
            return least.max(LONGEST.mul_f64(0.5 + 0.5 * draw));
        }
        least + place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_come_back_one_after_the_other_and_none_is_away_for_long() {
        let (aside, route, now) = (Aside::default(), Arc::from("relay"), Instant::now());
        let least = Duration::from_secs(1);
        let waits: Vec<Duration> =
            (0..50_000).map(|_| aside.wait(&route, least, 0.5, now)).collect();
        assert_eq!(waits[0], least + Duration::from_millis(50));
        assert_eq!(waits[19], least + Duration::from_secs(1));
        assert!(waits.iter().all(|wait| (least..=least + LONGEST).contains(wait)));
        assert_eq!(waits[49_999], LONGEST.mul_f64(0.75), "spread over the later half");
        let later = now + LONGEST;
        assert_eq!(aside.wait(&route, least, 0.5, later), least + Duration::from_millis(50));
    }

    #[test]
    fn a_fast_route_is_never_without_work() {
        let (aside, route, mut now) = (Aside::default(), Arc::from("relay"), Instant::now());
        aside.wait(&route, Duration::ZERO, 0.5, now);
        for _ in 0..1_000 {
            now += Duration::from_millis(10);
            aside.had_room(&route, now);
        }
        let first = aside.wait(&route, Duration::ZERO, 0.5, now);
        assert!(first <= Duration::from_millis(6), "100 a second go, 200 come back: {first:?}");
    }

    #[test]
    fn only_a_few_wait_in_hand() {
        let (aside, route, now) = (Aside::default(), Arc::from("relay"), Instant::now());
        let waiting: Vec<_> = (0..PATIENT).filter_map(|_| aside.patient(&route, now)).collect();
        assert_eq!(waiting.len(), PATIENT as usize);
        assert!(aside.patient(&route, now).is_none());
        assert!(aside.patient(&Arc::from("other"), now).is_some());
        drop(waiting);
        assert!(aside.patient(&route, now).is_some());
    }
}
