//! What the carrier to providers counts: `postrider_provider_*`.

use std::time::Duration;

use metrics::{
    Gauge, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

/// Handles of the series of one provider.
#[derive(Clone)]
pub(super) struct Metrics {
    provider: &'static str,
    open: Gauge,
}

/// Counts one open connection for as long as it lives.
pub(super) struct Open(Gauge);

impl Metrics {
    /// Describes all series; once for the process, after the recorder is installed.
    pub(super) fn describe() {
        describe_gauge!(
            "postrider_provider_connections_open",
            "Connections to providers' APIs open now."
        );
        describe_counter!(
            "postrider_provider_connections_total",
            "Connections to providers' APIs tried, by result: opened or failed."
        );
        describe_counter!(
            "postrider_provider_requests_total",
            "Requests to providers' APIs that ended, by result: the hundred of the status, lost before the whole request was written, or in doubt after it."
        );
        describe_histogram!(
            "postrider_provider_request_seconds",
            Unit::Seconds,
            "Time from a request to the end of its answer."
        );
    }

    /// Of one provider (`ses`, …).
    pub(super) fn of(provider: &'static str) -> Self {
        Self {
            provider,
            open: gauge!("postrider_provider_connections_open", "provider" => provider),
        }
    }

    /// A connection was opened, or not.
    pub(super) fn connection(&self, opened: bool) {
        let result = if opened { "opened" } else { "failed" };
        counter!(
            "postrider_provider_connections_total",
            "provider" => self.provider, "result" => result
        )
        .increment(1);
    }

    /// One more is open.
    pub(super) fn open(&self) -> Open {
        self.open.increment(1.0);
        Open(self.open.clone())
    }

    /// A request ended.
    pub(super) fn request(&self, result: &'static str, took: Duration) {
        counter!(
            "postrider_provider_requests_total",
            "provider" => self.provider, "result" => result
        )
        .increment(1);
        histogram!("postrider_provider_request_seconds", "provider" => self.provider).record(took);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
