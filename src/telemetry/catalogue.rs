//! Metrics by name: what they count, in which unit, with which labels.
//!
//! Those of worker/, maintenance/ and config/; other folders describe theirs beside the code
//! that counts. docs/metrics.md has them all.
//!
//! Names begin with `postrider_`; counters end in `_total`, times are seconds and end in
//! `_seconds`. Labels take values from configuration or from an enum of ours, never a
//! recipient, a domain or a tenant: their number is bounded. `tests/metric_names.rs` holds the
//! source, the descriptions and docs/metrics.md against each other.

use metrics::Unit;

/// A metric as described to Prometheus.
#[derive(Debug, Clone)]
pub struct Description {
    /// Full name.
    pub name: &'static str,
    /// How it moves.
    pub kind: Kind,
    /// Of what it is a number.
    pub unit: Unit,
    /// Names of its labels, in alphabetical order.
    pub labels: &'static [&'static str],
    /// A sentence for whoever sees it for the first time.
    pub help: &'static str,
}

/// How a metric moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Up only.
    Counter,
    /// Up and down.
    Gauge,
    /// A distribution, in buckets.
    Histogram,
}

const fn counter(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Description {
    Description { name, kind: Kind::Counter, unit: Unit::Count, labels, help }
}

const fn gauge(
    name: &'static str,
    unit: Unit,
    labels: &'static [&'static str],
    help: &'static str,
) -> Description {
    Description { name, kind: Kind::Gauge, unit, labels, help }
}

