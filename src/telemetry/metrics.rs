//! The recorder behind the `metrics` macros, and its text form for Prometheus.
//!
//! Histograms have buckets (one set for all, so that panels can be compared; a finer one for
//! the hot statements, whose slow growth must show); what they record waits in memory until
//! upkeep or a scrape folds it in, so upkeep must run.

use std::time::Duration;

use metrics::{describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::catalogue::{Kind, METRICS};

/// Reads what was counted in this process.
#[derive(Clone)]
pub struct MetricsHandle(PrometheusHandle);

/// Upper bounds in seconds: from a loopback reply to the patience of RFC 5321.
const SECONDS: [f64; 18] = [
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0, 300.0, 600.0,
];

/// Upper bounds in seconds for statements that run all the time: steps of a quarter or so,
/// where [`SECONDS`] would hide a statement that became twice as slow.
const STATEMENT_SECONDS: [f64; 26] = [
    0.000_5, 0.001, 0.001_5, 0.002, 0.002_5, 0.003, 0.004, 0.005, 0.006, 0.008, 0.01, 0.012_5,
    0.016, 0.02, 0.025, 0.032, 0.04, 0.05, 0.065, 0.08, 0.1, 0.15, 0.25, 0.5, 1.0, 5.0,
];

/// Histograms of such statements.
const STATEMENTS: [&str; 2] = ["postrider_claim_seconds", "postrider_settlement_seconds"];

/// How often recorded times are folded into their buckets when nobody scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

/// Makes this process count. Asking again gives the same recorder.
///
/// # Errors
/// Another recorder was installed before.
pub fn install() -> Result<MetricsHandle, BuildError> {
    static INSTALLED: Mutex<Option<MetricsHandle>> = Mutex::new(None);
    let mut installed = INSTALLED.lock();
    if let Some(handle) = &*installed {
        return Ok(handle.clone());
    }
    let mut builder = PrometheusBuilder::new().set_buckets(&SECONDS)?;
    for name in STATEMENTS {
        let which = Matcher::Full(name.to_owned());
        builder = builder.set_buckets_for_metric(which, &STATEMENT_SECONDS)?;
    }
    let recorder = builder.install_recorder()?;
    describe();
    Ok(installed.insert(MetricsHandle(recorder)).clone())
}

/// Upper bound of the usual bucket of so many seconds; `None`: beyond all.
pub(super) fn bucket(seconds: f64) -> Option<f64> {
    SECONDS.into_iter().find(|bound| seconds <= *bound)
}

fn describe() {
    for metric in METRICS {
        match metric.kind {
            Kind::Counter => describe_counter!(metric.name, metric.unit, metric.help),
            Kind::Gauge => describe_gauge!(metric.name, metric.unit, metric.help),
            Kind::Histogram => describe_histogram!(metric.name, metric.unit, metric.help),
        }
    }
}

impl MetricsHandle {
    /// Everything counted so far, in the text format 0.0.4.
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Bounds the memory of histograms; runs until `stop`.
    pub async fn upkeep(self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(UPKEEP);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => self.0.run_upkeep(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_shown_with_its_help() {
        let handle = install().expect("the only recorder of this process");
        metrics::counter!("postrider_claimed_total").increment(3);
        metrics::histogram!("postrider_settlement_seconds").record(0.004);
        let text = install().expect("the same again").render();
        assert!(
            text.contains("# HELP postrider_claimed_total Deliveries taken by claims."),
            "{text}"
        );
        assert!(text.contains("# TYPE postrider_settlement_seconds histogram"), "{text}");
        assert!(text.contains("postrider_settlement_seconds_bucket{le=\"0.005\"}"), "{text}");
        assert_eq!(handle.render().is_empty(), text.is_empty());
    }
}
