//! How the tokens of a limit are dealt out to the replicas (pure).
//!
//! The cluster keeps one number for a rate: the release of the last token that was
//! dealt. A slab is the next few releases after it, one every `1/rate`, at most
//! [`AHEAD`] from now. Every token of the cluster so has a time of its own, and the
//! slabs of all replicas interleave.
//!
//! The bound: a token is used at its release or up to `lateness` after it, and that is
//! what the burst is worth beyond its first token. The tokens used in a span were
//! therefore released in the span or `lateness` before it: at most
//! `rate x span + burst`. A part of the lateness is the [`hold`] (the replica's time to
//! use a token); the rest is the [`bank`] (how far behind the clock a slab may begin,
//! so that a pause saves tokens).
//!
//! `postrider.throttle_deal` says the same in SQL, with the database's clock; a test
//! compares the two number by number.

use super::bucket::Quota;

/// How far ahead tokens are dealt, in nanoseconds: what a killed replica may cost.
pub const AHEAD: i64 = 150_000_000;

/// The longest hold, but for slow limits: others wait for what is held in vain.
const HOLD: i64 = 250_000_000;

/// A burst below this, or below one token and what flows in in so many seconds, leaves no
/// time to use a token in: it counts as that.
const LEAST_BURST: f64 = 1.25;
const LEAST_LATENESS: f64 = 0.05;

/// Longer than any time here, and far from overflow.
const FOR_EVER: u64 = 4_000_000_000_000_000_000;

/// What a replica asks for one rate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ask {
    /// Tokens wanted.
    pub want: u32,
    /// Unused tokens at the end of the replica's last slab.
    pub back: u32,
    /// Where that slab ended. Nothing is taken back if somebody was dealt tokens since.
    pub back_tail: i64,
}

/// The answer: token `k` (from 1) is released at `start + cost(k)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slab {
    /// Tokens, at most as many as wanted.
    pub n: u32,
    /// Release of the token before the first.
    pub start: i64,
    /// Release of the last token dealt to anyone.
    pub tail: i64,
}

/// Deals from `tail`, the release of the last token so far; `None`: of a key that nobody
/// has used yet (or that the database forgot).
pub fn deal(tail: Option<i64>, now: i64, quota: Quota, ask: Ask) -> Slab {
    let one = cost(quota, 1);
    let floor = now - bank(quota) - one;
    let mut start = tail.unwrap_or(floor);
    // A clock that was set back must not stop the key until it has caught up.
    if start > now + AHEAD + 1_000_000_000 {
        start = now + AHEAD;
    }
    if ask.back > 0 && tail == Some(ask.back_tail) {
        start -= quota.value(ask.back).min(FOR_EVER) as i64;
    }
    start = start.max(floor);
    let room = now + AHEAD - start;
    let mut n = (room.max(0) as f64 * quota.rate / 1e9).floor() as u32;
    n = n.saturating_add(1).min(ask.want);
    while n > 0 && cost(quota, n) > room {
        n -= 1;
    }
    Slab { n, start, tail: start + cost(quota, n) }
}

/// Nanoseconds from one token to the `n`th after it.
pub(super) fn cost(quota: Quota, n: u32) -> i64 {
    quota.cost(n).min(FOR_EVER) as i64
}

/// What the burst counts as.
fn worth(quota: Quota) -> f64 {
    quota.burst.max(LEAST_BURST).max(1.0 + quota.rate * LEAST_LATENESS)
}

/// How long after its release a token may be used at most.
fn lateness(quota: Quota) -> i64 {
    ((worth(quota) - 1.0) * 1e9 / quota.rate).floor().min(FOR_EVER as f64) as i64
}

/// How long a replica may hold a token after its release: then it is void.
pub(super) fn hold(quota: Quota) -> i64 {
    let late = lateness(quota);
    let most = if quota.burst < 2.0 { late } else { late / 4 * 3 };
    most.min(HOLD.max(cost(quota, 1) / 8))
}