const fn seconds(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Description {
    Description { name, kind: Kind::Histogram, unit: Unit::Seconds, labels, help }
}

/// In the order of docs/metrics.md.
pub const METRICS: &[Description] = &[
    // worker
    counter("postrider_claims_total", &["result"], "Claims made; result is work or empty."),
    counter("postrider_claimed_total", &[], "Deliveries taken by claims."),
    counter(
        "postrider_claim_permits_unused_total",
        &[],
        "Permits given back because a claim brought less.",
    ),
    seconds("postrider_claim_seconds", &[], "Time for one claim."),
    counter(
        "postrider_lanes_looked_at_total",
        &[],
        "Lanes looked at to find those to claim from; those that are paused, throttled or empty are not.",
    ),
    gauge(
        "postrider_in_hand",
        Unit::Count,
        &[],
        "Deliveries claimed by this process and not yet settled.",
    ),
    counter(
        "postrider_deliveries_total",
        &["mailbox_provider", "outcome", "route"],
        "Attempts that ended.",
    ),
    counter(
        "postrider_endings_total",
        &["ending", "mailbox_provider"],
        "What attempts came to: delivered, bounced, deferred, released, dead and the others.",
    ),
    counter("postrider_postponed_total", &["reason"], "Deliveries put back without a try."),
    seconds("postrider_delivery_seconds", &["mailbox_provider"], "Length of a successful attempt."),
    seconds(
        "postrider_submit_to_delivery_seconds",
        &[],
        "From the moment a delivery was due to its acceptance at the first attempt.",
    ),
    counter(
        "postrider_tracking_letters_total",
        &["result"],
        "Letters made for streams that are tracked: tracked, or unreadable (the html went out as given).",
    ),
    counter("postrider_intents_total", &[], "Deliveries whose intent to be sent was made durable."),
    Description {
        name: "postrider_intent_batch_deliveries",
        kind: Kind::Histogram,
        unit: Unit::Count,
        labels: &[],
        help: "Deliveries in one write of intents.",
    },
    seconds("postrider_intent_seconds", &[], "Time for writing one batch of intents."),
    gauge(
        "postrider_intents_open",
        Unit::Count,
        &[],
        "Deliveries of this process that have an intent and no outcome: what a crash would leave in doubt.",
    ),
    counter(
        "postrider_in_doubt_total",
        &["policy"],
        "Attempts that ended in doubt, by their worker's death or without a reply to the final dot; policy is resend or hold.",
    ),
    gauge(
        "postrider_route_out",
        Unit::Count,
        &["reason", "route"],
        "1 while this process does not use a route: breaker, quota, login or pace.",
    ),
    counter(
        "postrider_route_outs_total",
        &["reason", "route"],
        "Times that a relay or provider went out of use, by reason: breaker, quota, login or pace.",
    ),
    seconds("postrider_settlement_seconds", &[], "Time for writing one batch of outcomes."),
    counter("postrider_settled_total", &[], "Outcomes written."),
    counter(
        "postrider_settlements_fenced_total",
        &[],
        "Outcomes not written because the lease belonged to another by then.",
    ),
    counter(
        "postrider_db_errors_total",
        &["statement"],
        "Statements that failed and were tried again.",
    ),
    counter(
        "postrider_replies_unknown_total",
        &["code", "stage"],
        "Replies that no rule knows; code is 4xx or 5xx.",
    ),
    counter(
        "postrider_reply_alerts_total",
        &["rule"],
        "Replies whose rule says that somebody should look.",
    ),
    gauge("postrider_paces", Unit::Count, &[], "Keys whose pace follows a receiver's replies."),
    counter(
        "postrider_pace_changes_total",
        &["change"],
        "Changes of a pace made by this process; change is slower, faster or suspended.",
    ),
    gauge(
        "postrider_breakers_blocked",
        Unit::Count,
        &[],
        "Hosts that this process leaves alone or is trying out again.",
    ),
    counter("postrider_breaker_blocks_total", &[], "Times a host was found not to answer."),
    // cells
    gauge(
        "postrider_cell_up",
        Unit::Count,
        &["cell"],
        "1 while this process works in the cell, 0 while it cannot.",
    ),
    // receivers' policies on TLS
    counter(
        "postrider_tls_results_total",
        &["policy", "result"],
        "Sessions with mail exchangers, by the receiver's policy on TLS and how it went, in the words of RFC 8460.",
    ),
    counter(
        "postrider_sts_fetches_total",
        &["result"],
        "MTA-STS policies asked for by HTTPS; result is fetched or what went wrong.",
    ),
    counter(
        "postrider_tls_reports_total",
        &["result"],
        "Reports on TLS to receivers: sent, failed (and tried again), unwanted.",
    ),
    // maintenance
    gauge(
        "postrider_queue_depth",
        Unit::Count,
        &["cell", "state"],
        "Deliveries in each state, as the database's statistics estimate it.",
    ),
    gauge(
        "postrider_queue_oldest_seconds",
        Unit::Seconds,
        &["cell", "class"],
        "Age of the oldest delivery that could go now.",
    ),
    gauge(
        "postrider_backlog",
        Unit::Count,
        &["cell", "class", "state"],
        "Deliveries that wait in the cluster: sendable now, scheduled, deferred.",
    ),
    gauge(
        "postrider_backlog_blocked",
        Unit::Count,
        &["cell", "class", "reason"],
        "Deliveries in the cluster that are due and held back, by reason.",
    ),
    gauge(
        "postrider_drain_rate",
        Unit::Count,
        &["cell", "class"],
        "Deliveries that come to an end a second in the cluster, over half a minute.",
    ),
    gauge(
        "postrider_drain_seconds",
        Unit::Seconds,
        &["by", "cell", "class"],
        "Time to send what is due; by is rate (sendable) or limits (held back by them).",
    ),
    gauge(
        "postrider_replicas",
        Unit::Count,
        &["cell", "kind"],
        "Daemons: living, needed at this moment, suggested.",
    ),
    gauge(
        "postrider_replica_capacity",
        Unit::Count,
        &["cell"],
        "Deliveries a second that one daemon at work brings to an end; 0: not known yet.",
    ),
    gauge(
        "postrider_queue_overdue_seconds",
        Unit::Seconds,
        &["cell", "state"],
        "Time by which a waiting delivery has outlived its expiry.",
    ),
    gauge(
        "postrider_dead_rows",
        Unit::Count,
        &["cell", "state"],
        "Rows of the hot tables that are gone and not yet cleaned up.",
    ),
    gauge(
        "postrider_xmin_held_seconds",
        Unit::Seconds,
        &["cell", "holder"],
        "Age of the oldest transaction that keeps the store from being cleaned.",
    ),
    gauge(
        "postrider_xmin_held_transactions",
        Unit::Count,
        &["cell", "holder"],
        "Transactions since the oldest snapshot that keeps the store from being cleaned.",
    ),
    gauge(
        "postrider_generation_stuck_seconds",
        Unit::Seconds,
        &["cell"],
        "Time for which an old generation could have been truncated and was not.",
    ),
    gauge(
        "postrider_default_partitions_in_use",
        Unit::Count,
        &["cell"],
        "Default partitions that hold rows: the maintenance was away.",
    ),
    gauge(
        "postrider_db_pool_connections",
        Unit::Count,
        &["cell", "state"],
        "Database connections of this process: open, and of these idle or in_use.",
    ),
    gauge(
        "postrider_db_pool_limit",
        Unit::Count,
        &["cell"],
        "Database connections that this process may open.",
    ),
    seconds(
        "postrider_db_pool_acquire_seconds",
        &["cell"],
        "Wait for a database connection, tried every 5 seconds.",
    ),
    counter(
        "postrider_db_pool_exhausted_total",
        &["cell"],
        "Tries that got no database connection within database.acquire_timeout.",
    ),
    counter(
        "postrider_maintenance_ticks_total",
        &["task"],
        "Runs of a maintenance task by this process.",
    ),
    counter(
        "postrider_maintenance_errors_total",
        &["task"],
        "Runs of a maintenance task that failed.",
    ),
    counter(
        "postrider_sessions_fenced_total",
        &[],
        "Times this process lost its session and began anew.",
    ),
    counter("postrider_rescued_total", &[], "Deliveries taken back from sessions that died."),
    counter("postrider_expired_total", &[], "Deliveries given up because their time was over."),
    counter("postrider_alarms_total", &["condition"], "Alarm mails sent to operators."),
    // what comes back
    counter(
        "postrider_inbound_connections_total",
        &[],
        "Connections that the inbound listener served.",
    ),
    counter(
        "postrider_inbound_stored_total",
        &["purpose"],
        "Mails stored by the inbound listener.",
    ),
    counter(
        "postrider_inbound_refused_total",
        &["reason"],
        "Connections, recipients and mails that the inbound listener refused.",
    ),
    gauge(
        "postrider_reports_waiting",
        Unit::Count,
        &["cell"],
        "Reports stored and not yet worked off, counted no further than a bound.",
    ),
    counter("postrider_reports_total", &["kind", "outcome"], "Reports worked off."),
    counter(
        "postrider_callback_events_total",
        &["outcome", "provider"],
        "Events that providers told the API.",
    ),
    counter(
        "postrider_callbacks_refused_total",
        &["provider", "reason"],
        "Callbacks that the API refused.",
    ),
    counter(
        "postrider_report_findings_total",
        &["class", "hardness"],
        "Recipients that reports spoke of.",
    ),
    // health of tenants
    counter(
        "postrider_health_findings_total",
        &["level", "measure"],
        "Streams that this process found to have too many bounces or complaints.",
    ),
    gauge(
        "postrider_health_streams",
        Unit::Count,
        &["cell", "level"],
        "Streams near their limit of bounces or complaints, and held back for them.",
    ),
    // webhook
    counter(
        "postrider_webhook_sends_total",
        &["outcome"],
        "Requests to tenants' endpoints: taken, refused, unreached.",
    ),
    seconds("postrider_webhook_send_seconds", &[], "Time for one request to an endpoint."),
    counter(
        "postrider_webhook_events_total",
        &["outcome"],
        "Events offered to endpoints: taken, retried, dropped after too long.",
    ),
    counter(
        "postrider_webhook_disabled_total",
        &["reason"],
        "Endpoints disabled because they took nothing for too long (failing) or said so (gone).",
    ),
    gauge(
        "postrider_webhook_endpoints",
        Unit::Count,
        &["cell", "state"],
        "Endpoints: active, of these failing, and disabled.",
    ),
    gauge(
        "postrider_webhook_lag_seconds",
        Unit::Seconds,
        &["cell"],
        "Age of the oldest event that an active endpoint was not told yet.",
    ),
    gauge(
        "postrider_webhook_pending_events",
        Unit::Count,
        &["cell"],
        "Events that active endpoints were not told yet, counted up to 10,000 for each.",
    ),
    gauge(
        "postrider_webhook_retries",
        Unit::Count,
        &["cell"],
        "Events that endpoints refused while they took others, and are told again.",
    ),
    // api
    gauge("postrider_api_connections", Unit::Count, &[], "Open connections of callers."),
    counter(
        "postrider_unsubscribe_requests_total",
        &["outcome"],
        "Requests to unsubscribing links: what they did, or what was wrong with the link.",
    ),
    counter(
        "postrider_tracking_requests_total",
        &["kind", "outcome"],
        "Requests to links and pictures of tracked mail: what was told, or why nothing was.",
    ),
    counter(
        "postrider_api_requests_total",
        &["route", "status"],
        "Requests answered; route is the pattern, not the path.",
    ),
    seconds(
        "postrider_api_request_seconds",
        &["route"],
        "From a request's head to its answer's head.",
    ),
    // process
    gauge(
        "postrider_cpu_seconds",
        Unit::Seconds,
        &[],
        "CPU time of this process since its start; it only grows, so rate() fits.",
    ),
    gauge("postrider_memory_bytes", Unit::Bytes, &[], "Memory of this process (resident)."),
    gauge("postrider_open_files", Unit::Count, &[], "File descriptors that this process has open."),
    gauge(
        "postrider_open_files_limit",
        Unit::Count,
        &[],
        "File descriptors that this process may have open.",
    ),
    // traces
    counter(
        "postrider_trace_spans_total",
        &["result"],
        "Spans by what became of them: exported, dropped (no room), failed (not taken).",
    ),
    // config
    counter(
        "postrider_config_reloads_total",
        &["outcome"],
        "Reloads of the configuration: applied, unchanged, refused, needs_restart.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rules() {
        for metric in METRICS {
            assert!(metric.name.starts_with("postrider_"), "{}", metric.name);
            assert_eq!(
                metric.name.ends_with("_total"),
                metric.kind == Kind::Counter,
                "{}",
                metric.name
            );
            assert_eq!(
                metric.name.ends_with("_seconds"),
                metric.unit == Unit::Seconds,
                "{}",
                metric.name
            );
            assert!(metric.labels.is_sorted(), "{}", metric.name);
            assert!(metric.help.ends_with('.'), "{}", metric.name);
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = METRICS.iter().map(|metric| metric.name).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
