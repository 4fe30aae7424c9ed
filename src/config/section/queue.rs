//! `[queue]`: how work is claimed, settled and rescued.

use std::time::Duration;

use crate::config::reader::Reader;

/// The queue's pace and patience.
#[derive(Debug, Clone, PartialEq)]
pub struct Queue {
    /// Most deliveries one claim takes (500).
    pub claim_batch: u32,
    /// How often an idle daemon looks for work when nothing wakes it (100 ms, jittered).
    pub poll_interval: Duration,
    /// Most outcomes written in one settlement (500).
    pub settle_batch: u32,
    /// Longest wait of an outcome before its settlement is written (10 ms).
    pub settle_delay: Duration,
    /// How often a session shows that it lives (5 s).
    pub beat_interval: Duration,
    /// Silence after which a session is fenced and its work rescued (20 s).
    pub session_ttl: Duration,
    /// Wait before work in doubt is sent again; what was not sent goes back at once (30 s).
    pub rescue_delay: Duration,
    /// Attempts after which a delivery whose worker keeps dying becomes a dead letter (5).
    pub max_interruptions: u16,
    /// How often the hot tables change generation (5 min).
    pub generation_switch: Duration,
    /// How long messages and deliveries are kept (45 days; unsubscribe links live as long).
    pub retention: Duration,
    /// How long attempts are kept; not less than `retention` (as `retention`).
    pub history_retention: Duration,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            claim_batch: 500,
            poll_interval: Duration::from_millis(100),
            settle_batch: 500,
            settle_delay: Duration::from_millis(10),
            beat_interval: Duration::from_secs(5),
            session_ttl: Duration::from_secs(20),
            rescue_delay: Duration::from_secs(30),
            max_interruptions: 5,
            generation_switch: Duration::from_secs(300),
            retention: Duration::from_secs(45 * 86_400),
            history_retention: Duration::from_secs(45 * 86_400),
        }
    }
}

impl Queue {
    pub(in crate::config) fn read(section: Reader<'_>) -> Self {
        let default = Self::default();
        let (milli, second) = (Duration::from_millis(1), Duration::from_secs(1));
        let (hour, day) = (second * 3_600, second * 86_400);
        let retention = section.duration("retention", default.retention, hour..=day * 3_650);
        let queue = Self {
            claim_batch: section.integer("claim_batch", default.claim_batch, 1..=10_000),
            poll_interval: section.duration(
                "poll_interval",
                default.poll_interval,
                milli * 5..=second * 60,
            ),
            settle_batch: section.integer("settle_batch", default.settle_batch, 1..=10_000),
            settle_delay: section.duration("settle_delay", default.settle_delay, milli..=second),
            beat_interval: section.duration(
                "beat_interval",
                default.beat_interval,
                milli * 100..=second * 60,
            ),
            session_ttl: section.duration("session_ttl", default.session_ttl, second..=hour),
            rescue_delay: section.duration(
                "rescue_delay",
                default.rescue_delay,
                Duration::ZERO..=hour,
            ),
            max_interruptions: section.integer(
                "max_interruptions",
                default.max_interruptions,
                1..=1_000,
            ),
            generation_switch: section.duration(
                "generation_switch",
                default.generation_switch,
                second..=day,
            ),
            retention,
            history_retention: section.duration("history_retention", retention, hour..=day * 3_650),
        };
        section.end();
        queue
    }
}
