//! `[webhook]`: events to tenants, kept and delivered.

use std::time::Duration;

use crate::config::reader::Reader;

/// How long events are kept and how they are delivered to tenants' endpoints.
#[derive(Debug, Clone, PartialEq)]
pub struct Webhook {
    /// How long events are kept for endpoints and readers (14 days); longer than `give_up_after`.
    pub retention: Duration,
    /// Whether endpoints may have URLs with http (false).
    pub allow_http: bool,
    /// Whether endpoints may lie inside our own network (false).
    pub allow_private_addresses: bool,
    /// Longest time for one request, from the name to the end of the answer (15 s).
    pub timeout: Duration,
    /// Requests of one process at once (64).
    pub concurrency: u32,
    /// Endpoints of one cell that one process serves at once (16).
    pub endpoints: u32,
    /// Requests to one endpoint at once, where it does not say (8).
    pub in_flight: u16,
    /// How often an idle daemon looks for events to tell (500 ms, jittered).
    pub poll_interval: Duration,
    /// Wait before the first repetition (5 s); it doubles from then on.
    pub first_retry: Duration,
    /// Longest wait before a repetition (1 h).
    pub longest_retry: Duration,
    /// An endpoint that takes nothing for so long is disabled (5 days).
    pub give_up_after: Duration,
    /// How long a replaced secret goes on to sign beside its successor (1 day).
    pub rotation_overlap: Duration,
    /// Most endpoints of one tenant (10).
    pub max_per_tenant: u16,
}

impl Default for Webhook {
    fn default() -> Self {
        let day = Duration::from_secs(86_400);
        Self {
            retention: day * 14,
            allow_http: false,
            allow_private_addresses: false,
            timeout: Duration::from_secs(15),
            concurrency: 64,
            endpoints: 16,
            in_flight: 8,
            poll_interval: Duration::from_millis(500),
            first_retry: Duration::from_secs(5),
            longest_retry: Duration::from_secs(3_600),
            give_up_after: day * 5,
            rotation_overlap: day,
            max_per_tenant: 10,
        }
    }
}

impl Webhook {
    pub(in crate::config) fn read(section: Reader<'_>) -> Self {
        let default = Self::default();
        let (milli, second) = (Duration::from_millis(1), Duration::from_secs(1));
        let (hour, day) = (second * 3_600, second * 86_400);
        let webhook = Self {
            retention: section.duration("retention", default.retention, day..=day * 365),
            allow_http: section.switch("allow_http", default.allow_http),
            allow_private_addresses: section
                .switch("allow_private_addresses", default.allow_private_addresses),
            timeout: section.duration("timeout", default.timeout, milli * 100..=second * 60),
            concurrency: section.integer("concurrency", default.concurrency, 1..=10_000),
            endpoints: section.integer("endpoints", default.endpoints, 1..=1_000),
            in_flight: section.integer("in_flight", default.in_flight, 1..=64),
            poll_interval: section.duration(
                "poll_interval",
                default.poll_interval,
                milli * 10..=second * 60,
            ),
            first_retry: section.duration("first_retry", default.first_retry, milli..=hour),
            longest_retry: section.duration("longest_retry", default.longest_retry, milli..=day),
            give_up_after: section.duration(
                "give_up_after",
                default.give_up_after,
                second..=day * 300,
            ),
            rotation_overlap: section.duration(
                "rotation_overlap",
                default.rotation_overlap,
                Duration::ZERO..=day * 30,
            ),
            max_per_tenant: section.integer("max_per_tenant", default.max_per_tenant, 1..=1_000),
        };
        section.end();
        webhook
    }
}
