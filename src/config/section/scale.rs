//! `[scale]`: how many replicas `GET /scale` suggests.

use std::time::Duration;

use crate::config::reader::Reader;

/// What the suggestion aims at, and its bounds.
#[derive(Debug, Clone, PartialEq)]
pub struct Scale {
    /// Time in which what can be sent now should be sent (5 min).
    pub target_drain: Duration,
    /// Fewest replicas to suggest, also when nothing waits (1).
    pub min_replicas: u32,
    /// Most replicas to suggest (10).
    pub max_replicas: u32,
    /// How long fewer replicas must have been enough before fewer are suggested (3 min).
    pub hold: Duration,
}

impl Default for Scale {
    fn default() -> Self {
        Self {
            target_drain: Duration::from_secs(300),
            min_replicas: 1,
            max_replicas: 10,
            hold: Duration::from_secs(180),
        }
    }
}

impl Scale {
    pub(in crate::config) fn read(section: Reader<'_>) -> Self {
        let default = Self::default();
        let (second, day) = (Duration::from_secs(1), Duration::from_secs(86_400));
        let scale = Self {
            target_drain: section.duration("target_drain", default.target_drain, second..=day),
            min_replicas: section.integer("min_replicas", default.min_replicas, 0..=1_000),
            max_replicas: section.integer("max_replicas", default.max_replicas, 1..=1_000),
            hold: section.duration("hold", default.hold, Duration::ZERO..=day),
        };
        section.end();
        scale
    }
}
