//! When what waits in a lane is expected to go (pure).
//!
//! A lane that moves goes on about as it did; that it is twice as fast or half as fast is
//! left open. A limit of the lane alone is never beaten. What does not move cannot be
//! foretold, and then that is said.

use crate::queue::backlog::Depth;

/// What is known of a lane's way forward.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Way {
    /// Deliveries of the lane a second, lately, over all replicas.
    pub lane_rate: f64,
    /// What the limit that binds allows a second, for everyone under it.
    pub limit_rate: Option<f64>,
    /// Seconds until the lane is asked again, where that is known.
    pub pause: f64,
}

/// Seconds from now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    /// Not before.
    pub earliest: f64,
    /// Likely by; `None`: cannot be said.
    pub latest: Option<f64>,
}

/// A lane that moves may become so much faster, or slower.
const FASTER: f64 = 2.0;
const SLOWER: f64 = 2.0;

/// What the steps of a delivery and of the polls take, in seconds.
const SLACK: f64 = 2.0;

/// When the delivery goes that has `before` before it.
pub fn span(before: Depth, way: Way) -> Span {
    let behind = before.count as f64;
    let fastest = match way.limit_rate {
        Some(rate) if rate > 0.0 => rate,
        _ if way.lane_rate > 0.0 => way.lane_rate * FASTER,
        _ => f64::INFINITY,
    };
    let earliest = way.pause.max(behind / fastest);
    // The slower of what was measured and what is allowed: the measured one may stem from a
    // time when the limit was another.
    let slowest = way.limit_rate.map_or(way.lane_rate, |rate| way.lane_rate.min(rate));
    let latest = if before.at_least {
        None
    } else if slowest > 0.0 {
        Some((way.pause + (behind + 1.0) / slowest * SLOWER + SLACK).max(earliest))
    } else if before.count == 0 && way.pause > 0.0 {
        // The next token is this delivery's.
        Some(way.pause * SLOWER + SLACK)
    } else {
        None
    };
    Span { earliest, latest }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_truth_lies_within_the_interval_when_the_lane_goes_on_as_it_did(
            before in 0..1_000_000u64, rate in 0.01..10_000.0f64, allowed in prop::option::of(1.0..10.0f64),
        ) {
            // A lane gets at most what its limit allows.
            let limit_rate = allowed.map(|times| rate * times);
            let way = Way { lane_rate: rate, limit_rate, pause: 0.0 };
            let Span { earliest, latest } = span(Depth::exact(before), way);
            let truth = before as f64 / rate;
            prop_assert!(earliest <= truth + 1e-6, "{earliest} {truth}");
            prop_assert!(latest.is_some_and(|latest| truth <= latest && earliest <= latest));
        }

        #[test]
        fn more_before_it_never_means_earlier(
            less in 0..1_000_000u64, more in 0..1_000_000u64, rate in 0.01..10_000.0f64,
        ) {
            let of = |before| span(Depth::exact(before), Way { lane_rate: rate, ..Way::default() });
            let (less, more) = (of(less.min(more)), of(less.max(more)));
            prop_assert!(less.earliest <= more.earliest && less.latest <= more.latest);
        }
    }

    #[test]
    fn what_does_not_move_is_not_foretold() {
        let still = span(Depth::exact(10), Way::default());
        assert_eq!((still.earliest, still.latest), (0.0, None));
        let next = span(Depth::exact(0), Way { pause: 30.0, ..Way::default() });
        assert_eq!((next.earliest, next.latest), (30.0, Some(62.0)));
        let many = Depth { count: 100_000, at_least: true, estimated: false };
        let many = span(many, Way { lane_rate: 100.0, ..Way::default() });
        assert_eq!((many.earliest, many.latest), (500.0, None));
    }
}
