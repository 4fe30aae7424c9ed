//! What is logged of an attempt. Addresses only where the log level says so.

use crate::domain::outcome::Outcome;
use crate::domain::receipt::Trail;
use crate::queue::job::Job;
use crate::queue::lane::Lane;
use crate::telemetry::tracing::{shown, shown_in};

/// One line for an attempt: what it was, which way it went, how it ended, and where its trace
/// is, if that is kept.
pub fn attempt(lane: &Lane, job: &Job, outcome: &Outcome, trail: &Trail) {
    let kept = trail.notes.kept;
    macro_rules! line {
        ($level:ident, $text:literal, $reason:expr) => {
            tracing::$level!(
                delivery = %job.id,
                message_id = %job.message,
                tenant = %lane.tenant_name,
                stream = %lane.stream_name,
                recipient = %shown(&job.recipient),
                attempt = job.attempt,
                route = trail.route.as_deref(),
                host = trail.host.as_deref(),
                took_ms = trail.took.as_millis() as u64,
                reason = $reason,
                trace_id = kept.map(|kept| tracing::field::display(kept.trace)),
                span_id = kept.map(|kept| tracing::field::display(kept.parent)),
                $text
            )
        };
    }
    match outcome {
        Outcome::Delivered(_) => line!(debug, "delivered", None::<String>),
        Outcome::Refused(verdict) => line!(info, "refused", Some(shown_in(&verdict.to_string()))),
        Outcome::Unreached(verdict) => {
            line!(info, "unreached", Some(shown_in(&verdict.to_string())));
        }
        Outcome::Doubtful(verdict) => line!(warn, "in doubt", Some(shown_in(&verdict.to_string()))),
        Outcome::Postponed { reason, .. } => line!(debug, "postponed", Some(reason.as_str())),
        Outcome::Suppressed => line!(info, "suppressed", None::<String>),
        Outcome::Expired => line!(info, "expired", None::<String>),
        Outcome::Cancelled => line!(debug, "cancelled", None::<String>),
        Outcome::Learned(learned) => {
            let what = if learned.delivered { "delivered before" } else { "refused before" };
            line!(info, "no longer in doubt", Some(what));
        }
        Outcome::Malformed { reason } => line!(warn, "malformed", Some(reason)),
        Outcome::Crashed { reason } => line!(error, "crashed", Some(reason)),
    }
}
