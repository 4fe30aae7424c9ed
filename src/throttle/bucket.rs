//! Token bucket (GCRA), pure: no clock, no lock, no quota of its own.
//!
//! The whole state is one number: the time at which the bucket was empty. The
//! level is what has flowed in since, at the rate given with each call, and
//! never more than the burst given with each call. So a change of the quota
//! needs no conversion: an empty bucket stays empty under any quota, and the
//! next token comes at the new rate.
//!
//! (The usual form keeps the theoretical arrival time; it lies one burst after
//! ours. Written that way, a change of the burst would create or destroy tokens.)

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How much may flow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quota {
    /// Tokens per second; 0 lets nothing through.
    pub rate: f64,
    /// Tokens that gather in a pause, at least 1. Only whole tokens can be taken;
    /// a fraction above lets a late taker catch up with what it missed.
    pub burst: f64,
}

/// Tokens of one key. Times are nanoseconds on any one monotonic scale; a scale
/// that starts far above 0 makes a new bucket a full one.
#[derive(Debug, Default)]
pub struct Bucket {
    empty_at: AtomicU64,
}

impl Bucket {
    /// Tokens that could be taken now.
    pub fn available(&self, now: u64, quota: Quota) -> u32 {
        quota.affordable(now.saturating_sub(self.settled(now, quota)))
    }

    /// Takes `n` tokens, or none when fewer are there. Returns whether it did.
    pub fn take(&self, now: u64, quota: Quota, n: u32) -> bool {
        let cost = quota.cost(n);
        self.empty_at
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |empty_at| {
                let after = empty_at.max(quota.full_since(now)).saturating_add(cost);
                (after <= now || n == 0).then_some(after)
            })
            .is_ok()
    }

    /// Gives back `n` tokens that were taken and not used. The level never
    /// rises above the burst: what is too much runs over.
    pub fn refund(&self, quota: Quota, n: u32) {
        let value = quota.value(n);
        // The closure always answers, so the update cannot fail.
        let _ = self.empty_at.fetch_update(Ordering::AcqRel, Ordering::Acquire, |empty_at| {
            Some(empty_at.saturating_sub(value))
        });
    }

    /// Time until `n` tokens are there (at most a burst: more never are).
    pub fn next(&self, now: u64, quota: Quota, n: u32) -> Duration {
        let n = n.min(quota.whole_burst());
        let due = self.settled(now, quota).saturating_add(quota.cost(n));
        Duration::from_nanos(due.saturating_sub(now))
    }

    /// Whether a burst is there: nothing would be forgotten with this bucket.
    pub fn is_full(&self, now: u64, quota: Quota) -> bool {
        self.empty_at.load(Ordering::Acquire) <= quota.full_since(now)
    }

    /// When it was empty, once what has run over is gone.
    fn settled(&self, now: u64, quota: Quota) -> u64 {
        self.empty_at.load(Ordering::Acquire).max(quota.full_since(now))
    }
}

impl Quota {
    /// The most that can be taken at once.
    pub fn whole_burst(self) -> u32 {
        self.burst as u32
    }

    /// Nanoseconds in which `n` tokens flow in, rounded up: never too fast.
    pub(super) fn cost(self, n: u32) -> u64 {
        self.nanos(f64::from(n)).ceil() as u64
    }

    /// The same rounded down, for giving back: never too much.
    pub(super) fn value(self, n: u32) -> u64 {
        self.nanos(f64::from(n)).floor() as u64
    }

    /// A rate of 0 makes this infinite (and no token at all still 0), which the
    /// conversions above turn into the largest number.
    fn nanos(self, tokens: f64) -> f64 {
        if tokens > 0.0 { tokens * 1e9 / self.rate.max(0.0) } else { 0.0 }
    }

    /// A bucket that was empty at this time or before is full now.
    fn full_since(self, now: u64) -> u64 {
        now.saturating_sub(self.nanos(self.burst).ceil() as u64)
    }

    /// The most tokens that cost no more than `nanos`.
    fn affordable(self, nanos: u64) -> u32 {
        let guess = (nanos as f64 * self.rate.max(0.0) / 1e9) as u32;
        // The division may be off by one either way.
        let n = guess.saturating_add(1).min(self.whole_burst());
        (n.saturating_sub(2)..=n).rev().find(|n| self.cost(*n) <= nanos).unwrap_or(0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const START: u64 = 1 << 62;
    const SECOND: u64 = 1_000_000_000;

    fn quota(rate: f64, burst: impl Into<f64>) -> Quota {
        Quota { rate, burst: burst.into() }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Pause(u64),
        Take(u32),
        /// Gives back some of what is held.
        Refund(u32),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0..3 * SECOND).prop_map(Step::Pause),
            (0..SECOND / 100).prop_map(Step::Pause),
            (1..40u32).prop_map(Step::Take),
            (1..5u32).prop_map(Step::Refund),
        ];
        prop::collection::vec(step, 1..200)
    }

