//! What the throttle counts.

use metrics::{Counter, Gauge, Unit, counter, describe_counter, describe_gauge};
use metrics::{describe_histogram, gauge};

use super::key::Scope;
use super::terms::Bound;
use crate::domain::outcome::WaitReason;

/// Handles of the throttle's metrics. Register after the recorder is installed:
/// handles made before go nowhere.
#[derive(Debug)]
pub(super) struct ThrottleMetrics {
    pub(super) taken: Counter,
    pub(super) refunded: Counter,
    /// By [`Scope::index`].
    refused_for_rate: [Counter; 6],
    refused_for_concurrency: [Counter; 6],
}

impl ThrottleMetrics {
    pub(super) fn register() -> Self {
        describe_counter!("postrider_throttle_taken_total", "Permits handed out.");
        describe_counter!("postrider_throttle_refunded_total", "Permits given back unused.");
        describe_counter!(
            "postrider_throttle_refused_total",
            "Requests for permits that got fewer than they asked for, by the limit that bound."
        );
        describe_counter!(
            "postrider_throttle_exchanges_total",
            "Exchanges of limits with the database; result is answered or failed."
        );
        describe_histogram!(
            "postrider_throttle_exchange_seconds",
            Unit::Seconds,
            "Time for one exchange of limits."
        );
        describe_counter!("postrider_throttle_granted_total", "Tokens dealt to this process.");
        describe_counter!(
            "postrider_throttle_returned_total",
            "Unused tokens that this process offered back."
        );
        describe_counter!(
            "postrider_throttle_void_total",
            "Tokens that were neither used nor could be given back."
        );
        describe_gauge!("postrider_throttle_overrides", "Overrides of limits in force.");
        describe_gauge!("postrider_waiting", "Lanes that wait although they have work, by reason.");
        let refused = |reason: WaitReason| {
            Scope::ALL.map(|scope| {
                counter!(
                    "postrider_throttle_refused_total",
                    "scope" => scope.as_str(),
                    "reason" => reason.as_str()
                )
            })
        };
        Self {
            taken: counter!("postrider_throttle_taken_total"),
            refunded: counter!("postrider_throttle_refunded_total"),
            refused_for_rate: refused(WaitReason::Rate),
            refused_for_concurrency: refused(WaitReason::Concurrency),
        }
    }

    pub(super) fn refused(&self, scope: Scope, bound: Bound) {
        match bound {
            Bound::Rate => self.refused_for_rate[scope.index()].increment(1),
            Bound::Concurrency => self.refused_for_concurrency[scope.index()].increment(1),
            Bound::Closed(reason) => counter!(
                "postrider_throttle_refused_total",
                "scope" => scope.as_str(),
                "reason" => reason.as_str()
            )
            .increment(1),
        }
    }
}

/// One lane that waits: counted in `postrider_waiting` as long as this lives.
#[derive(Debug)]
pub struct Waiting(Gauge);

impl Waiting {
    /// Counts a lane that waits for `reason`.
    pub fn begin(reason: WaitReason) -> Self {
        let gauge = gauge!("postrider_waiting", "reason" => reason.as_str());
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
