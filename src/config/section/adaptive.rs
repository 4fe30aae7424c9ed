//! `[adaptive]`: how the pace follows what receivers answer (docs/throttling.md).

use std::time::Duration;

use crate::config::reader::Reader;
use crate::config::unit;

/// How the pace adapts, and when a host that does not answer is left alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Adaptive {
    /// Whether the pace follows the receivers at all (true). Breakers work in any case.
    pub enabled: bool,
    /// Over how long what receivers answer is put together (2s).
    pub window: Duration,
    /// Part of the tries, from 0 to 1, that may be deferred before the pace goes down although
    /// no reply asked for it (0.3).
    pub deferral_ratio: f64,
    /// The slowest pace that may be learned, deliveries per second (`"1/min"`).
    pub floor: f64,
    /// The fastest pace of a receiver once one is learned, deliveries per second; `None`: no
    /// other limit than the configured ones.
    pub ceiling: Option<f64>,
    /// Part of what the receiver took, from 0 to 1, at which the pace rests (0.9).
    pub headroom: f64,
    /// First wait before more is tried than the receiver took last; doubled each time it
    /// refuses again, up to six times that (15s).
    pub probe: Duration,
    /// A pace that was not refused for so long is forgotten (1h).
    pub forget: Duration,
    /// Failures in a row to reach a host before it is left alone (5).
    pub breaker_failures: u32,
    /// First time for which it is left alone; doubled each time up to the longest (10s).
    pub breaker_first: Duration,
    /// The longest (5m).
    pub breaker_longest: Duration,
}

impl Default for Adaptive {
    fn default() -> Self {
        Self {
            enabled: true,
            window: Duration::from_secs(2),
            deferral_ratio: 0.3,
            floor: 1.0 / 60.0,
            ceiling: None,
            headroom: 0.9,
            probe: Duration::from_secs(15),
            forget: Duration::from_secs(3_600),
            breaker_failures: 5,
            breaker_first: Duration::from_secs(10),
            breaker_longest: Duration::from_secs(300),
        }
    }
}

impl Adaptive {
    pub(in crate::config) fn read(section: Reader<'_>) -> Self {
        let default = Self::default();
        let (milli, hour) = (Duration::from_millis(1), Duration::from_secs(3_600));
        let rate = |key| {
            section.value(key, "a rate like \"1/min\" or \"50/s\"", |node| unit::rate(node.text()?))
        };
        let time = |key, default, range| section.duration(key, default, range);
        let adaptive = Self {
            enabled: section.switch("enabled", default.enabled),
            window: time("window", default.window, 100 * milli..=hour / 60),
            deferral_ratio: section.number("deferral_ratio", default.deferral_ratio, 0.01..=1.0),
            floor: rate("floor").unwrap_or(default.floor),
            ceiling: rate("ceiling"),
            headroom: section.number("headroom", default.headroom, 0.5..=0.99),
            probe: time("probe", default.probe, 100 * milli..=hour),
            forget: time("forget", default.forget, milli * 1_000..=24 * 30 * hour),
            breaker_failures: section.integer(
                "breaker_failures",
                default.breaker_failures,
                1..=1_000,
            ),
            breaker_first: time("breaker_first", default.breaker_first, milli * 10..=hour),
            breaker_longest: time(
                "breaker_longest",
                default.breaker_longest,
                milli * 10..=24 * hour,
            ),
        };
        if adaptive.ceiling.is_some_and(|ceiling| ceiling < adaptive.floor) {
            section.fault("ceiling", "must not be below adaptive.floor");
        }
        if adaptive.breaker_longest < adaptive.breaker_first {
            section.fault("breaker_longest", "must not be below adaptive.breaker_first");
        }
        section.end();
        adaptive
    }
}
