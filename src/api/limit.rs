//! How often one may ask: per key, and per address that shows wrong keys.

use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::error::Problem;
use crate::config::Api as Settings;

/// Wrong keys per second and address, and how many at once.
const FAILURES_PER_SECOND: NonZeroU32 = NonZeroU32::new(2).expect("not zero");
const FAILURES_AT_ONCE: NonZeroU32 = NonZeroU32::new(20).expect("not zero");

/// How often what is no longer needed is dropped.
const SWEEP: Duration = Duration::from_secs(60);

/// The limits of all callers. Bounded: what has recovered fully is forgotten.
#[derive(Debug)]
pub struct Limits {
    calls: DefaultKeyedRateLimiter<i64>,
    failures: DefaultKeyedRateLimiter<IpAddr>,
    refused: quick_cache::sync::Cache<IpAddr, std::time::Instant>,
    clock: DefaultClock,
}

/// Addresses remembered as refused.
const REFUSED: usize = 10_000;

impl Limits {
    /// Limits as configured.
    pub fn new(settings: &Settings) -> Self {
        let one = NonZeroU32::MIN;
        let calls = Quota::per_second(NonZeroU32::new(settings.calls_per_second).unwrap_or(one))
            .allow_burst(NonZeroU32::new(settings.calls_burst).unwrap_or(one));
        let failures = Quota::per_second(FAILURES_PER_SECOND).allow_burst(FAILURES_AT_ONCE);
        Self {
            calls: RateLimiter::keyed(calls),
            failures: RateLimiter::keyed(failures),
            refused: quick_cache::sync::Cache::new(REFUSED),
            clock: DefaultClock::default(),
        }
    }

    /// Drops what has recovered, now and then, for as long as the limits are used.
    pub fn sweep_in_background(self: &Arc<Self>) {
        let limits = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(SWEEP).await;
                let Some(limits) = limits.upgrade() else { return };
                shrink(&limits.calls);
                shrink(&limits.failures);
            }
        });
    }

    /// One call of this key; 429 when it is one too many.
    pub fn call(&self, key_id: i64) -> Result<(), Problem> {
        self.calls
            .check_key(&key_id)
            .map_err(|until| Problem::limited(until.wait_time_from(self.clock.now())))
    }

    /// Whether a key that is not known yet may be looked up for this address; 429
    /// when too many wrong ones came from it.
    pub fn may_try(&self, peer: IpAddr) -> Result<(), Problem> {
        match self.refused.get(&network(peer)) {
            Some(until) => match until.checked_duration_since(std::time::Instant::now()) {
                Some(wait) if !wait.is_zero() => Err(Problem::limited(wait)),
                _ => Ok(()),
            },
            None => Ok(()),
        }
    }

    /// A wrong key came from this address.
    pub fn failed(&self, peer: IpAddr) {
        let peer = network(peer);
        if let Err(until) = self.failures.check_key(&peer) {
            let wait = until.wait_time_from(self.clock.now());
            self.refused.insert(peer, std::time::Instant::now() + wait);
        }
    }
}

fn shrink<K: Hash + Eq + Clone>(limiter: &DefaultKeyedRateLimiter<K>) {
    limiter.retain_recent();
    limiter.shrink_to_fit();
}

/// Whom an address stands for: one IPv4 host, or one IPv6 network of 64 bits,
/// within which a single customer chooses freely.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(six) => {
            let [a, b, c, d, ..] = six.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        four @ IpAddr::V4(_) => four,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_that_asks_too_often_does_not_disturb_another() {
        let settings = Settings { calls_per_second: 1, calls_burst: 3, ..Settings::default() };
        let limits = Limits::new(&settings);
        let granted = (0..10).filter(|_| limits.call(1).is_ok()).count();
        assert_eq!(granted, 3);
        assert!(limits.call(2).is_ok());
    }

    #[test]
    fn wrong_keys_shut_out_their_address_only() {
        let limits = Limits::new(&Settings::default());
        let (bad, neighbour): (IpAddr, IpAddr) =
            ("2001:db8::1".parse().expect("ip"), "2001:db8::ffff".parse().expect("ip"));
        for _ in 0..=FAILURES_AT_ONCE.get() {
            assert!(limits.may_try(bad).is_ok());
            limits.failed(bad);
        }
        assert!(limits.may_try(bad).is_err());
        assert!(limits.may_try(neighbour).is_err(), "the same network");
        assert!(limits.may_try("192.0.2.1".parse().expect("ip")).is_ok());
    }
}