/// How far behind the clock a slab may begin.
fn bank(quota: Quota) -> i64 {
    lateness(quota) - hold(quota)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::throttle::stock::Stock;
    use proptest::prelude::*;

    const MILLI: u64 = 1_000_000;
    const START: u64 = 1 << 62;

    #[derive(Debug, Clone)]
    enum Step {
        Pause(u64),
        /// A replica asks; its answer takes so long.
        Exchange(usize, u64),
        /// A replica takes up to so many tokens, and gives every so-manieth back unused.
        Take(usize, u32, usize),
        /// A replica is killed; another stands in its place.
        Kill(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0..30 * MILLI).prop_map(Step::Pause),
            (0..1_000 * MILLI).prop_map(Step::Pause),
            (0..3usize, 0..20 * MILLI).prop_map(|(who, took)| Step::Exchange(who, took)),
            (0..3usize, 0..20 * MILLI).prop_map(|(who, took)| Step::Exchange(who, took)),
            (0..3usize, 1..60u32, 1..9usize).prop_map(|(who, n, k)| Step::Take(who, n, k)),
            (0..3usize, 1..60u32, 1..9usize).prop_map(|(who, n, k)| Step::Take(who, n, k)),
            (0..3usize).prop_map(Step::Kill),
        ];
        prop::collection::vec(step, 1..250)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]
        #[test]
        fn no_span_grants_more_than_rate_and_burst(
            steps in steps(),
            rate in prop_oneof![0.05..20.0f64, 1.0..5_000.0f64],
            burst in prop_oneof![Just(1.0), 1.0..4.0f64, 1.0..300.0f64],
        ) {
            let quota = Quota { rate, burst };
            let mut now = START;
            let mut tail = None;
            let mut replicas = [Stock::default(), Stock::default(), Stock::default()];
            let mut used: Vec<u64> = Vec::new();
            for step in steps {
                match step {
                    Step::Pause(nanos) => now += nanos,
                    Step::Exchange(who, took) => {
                        let sent = now;
                        if let Some(ask) = replicas[who].ask(sent, quota) {
                            // The database looks at its clock somewhere on the way.
                            let there = (sent - START + took / 2) as i64;
                            let slab = deal(tail, there, quota, ask);
                            tail = Some(slab.tail);
                            now += took;
                            let ahead = slab.start - there;
                            replicas[who].receive(sent, now, quota, slab, ahead);
                        }
                    }
                    Step::Take(who, want, every) => {
                        let n = want.min(replicas[who].available(now, quota));
                        let tokens = replicas[who].take(now, quota, n).unwrap();
                        for (at, token) in tokens.into_iter().enumerate() {
                            if (at + 1) % every == 0 && every > 1 {
                                replicas[who].refund(token);
                            } else {
                                used.push(now);
                            }
                        }
                        if n < want {
                            replicas[who].starve(now);
                        }
                    }
                    Step::Kill(who) => replicas[who] = Stock::default(),
                }
            }
            // The most of "tokens in a span, less what flows in in it", over all spans.
            let (mut open, mut most) = (f64::MIN, f64::MIN);
            for (n, at) in used.iter().enumerate() {
                let flowed = rate * ((at - START) as f64 / 1e9);
                open = open.max(flowed - n as f64);
                most = most.max(open + n as f64 + 1.0 - flowed);
            }
            prop_assert!(most <= worth(quota) + 1e-4, "{most} beyond the rate");
        }
    }

    #[test]
    fn one_replica_alone_gets_the_whole_rate() {
        for rate in [2.0, 7.0, 50.0, 200.0, 3_000.0] {
            let quota = Quota { rate, burst: (rate / 10.0).max(1.0) };
            let (mut stock, mut tail) = (Stock::default(), None);
            let (mut used, mut asked) = (0u32, 0u64);
            for milli in 0..20_000u64 {
                let now = START + milli * MILLI;
                let n = stock.available(now, quota);
                used += stock.take(now, quota, n).unwrap().len() as u32;
                stock.starve(now);
                if stock.due(now, quota).is_some_and(|due| due <= now) && now >= asked + 20 * MILLI
                {
                    asked = now;
                    if let Some(ask) = stock.ask(now, quota) {
                        let there = (milli * MILLI) as i64;
                        let slab = deal(tail, there, quota, ask);
                        tail = Some(slab.tail);
                        stock.receive(now, now, quota, slab, slab.start - there);
                    }
                }
            }
            let share = f64::from(used) / (rate * 20.0);
            assert!((0.98..=1.03).contains(&share), "{share} of {rate}/s");
        }
    }

    #[test]
    fn a_slab_that_nobody_followed_goes_back() {
        let quota = Quota { rate: 100.0, burst: 50.0 };
        let first = deal(None, 0, quota, Ask { want: 20, ..Ask::default() });
        assert_eq!(first.n, 20);
        let back = Ask { want: 0, back: 15, back_tail: first.tail };
        let after = deal(Some(first.tail), 0, quota, back);
        assert_eq!(after.tail, first.start + cost(quota, 5));
        let other = deal(Some(first.tail), 0, quota, Ask { want: 1, ..Ask::default() });
        let late = deal(Some(other.tail), 0, quota, back);
        assert_eq!(late.tail, other.tail, "somebody was dealt tokens behind them");
    }

    #[test]
    fn a_clock_set_back_stops_nothing() {
        let quota = Quota { rate: 100.0, burst: 10.0 };
        let hour = 3_600_000_000_000;
        let slab = deal(Some(hour), 0, quota, Ask { want: 5, ..Ask::default() });
        assert_eq!((slab.n, slab.start), (0, AHEAD));
    }
}
