//! Answers in plain words (pure).

use std::fmt::Write;

use chrono::{DateTime, Utc};

use super::{Constraint, Expected, LaneSummary, WhyDelivery, WhyMessage, WhyTenant};
use crate::queue::backlog::Depth;
use crate::queue::lookup::DeliveryState;

/// A delivery, line by line.
pub(super) fn delivery(why: &WhyDelivery) -> Vec<String> {
    let mut lines = vec![format!("{} to {}: {}", why.delivery, why.to, state(why))];
    lines.extend(why.waits_for.iter().map(constraint));
    if let Some(before) = why.before {
        let rate =
            why.lane_per_second.map(|rate| format!("; the lane moves at {}", per_second(rate)));
        lines.push(format!(
            "before it in its lane: {}{}",
            number(before),
            rate.unwrap_or_default()
        ));
    }
    if let Some((rank, lanes)) = why.rank {
        lines.push(format!(
            "of {lanes} lanes that wait for capacity, number {rank} by waiting time"
        ));
    }
    lines.extend(why.expected.as_ref().map(|when| format!("it {}", expected(when))));
    let waits = !matches!(why.waits_for.first(), Some(first) if first.kind == "ended");
    if waits && why.state != DeliveryState::DeadLettered {
        lines.push(format!("given up at {}", time(why.expires_at)));
    }
    lines.extend(why.advice.clone());
    lines
}

/// A message, line by line.
pub(super) fn message(why: &WhyMessage) -> Vec<String> {
    let counts = why.deliveries;
    let ended =
        counts.delivered + counts.bounced + counts.expired + counts.suppressed + counts.cancelled;
    let mut lines = vec![format!(
        "{}: {} ended, {} queued, {} scheduled, {} deferred, {} in hand, {} dead letters",
        why.message,
        ended,
        counts.queued,
        counts.scheduled,
        counts.deferred,
        counts.sending,
        counts.dead_lettered
    )];
    if let Some(at) = why.cancelled_at {
        lines.push(format!("called back at {}: nothing of it is started any more", time(at)));
    }
    if let (Some(at), true) = (why.send_at, counts.scheduled > 0) {
        lines.push(format!("scheduled: not before {}", time(at)));
    }
    if counts.deferred > 0 {
        lines.push(format!(
            "{} were refused for now and wait for their next try; ask for one of them by its id",
            counts.deferred
        ));
    }
    lines.extend(why.lanes.iter().flat_map(lane));
    if why.more_lanes {
        lines.push("there may be further lanes: not all of its deliveries were looked at".into());
    }
    let waits = counts.sum() - ended - counts.dead_lettered;
    if waits == 0 {
        lines.push("nothing of it waits".into());
    } else {
        lines.push(format!("given up at {}", time(why.expires_at)));
    }
    lines
}

/// A tenant, line by line.
pub(super) fn tenant(why: &WhyTenant) -> Vec<String> {
    let mut lines = vec![format!("tenant {}", why.tenant)];
    lines.extend(why.lanes.iter().flat_map(lane));
    if why.more_lanes {
        lines.push(format!("these are the deepest {} lanes; there are more", why.lanes.len()));
    }
    for waiting in &why.waiting {
        let what = if waiting.scheduled { "scheduled" } else { "deferred" };
        let next = waiting.next_at.map(|at| format!("; the first is due at {}", time(at)));
        lines.push(format!(
            "{} to {}: {} {what}{}",
            waiting.stream,
            waiting.mailbox_provider,
            waiting.count,
            next.unwrap_or_default()
        ));
    }
    if why.lanes.is_empty() && why.waiting.is_empty() {
        lines.push("nothing of it waits".into());
    }
    lines
}

fn lane(lane: &LaneSummary) -> Vec<String> {
    let mut lines = vec![format!(
        "{} to {}: {} due{}",
        lane.stream,
        lane.mailbox_provider,
        number(lane.due),
        if lane.scheduled.count > 0 {
            format!(", {} scheduled", number(lane.scheduled))
        } else {
            String::new()
        }
    )];
    lines.extend(lane.waits_for.iter().map(|binding| format!("  {}", constraint(binding))));
    if lane.due.count > 0 {
        let rate = lane.per_second.map(|rate| format!(", moving at {}", per_second(rate)));
        lines.push(format!(
            "  the last of them {}{}",
            expected(&lane.expected),
            rate.unwrap_or_default()
        ));
    }
    lines
}

fn state(why: &WhyDelivery) -> String {
    let tries = match why.attempts {
        0 => String::new(),
        1 => " after 1 attempt".into(),
        n => format!(" after {n} attempts"),
    };
    format!("{}{tries}", why.state.as_str().replace('_', " "))
}

