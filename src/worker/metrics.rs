//! What the worker counts. Labels are bounded: routes, mailbox providers and outcomes
//! by configuration, never a domain or a recipient.

use std::time::Duration;

use metrics::{counter, gauge, histogram};

use crate::domain::outcome::Outcome;
use crate::domain::receipt::Trail;
use crate::message::letter::Letter;
use crate::queue::job::Job;
use crate::queue::lane::Lane;
use crate::queue::settle::{DeadReason, Ending};
use crate::route::health::Reason;
use crate::telemetry::exemplars;

/// An attempt ended.
pub fn attempt(lane: &Lane, job: &Job, outcome: &Outcome, trail: &Trail) {
    let provider = lane.mailbox_provider.as_str().to_owned();
    counter!(
        "postrider_deliveries_total",
        "route" => trail.route.as_deref().unwrap_or("none").to_owned(),
        "mailbox_provider" => provider.clone(),
        "outcome" => name(outcome),
    )
    .increment(1);
    match outcome {
        Outcome::Delivered(_) => {
            histogram!("postrider_delivery_seconds", "mailbox_provider" => provider)
                .record(trail.took);
            if job.attempt == 1 {
                histogram!("postrider_submit_to_delivery_seconds")
                    .record(job.waited + job.claimed_at.elapsed());
            }
        }
        Outcome::Postponed { reason, .. } => {
            counter!("postrider_postponed_total", "reason" => reason.as_str()).increment(1);
        }
        _ => {}
    }
}

/// An attempt ended whose trace is kept.
pub fn traced(lane: &Lane, outcome: &Outcome, trail: &Trail) {
    if let (Outcome::Delivered(_), Some(kept)) = (outcome, trail.notes.kept) {
        let label = ("mailbox_provider", lane.mailbox_provider.as_str());
        exemplars::note("postrider_delivery_seconds", label, trail.took.as_secs_f64(), kept.trace);
    }
}

/// A letter was made that is to be tracked.
pub fn tracked(letter: &Letter) {
    let result = if letter.has_html_as_given() { "unreadable" } else { "tracked" };
    counter!("postrider_tracking_letters_total", "result" => result).increment(1);
}

/// A claim brought `got` jobs of `asked`.
pub fn claimed(took: Duration, asked: usize, got: usize) {
    counter!("postrider_claims_total", "result" => if got == 0 { "empty" } else { "work" })
        .increment(1);
    counter!("postrider_claimed_total").increment(got as u64);
    counter!("postrider_claim_permits_unused_total").increment((asked - got.min(asked)) as u64);
    histogram!("postrider_claim_seconds").record(took);
}

/// A pick looked at so many lanes to find those to take from.
pub fn lanes_looked_at(lanes: u64) {
    counter!("postrider_lanes_looked_at_total").increment(lanes);
}

/// A settlement was written: `settled` of `asked` leases were still ours.
pub fn settled(took: Duration, settled: usize, asked: usize) {
    histogram!("postrider_settlement_seconds").record(took);
    counter!("postrider_settled_total").increment(settled as u64);
    counter!("postrider_settlements_fenced_total").increment((asked - settled.min(asked)) as u64);
}

/// What an attempt comes to, as it will be written.
pub fn ending(lane: &Lane, ending: Ending) {
    counter!(
        "postrider_endings_total",
        "mailbox_provider" => lane.mailbox_provider.as_str().to_owned(),
        "ending" => ending_name(ending),
    )
    .increment(1);
    let policy = match ending {
        Ending::Deferred { in_doubt: true, .. } => "resend",
        Ending::Dead(DeadReason::Doubt) => "hold",
        _ => return,
    };
    in_doubt(policy, 1);
}

/// Shows what rarely happens as 0 before it does: only what grew from something can be noticed.
pub fn begin() {
    in_doubt("resend", 0);
    in_doubt("hold", 0);
    sessions_fenced(0);
}

/// This process lost its session `by` times.
pub fn sessions_fenced(by: u64) {
    counter!("postrider_sessions_fenced_total").increment(by);
}

fn in_doubt(policy: &'static str, by: u64) {
    counter!("postrider_in_doubt_total", "policy" => policy).increment(by);
}

/// The intent to send `deliveries` is durable; intents stand for `open` that are in hand.
pub fn intended(took: Duration, deliveries: usize, open: usize) {
    histogram!("postrider_intent_seconds").record(took);
    histogram!("postrider_intent_batch_deliveries").record(deliveries as f64);
    counter!("postrider_intents_total").increment(deliveries as u64);
    under_intent(open);
}

/// Deliveries in hand for which an intent stands.
pub fn under_intent(open: usize) {
    gauge!("postrider_intents_open").set(open as f64);
}

/// A route went out.
pub fn route_out(route: &str, reason: Reason) {
    for other in Reason::ALL {
        let out = if other == reason { 1.0 } else { 0.0 };
        gauge!("postrider_route_out", "route" => route.to_owned(), "reason" => other.as_str())
            .set(out);
    }
    counter!("postrider_route_outs_total", "route" => route.to_owned(), "reason" => reason.as_str())
        .increment(1);
}

/// A route is in use again.
pub fn route_in(route: &str) {
    for reason in Reason::ALL {
        gauge!("postrider_route_out", "route" => route.to_owned(), "reason" => reason.as_str())
            .set(0.0);
    }
}

/// A statement failed and is tried again.
pub fn database_trouble(what: &'static str) {
    counter!("postrider_db_errors_total", "statement" => what).increment(1);
}

/// Deliveries in hand.
pub fn in_hand(jobs: usize) {
    gauge!("postrider_in_hand").set(jobs as f64);
}

fn ending_name(ending: Ending) -> &'static str {
    match ending {
        Ending::Delivered => "delivered",
        Ending::Bounced { .. } => "bounced",
        Ending::Learned { .. } => "learned",
        Ending::Expired => "expired",
        Ending::Suppressed => "suppressed",
        Ending::Cancelled => "cancelled",
        Ending::Dead(_) => "dead",
        Ending::Deferred { .. } => "deferred",
        Ending::Released { .. } => "released",
    }
}

fn name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Delivered(_) => "delivered",
        Outcome::Refused(_) => "refused",
        Outcome::Unreached(_) => "unreached",
        Outcome::Doubtful(_) => "doubtful",
        Outcome::Postponed { .. } => "postponed",
        Outcome::Suppressed => "suppressed",
        Outcome::Expired => "expired",
        Outcome::Cancelled => "cancelled",
        Outcome::Learned(_) => "learned",
        Outcome::Malformed { .. } => "malformed",
        Outcome::Crashed { .. } => "crashed",
    }
}
