//! The span of a request: the first of its message's trace, or one beside it.
//!
//! The caller's context is taken over (`traceparent`, W3C Trace Context) and lies with the
//! message from then on. The span is made when the request has been answered.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::request::Parts;

use crate::domain::clock::Clock;
use crate::domain::ids::MessageId;
use crate::domain::trace::{Context, SpanId, TraceId, Traceparent};
use crate::telemetry::traces;
use crate::telemetry::traces::span::{Facts, Kind, Span};

/// The header of a caller's context.
const TRACEPARENT: &str = "traceparent";

/// Routes that are asked all the time and tell nothing.
const PROBES: [&str; 2] = ["/livez", "/readyz"];

/// What is found out of a request for its span; nothing where nothing is traced.
#[derive(Debug, Clone, Default)]
pub struct Journey(Option<Arc<Known>>);

#[derive(Debug)]
struct Known {
    caller: Option<Traceparent>,
    work: OnceLock<Work>,
}

/// What a request did.
#[derive(Debug, Clone, Copy)]
struct Work {
    message: MessageId,
    deliveries: u64,
    root: Root,
}

/// Where the trace of the message begins.
#[derive(Debug, Clone, Copy)]
enum Root {
    /// With this request.
    Here,
    /// With an earlier one, in this trace.
    Earlier(Context),
}

/// What the answer was.
#[derive(Debug, Clone, Copy)]
pub struct Answered<'a> {
    /// GET, POST.
    pub method: &'a str,
    /// As written in the router.
    pub route: &'a str,
    /// The status.
    pub status: u16,
    /// Whose key it was; empty: nobody's.
    pub tenant: &'a str,
    /// The id in the log.
    pub request_id: &'a str,
    /// From the head to the answer's head.
    pub took: Duration,
}

impl Journey {
    /// Of a request with these headers.
    pub fn begin(headers: &HeaderMap) -> Self {
        if !traces::are_on() {
            return Self(None);
        }
        let mut given = headers.get_all(TRACEPARENT).iter();
        // Two are none, and a caller that says it wrongly has a new trace (3.2.2.5).
        let caller = match (given.next(), given.next()) {
            (Some(one), None) => one.to_str().ok().and_then(|text| text.parse().ok()),
            _ => None,
        };
        Self(Some(Arc::new(Known { caller, work: OnceLock::new() })))
    }

    /// The caller's context, to be stored with what it submits.
    pub fn caller(&self) -> Option<Traceparent> {
        self.0.as_ref()?.caller
    }

    /// The request made a message with so many deliveries.
    pub fn made(&self, message: MessageId, deliveries: u64) {
        self.note(Work { message, deliveries, root: Root::Here });
    }

    /// The request added to a message, or repeated the one that made it. `stored` is the
    /// context that came with that one.
    pub fn joined(&self, message: MessageId, deliveries: u64, stored: Option<&Traceparent>) {
        let root = Root::Earlier(Context::of(message, stored));
        self.note(Work { message, deliveries, root });
    }

    fn note(&self, work: Work) {
        if let Some(known) = &self.0 {
            // A second note cannot differ from the first: a request does one thing.
            let _ = known.work.set(work);
        }
    }

    /// Tells of the request, if it is one to be kept; its trace.
    pub fn end(&self, answered: &Answered<'_>) -> Option<TraceId> {
        let (known, terms) = (self.0.as_ref()?, traces::terms()?);
        if PROBES.contains(&answered.route) {
            return None;
        }
        let work = known.work.get();
        let random = || SpanId::random(rand::random());
        let caller = known.caller.map(|caller| caller.parent);
        let own = match known.caller {
            Some(caller) => Context { trace: caller.trace, caller: Some(caller.sampled) },
            None => {
                Context { trace: TraceId::random(rand::random(), rand::random()), caller: None }
            }
        };
        let (context, id, parent, link) = match work {
            Some(Work { message, root: Root::Here, .. }) => {
                let context = Context::of(*message, known.caller.as_ref());
                (context, SpanId::of_request(*message), caller, None)
            }
            Some(Work { message, root: Root::Earlier(context), .. }) => {
                let root = SpanId::of_request(*message);
                match caller {
                    // It belongs to its caller, and points to what it joined.
                    Some(_) => (own, random(), caller, Some((context.trace, root))),
                    None => (*context, random(), Some(root), None),
                }
            }
            None => (own, random(), caller, None),
        };
        let deliveries = work.map_or(1, |work| work.deliveries);
        let failed = answered.status >= 500;
        let is_kept = if failed {
            terms.keep_failed_request(&context)
        } else {
            terms.keep_request(&context, deliveries)
        };
        if !is_kept {
            return None;
        }
        let ended = Clock::System.now();
        traces::record([Span {
            trace: context.trace,
            id,
            parent,
            name: format!("{} {}", answered.method, answered.route),
            kind: Kind::Server,
            began: ended - answered.took,
            ended,
            failure: failed.then(|| format!("answered {}", answered.status)),
            facts: facts(answered, work),
            moments: Vec::new(),
            links: link.into_iter().collect(),
        }]);
        Some(context.trace)
    }
}

fn facts(answered: &Answered<'_>, work: Option<&Work>) -> Facts {
    let mut facts = Facts::default();
    facts.text("http.request.method", answered.method);
    facts.text("http.route", answered.route);
    facts.number("http.response.status_code", answered.status.into());
    facts.text("postrider.request_id", answered.request_id);
    facts.maybe("postrider.tenant", Some(answered.tenant).filter(|name| !name.is_empty()));
    if let Some(work) = work {
        facts.text("postrider.message", work.message);
        facts.number("postrider.deliveries", i64::try_from(work.deliveries).unwrap_or(i64::MAX));
    }
    facts
}

impl<S: Send + Sync> FromRequestParts<S> for Journey {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}
