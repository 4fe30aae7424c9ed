//! `[queue]`: how work is claimed, settled and rescued.

use std::time::Duration;

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
    /// Wait before rescued work is tried again (30 s).
    pub rescue_delay: Duration,
    /// Attempts after which a delivery whose worker keeps dying becomes a dead letter (5).
    pub max_interruptions: u16,
    /// How often the hot tables change generation (5 min).
    pub generation_switch: Duration,
    /// How long history (attempts, messages, ended jobs) is kept (30 days).
    pub retention: Duration,
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
            retention: Duration::from_secs(30 * 86_400),
        }
    }
}
