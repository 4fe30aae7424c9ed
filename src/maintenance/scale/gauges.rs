//! The report as gauges. Reasons are words of ours, so the number of series is bounded.

use std::collections::HashSet;

use metrics::gauge;

use super::report::{Report, Standing};

/// Sets gauges, and remembers which reasons were shown, so that one that passed is shown as 0.
#[derive(Debug)]
pub(super) struct Gauges {
    cell: String,
    reasons: HashSet<(&'static str, String)>,
}

impl Gauges {
    /// Of one cell.
    pub(super) fn new(cell: String) -> Self {
        Self { cell, reasons: HashSet::new() }
    }

    pub(super) fn set(&mut self, report: &Report) {
        let cell = self.cell.clone();
        self.class("transactional", &report.transactional);
        self.class("bulk", &report.bulk);
        let replicas = &report.replicas;
        for (kind, n) in [
            ("living", replicas.living),
            ("needed", replicas.needed),
            ("suggested", replicas.suggested),
        ] {
            gauge!("postrider_replicas", "cell" => cell.clone(), "kind" => kind).set(f64::from(n));
        }
        gauge!("postrider_replica_capacity", "cell" => cell.clone())
            .set(replicas.capacity_per_second.unwrap_or(0.0));
    }

    fn class(&mut self, class: &'static str, standing: &Standing) {
        let cell = &self.cell;
        for (state, depth) in [
            ("sendable", standing.sendable),
            ("scheduled", standing.scheduled),
            ("deferred", standing.deferred),
        ] {
            gauge!("postrider_backlog", "cell" => cell.clone(), "class" => class, "state" => state)
                .set(depth.count as f64);
        }
        self.reasons.extend(standing.blocked.keys().map(|reason| (class, reason.clone())));
        for (_, reason) in self.reasons.iter().filter(|(of, _)| *of == class) {
            let depth = standing.blocked.get(reason).copied().unwrap_or_default();
            gauge!("postrider_backlog_blocked", "cell" => cell.clone(), "class" => class, "reason" => reason.clone())
                .set(depth.count as f64);
        }
        gauge!("postrider_drain_rate", "cell" => cell.clone(), "class" => class)
            .set(standing.drain_per_second);
        let seconds = standing.seconds_to_drain;
        for (by, seconds) in [("rate", seconds.by_rate), ("limits", seconds.by_limits)] {
            // What cannot be said is infinite for whoever compares it.
            gauge!("postrider_drain_seconds", "cell" => cell.clone(), "by" => by, "class" => class)
                .set(seconds.unwrap_or(f64::INFINITY));
        }
    }
}
