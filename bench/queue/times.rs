//! Percentiles of times that were measured one by one.

use std::time::Duration;

/// Sorted times.
#[derive(Debug, Default, Clone)]
pub(crate) struct Times(Vec<Duration>);

impl FromIterator<Duration> for Times {
    fn from_iter<I: IntoIterator<Item = Duration>>(times: I) -> Self {
        let mut all: Vec<Duration> = times.into_iter().collect();
        all.sort_unstable();
        Self(all)
    }
}

impl Times {
    /// How many.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Milliseconds that so many of a hundred do not pass (the nearest rank above).
    pub(crate) fn percentile(&self, percent: f64) -> f64 {
        let rank = (self.0.len() as f64 * percent / 100.0).ceil() as usize;
        let at = rank.clamp(1, self.0.len().max(1)) - 1;
        self.0.get(at).map_or(0.0, |time| time.as_secs_f64() * 1e3)
    }
}