    proptest! {
        #[test]
        fn no_span_grants_more_than_rate_and_burst(
            steps in steps(), rate in 0.1..20_000f64, burst in 1.0..500f64,
        ) {
            let (bucket, quota) = (Bucket::default(), quota(rate, burst));
            let mut now = START;
            let mut grants: Vec<(u64, u32)> = Vec::new();
            for step in steps {
                match step {
                    Step::Pause(nanos) => now += nanos,
                    Step::Take(n) => {
                        let n = n.min(bucket.available(now, quota));
                        prop_assert!(bucket.take(now, quota, n));
                        grants.push((now, n));
                    }
                    Step::Refund(_) => {}
                }
            }
            for (first, (from, _)) in grants.iter().enumerate() {
                let mut sum = 0;
                for (to, n) in &grants[first..] {
                    sum += n;
                    let most = rate * ((to - from) as f64 / 1e9) + burst;
                    prop_assert!(f64::from(sum) <= most + 1e-4, "{sum} > {most}");
                }
            }
        }

        #[test]
        fn a_refund_restores_at_most_what_was_taken(
            steps in steps(), rate in 0.1..20_000f64, burst in 1.0..500f64,
        ) {
            let (bucket, quota) = (Bucket::default(), quota(rate, burst));
            let (mut now, mut held) = (START, 0u32);
            let mut kept = 0u64;
            for step in steps {
                match step {
                    Step::Pause(nanos) => now += nanos,
                    Step::Take(n) => {
                        let n = n.min(bucket.available(now, quota));
                        prop_assert!(bucket.take(now, quota, n));
                        held += n;
                        kept += u64::from(n);
                    }
                    Step::Refund(n) => {
                        let n = n.min(held);
                        let before = bucket.available(now, quota);
                        bucket.refund(quota, n);
                        held -= n;
                        kept -= u64::from(n);
                        let after = bucket.available(now, quota);
                        prop_assert!(f64::from(after) <= burst && after <= before + n);
                    }
                }
            }
            let most = rate * ((now - START) as f64 / 1e9) + burst;
            prop_assert!(kept as f64 <= most + 1e-4);
        }

        #[test]
        fn what_is_available_can_be_taken_and_no_more(
            rate in 0.001..1e6f64, burst in 1..10_000u32, taken in 0..10_000u32, pause in 0..SECOND,
        ) {
            let (bucket, quota) = (Bucket::default(), quota(rate, burst));
            prop_assert!(bucket.take(START, quota, taken.min(burst)));
            let now = START + pause;
            let n = bucket.available(now, quota);
            prop_assert!(n <= burst);
            prop_assert!(!bucket.take(now, quota, n + 1));
            prop_assert!(bucket.take(now, quota, n));
            // The next one is there exactly when it was promised.
            let wait = bucket.next(now, quota, 1).as_nanos() as u64;
            prop_assert!(wait > 0);
            prop_assert!(!bucket.take(now + wait - 1, quota, 1));
            prop_assert!(bucket.take(now + wait, quota, 1));
        }

        #[test]
        fn a_new_quota_fills_no_empty_bucket(
            old_rate in 0.001..1e5f64, old_burst in 1..1000u32,
            new_rate in 0.001..1e5f64, new_burst in 1..1000u32,
        ) {
            let (old, new) = (quota(old_rate, old_burst), quota(new_rate, new_burst));
            let bucket = Bucket::default();
            prop_assert!(bucket.take(START, old, old_burst));
            prop_assert_eq!(bucket.available(START, new), 0);
            let one = Duration::from_nanos(new.cost(1));
            prop_assert_eq!(bucket.next(START, new, 1), one);
        }
    }

    #[test]
    fn a_rate_of_zero_stops_everything_and_breaks_nothing() {
        let (bucket, stop) = (Bucket::default(), quota(0.0, 1));
        assert_eq!(bucket.available(START, stop), 0);
        assert!(!bucket.take(START, stop, 1));
        assert!(bucket.take(START, stop, 0));
        assert!(bucket.next(START, stop, 1) > Duration::from_secs(1 << 30));
        assert_eq!(bucket.available(START, quota(1.0, 1)), 1);
    }

    #[test]
    fn threads_never_overdraw() {
        let (bucket, quota) = (Bucket::default(), quota(1.0, 1000));
        let taken: u32 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        (0..2000).map(|_| u32::from(bucket.take(START, quota, 1))).sum::<u32>()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(taken, 1000);
    }
}
