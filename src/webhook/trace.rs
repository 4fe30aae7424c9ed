//! The span of a request to an endpoint, in the trace of each delivery that it tells of.
//!
//! Whether a trace is kept was drawn when the attempt was over; the event says so by the place of
//! that attempt in its trace (docs/adr/0033), so nothing is asked and nothing drawn here. Nothing
//! of the URL is told: it is the tenant's, and may hold a token.

use std::time::SystemTime;

use super::lease::Lease;
use super::outcome::Answer;
use crate::domain::trace::SpanId;
use crate::event::payload::Event;
use crate::telemetry::traces;
use crate::telemetry::traces::span::{Facts, Kind, Span};

/// Most other spans of a batch that each one links to.
const MOST_LINKS: usize = 16;

/// A request that is over.
pub(super) struct Request<'r> {
    /// Whose endpoint it went to.
    pub(super) lease: &'r Lease,
    /// What it told, each with how often that was refused before.
    pub(super) events: Vec<(&'r Event, u32)>,
    /// What it came to.
    pub(super) answer: &'r Answer,
    /// From when.
    pub(super) began: SystemTime,
    /// Until when.
    pub(super) ended: SystemTime,
}

/// Tells of a request, once in each trace that is kept.
pub(super) fn told(request: &Request<'_>) {
    if traces::are_on() {
        traces::record(spans(request));
    }
}

/// The spans (their ids are random).
fn spans(request: &Request<'_>) -> Vec<Span> {
    let Request { lease, events, answer, began, ended } = request;
    let kept: Vec<_> = events
        .iter()
        .filter_map(|(event, tries)| {
            Some((*event, *tries, event.trace?, SpanId::random(rand::random())))
        })
        .collect();
    let span = |&(event, tries, at, id): &(&Event, u32, _, SpanId)| {
        let at: crate::domain::trace::Traceparent = at;
        let mut facts = Facts::default();
        facts.text("postrider.webhook", lease.webhook);
        facts.text("postrider.event", event.kind);
        facts.text("postrider.event_id", event.id);
        facts.maybe("postrider.delivery", event.delivery);
        facts.maybe("postrider.message", event.data.message_id);
        facts.number("postrider.try", i64::from(tries) + 1);
        facts.number("postrider.events", events.len() as i64);
        facts.text("postrider.outcome", answer.outcome());
        if let Some(status) = answer.status() {
            facts.number("http.response.status_code", status.into());
        }
        let others = kept.iter().filter(|(_, _, _, other)| *other != id);
        Span {
            trace: at.trace,
            id,
            parent: Some(at.parent),
            name: "webhook".into(),
            kind: Kind::Client,
            began: *began,
            ended: *ended,
            failure: (!answer.is_taken()).then(|| answer.to_string()),
            facts,
            moments: Vec::new(),
            links: others.take(MOST_LINKS).map(|(_, _, at, id)| (at.trace, *id)).collect(),
        }
    };
    kept.iter().map(span).collect()
}
