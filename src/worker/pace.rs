//! How fast something goes, from a total that grows (pure).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Time over which a rate is taken.
pub const WINDOW: Duration = Duration::from_secs(30);

/// Least time between two samples, so that their number is bounded.
const APART: Duration = Duration::from_millis(900);

/// A rate over the last [`WINDOW`].
#[derive(Debug, Clone)]
pub struct Pace {
    /// When and how much, oldest first; the first may be older than the window.
    samples: VecDeque<(Instant, u64)>,
}

impl Pace {
    /// Begins with a total.
    pub fn new(now: Instant, total: u64) -> Self {
        Self { samples: VecDeque::from([(now, total)]) }
    }

    /// The total has become `total`.
    pub fn note(&mut self, now: Instant, total: u64) {
        if self.samples.back().is_some_and(|(at, _)| now.duration_since(*at) < APART) {
            return;
        }
        self.samples.push_back((now, total));
        while self.samples.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= WINDOW) {
            self.samples.pop_front();
        }
    }

    /// Per second, over the window or the time since the beginning.
    pub fn rate(&self) -> f64 {
        self.rate_over(WINDOW)
    }

    /// Per second, over the last `span` of the window.
    pub fn rate_over(&self, span: Duration) -> f64 {
        let Some((last, total)) = self.samples.back() else { return 0.0 };
        // The youngest sample that is at least that old, else the oldest.
        let from = self
            .samples
            .iter()
            .rev()
            .find(|(at, _)| last.duration_since(*at) >= span)
            .or_else(|| self.samples.front());
        let Some((first, before)) = from else { return 0.0 };
        let seconds = last.duration_since(*first).as_secs_f64();
        if seconds > 0.0 { total.saturating_sub(*before) as f64 / seconds } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_steady_flow_has_its_rate_and_memory_is_bounded(
            per_second in 0..10_000u64, seconds in 2..200u64,
        ) {
            let start = Instant::now();
            let mut pace = Pace::new(start, 0);
            for second in 1..=seconds {
                pace.note(start + Duration::from_secs(second), second * per_second);
            }
            prop_assert!((pace.rate() - per_second as f64).abs() < 1e-6);
            prop_assert!(pace.samples.len() <= 32);
        }
    }

    #[test]
    fn a_flow_that_ends_is_forgotten_within_the_window() {
        let start = Instant::now();
        let mut pace = Pace::new(start, 0);
        for second in 1..=10 {
            pace.note(start + Duration::from_secs(second), second * 100);
        }
        assert!((pace.rate() - 100.0).abs() < 1e-6);
        for second in 11..=40 {
            pace.note(start + Duration::from_secs(second), 1_000);
        }
        assert!(pace.rate() < 1e-6, "{}", pace.rate());
    }
}
