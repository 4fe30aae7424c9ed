//! How TLS went, counted for the report to the receiver (RFC 8460) and for operators.

use std::net::IpAddr;
use std::sync::Arc;

use super::Smtp;
use crate::route::plan::Hop;
use crate::route::tls_result::{Event, Failure};

impl Smtp {
    /// Counts a session with a mail exchanger; `from` is our end of it.
    pub(super) fn count(&self, hop: &Hop, from: Option<IpAddr>, failure: Option<Failure>) {
        let policy = &hop.policy;
        let Some(domain) = &policy.domain else { return };
        let (kind, result) = (policy.kind(), failure.map_or("ok", Failure::as_str));
        metrics::counter!("postrider_tls_results_total", "policy" => kind, "result" => result)
            .increment(1);
        if self.tally.is_wanted() {
            self.tally.count(Event {
                domain: Arc::clone(domain),
                policy_type: kind,
                policy: policy.text().into(),
                host: Arc::clone(&hop.host),
                from,
                to: Some(hop.address.ip()),
                failure,
            });
        }
    }
}