/// What binds, in a sentence.
pub fn constraint(binding: &Constraint) -> String {
    let what = binding.what.as_deref();
    let mut text = match &*binding.kind {
        "rate" => format!("waits for a rate limit: {}", what.unwrap_or("unnamed")),
        "concurrency" => {
            format!("waits for a limit of how many at a time: {}", what.unwrap_or("unnamed"))
        }
        "paused" => format!("is held back: {}", what.unwrap_or("paused")),
        "scheduled" => "waits for its time".into(),
        "retry" => "was refused for now and waits for its next try".into(),
        "put_back" => {
            "was put back without a try, for a limit, a pause or a route that is out, and is looked at \
             again then"
                .into()
        }
        "no_worker" => "waits for a daemon: none is running".into(),
        "in_hand" => "is in hand: being sent".into(),
        "tenant_room" => "waits because its tenant has as much in hand as it may".into(),
        "fairness" => {
            "waits for its fair share: all places are taken, and others want some too".into()
        }
        "no_room" => "waits for room: all places are taken".into(),
        "turn" => "waits for its turn: its lane is being worked off".into(),
        "cancelled" => "was called back, and is about to end as cancelled".into(),
        "expired" => "is past its time, and is about to end as expired".into(),
        "dead_letter" => format!("cannot be processed: {}", what.unwrap_or("unknown")),
        "ended" => format!("has ended: {}", what.unwrap_or("ended").replace('_', " ")),
        "quiet_hours" => "waits for the end of the quiet hours".into(),
        "route_out" => "waits for its route, which is out for now".into(),
        "suspended" => {
            format!("waits because its receiver asked for a pause: {}", what.unwrap_or("unnamed"))
        }
        "breaker" => {
            format!("waits because the receiver does not answer: {}", what.unwrap_or("unnamed"))
        }
        "connections" => "waits for a free connection to its host".into(),
        "not_ready" => "waits for something of ours that is missing for now".into(),
        other => format!(
            "waits: {}{}",
            other.replace('_', " "),
            what.map(|what| format!(" ({what})")).unwrap_or_default()
        ),
    };
    // Writing to a String cannot fail.
    if let Some(allows) = &binding.allows {
        let _ = write!(text, " allows {allows}");
    }
    if let Some(since) = binding.since {
        let _ = write!(text, ", since {}", time(since));
    }
    if let Some(until) = binding.until {
        let _ = write!(text, ", until {}", time(until));
    } else if binding.kind == "paused" {
        text.push_str(", until somebody lets it go");
    }
    if let Some(by) = &binding.by {
        let _ = write!(text, ", by {by}");
    }
    if let Some(reason) = &binding.reason {
        let _ = write!(text, ": {reason}");
    }
    text
}

fn expected(expected: &Expected) -> String {
    let unknown = expected.unknown.as_deref();
    match (expected.earliest, expected.latest) {
        (Some(earliest), Some(latest)) if (latest - earliest).num_seconds() <= 15 => {
            format!("is expected to go by {}", time(latest))
        }
        (Some(earliest), Some(latest)) => {
            format!("is expected to go between {} and {}", time(earliest), time(latest))
        }
        (Some(earliest), None) => format!(
            "is expected to go not before {}; until when is unknown: {}",
            time(earliest),
            unknown.unwrap_or("nothing tells")
        ),
        (None, Some(latest)) => format!("is expected to go by {}", time(latest)),
        (None, None) => {
            format!("goes at a time that is unknown: {}", unknown.unwrap_or("nothing tells"))
        }
    }
}

fn number(depth: Depth) -> String {
    match depth {
        Depth { estimated: true, count, .. } => format!("about {count}"),
        Depth { at_least: true, count, .. } => format!("more than {count}"),
        Depth { count, .. } => count.to_string(),
    }
}

fn per_second(rate: f64) -> String {
    if rate >= 0.95 { format!("{rate:.1}/s") } else { format!("{:.1}/min", rate * 60.0) }
}

fn time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).expect("a time")
    }

    #[test]
    fn a_constraint_reads_as_a_sentence() {
        let paused = Constraint {
            what: Some("tenant shop".into()),
            reason: Some("complaints rose".into()),
            by: Some("ann".into()),
            until: Some(at(3_600)),
            ..Constraint::of("paused", Some(at(0)))
        };
        assert_eq!(
            constraint(&paused),
            "is held back: tenant shop, since 1970-01-01 00:00:00Z, until 1970-01-01 01:00:00Z, \
             by ann: complaints rose"
        );
        let unheard = Constraint::of("of_a_newer_version", None);
        assert_eq!(constraint(&unheard), "waits: of a newer version");
    }

    #[test]
    fn what_is_unknown_is_said_with_its_reason() {
        let words = expected(&Expected {
            unknown: Some("no daemon is running".into()),
            ..Expected::default()
        });
        assert_eq!(words, "goes at a time that is unknown: no daemon is running");
        let words =
            expected(&Expected { earliest: Some(at(0)), latest: Some(at(100)), unknown: None });
        assert!(
            words.ends_with("between 1970-01-01 00:00:00Z and 1970-01-01 00:01:40Z"),
            "{words}"
        );
    }
}
