//! The spans of an attempt: its wait in the queue, and itself with the points it passed.
//!
//! Made when the attempt is over, for then it is known whether it is kept. What only waited
//! was no attempt and leaves none.

use std::time::{Instant, SystemTime};

use crate::domain::clock::Clock;
use crate::domain::outcome::Outcome;
use crate::domain::receipt::Trail;
use crate::domain::trace::{Context, SpanId, Traceparent};
use crate::domain::verdict::Verdict;
use crate::queue::job::Job;
use crate::queue::lane::Lane;
use crate::telemetry::traces;
use crate::telemetry::traces::span::{Facts, Kind, Moment, Span};
use crate::telemetry::traces::terms::Course;
use crate::telemetry::tracing::masked;

/// Tells of an attempt that is over, if it is one to be kept; where it stands in its trace, for
/// its line in the log and for what comes of it.
pub fn attempt(lane: &Lane, job: &Job, outcome: &Outcome, trail: &Trail) -> Option<Traceparent> {
    let terms = traces::terms()?;
    let is_smooth = matches!(outcome, Outcome::Delivered(_)) && job.attempt == 1 && !job.suspect;
    let course = if is_smooth { Course::Smooth } else { Course::Troubled };
    let context = Context::of(job.message, trail.notes.caller.as_ref());
    if !terms.keep_attempt(&context, &trail.notes, job.id, course) {
        return None;
    }
    let end = End::of(outcome)?;
    let (now, then) = (Clock::System.now(), Instant::now());
    let wall = |at: Instant| now - then.saturating_duration_since(at);
    let claimed = wall(job.claimed_at);
    let itself = SpanId::of_attempt(job.id, job.attempt);
    let before = (job.attempt > 1).then(|| SpanId::of_attempt(job.id, job.attempt - 1));
    let root = SpanId::of_request(job.message);
    let wait = Span {
        trace: context.trace,
        id: SpanId::of_wait(job.id, job.attempt),
        parent: Some(root),
        name: "queue wait".into(),
        kind: Kind::Internal,
        began: claimed - job.waited,
        ended: claimed,
        failure: None,
        facts: of_delivery(lane, job),
        moments: Vec::new(),
        links: Vec::new(),
    };
    let attempt = Span {
        trace: context.trace,
        id: itself,
        parent: Some(root),
        name: "attempt".into(),
        kind: Kind::Client,
        began: now - trail.took,
        ended: now,
        facts: of_attempt(lane, job, &end, trail),
        failure: end.failure,
        moments: moments(trail, wall),
        // One follows from the other, and what it waited for lies between them.
        links: before.map(|before| (context.trace, before)).into_iter().collect(),
    };
    traces::record([wait, attempt]);
    Some(Traceparent { trace: context.trace, parent: itself, sampled: true })
}

/// How an attempt ended.
struct End<'o> {
    word: &'static str,
    verdict: Option<&'o Verdict>,
    /// The peer's reply code, also of a success.
    code: Option<u16>,
    failure: Option<String>,
}

impl<'o> End<'o> {
    /// `None`: no attempt was made.
    fn of(outcome: &'o Outcome) -> Option<Self> {
        let judged = |word, verdict: &'o Verdict| Self {
            word,
            verdict: Some(verdict),
            code: match &verdict.cause {
                crate::domain::verdict::Cause::Reply(reply) => Some(reply.code),
                _ => None,
            },
            failure: Some(masked(&verdict.to_string())),
        };
        let ours = |word, reason: &str| Self {
            word,
            verdict: None,
            code: None,
            failure: Some(masked(reason)),
        };
        Some(match outcome {
            Outcome::Delivered(receipt) => Self {
                word: "delivered",
                verdict: None,
                code: Some(receipt.reply.code),
                failure: None,
            },
            Outcome::Refused(verdict) => judged("refused", verdict),
            Outcome::Unreached(verdict) => judged("unreached", verdict),
            Outcome::Doubtful(verdict) => judged("in doubt", verdict),
            Outcome::Malformed { reason } => ours("malformed", reason),
            Outcome::Crashed { reason } => ours("crashed", reason),
            Outcome::Postponed { .. }
            | Outcome::Suppressed
            | Outcome::Expired
            | Outcome::Cancelled
            | Outcome::Learned(_) => return None,
        })
    }
}

fn of_delivery(lane: &Lane, job: &Job) -> Facts {
    let mut facts = Facts::default();
    facts.text("postrider.delivery", job.id);
    facts.text("postrider.message", job.message);
    facts.text("postrider.tenant", &lane.tenant_name);
    facts.text("postrider.stream", &lane.stream_name);
    facts.text("postrider.mailbox_provider", &lane.mailbox_provider);
    facts.number("postrider.attempt", job.attempt.into());
    facts
}

fn of_attempt(lane: &Lane, job: &Job, end: &End<'_>, trail: &Trail) -> Facts {
    let mut facts = of_delivery(lane, job);
    facts.text("postrider.outcome", end.word);
    facts.maybe("postrider.route", trail.route.as_ref());
    facts.maybe("postrider.source", trail.source.as_ref());
    facts.maybe("server.address", trail.host.as_ref());
    facts.maybe("network.peer.address", trail.peer);
    facts.maybe("postrider.tls", trail.tls.as_ref());
    facts.maybe("postrider.provider_id", trail.provider_id.as_ref());
    if let Some(code) = end.code {
        facts.number("postrider.reply_code", code.into());
    }
    if let Some(verdict) = end.verdict {
        facts.text("postrider.class", verdict.class.as_str());
        facts.text("postrider.stage", verdict.stage);
        facts.text("postrider.reach", verdict.reach.as_str());
        facts.text("error.type", verdict.class.as_str());
    }
    facts.flag("postrider.suspect", job.suspect);
    facts
}

fn moments(trail: &Trail, wall: impl Fn(Instant) -> SystemTime) -> Vec<Moment> {
    let moment = |mark: &crate::domain::trace::Mark| Moment { what: mark.what, at: wall(mark.at) };
    trail.notes.marks().iter().map(moment).collect()
}
