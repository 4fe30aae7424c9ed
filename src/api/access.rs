//! What is noted of every request: an id, a log line, two metrics.
//!
//! The line names the route, not the path (a path can hold a token), the tenant
//! and the key's prefix; never an address or a body.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument;

use super::trace::{Answered, Journey};
use crate::telemetry::exemplars;

/// The header that ties an answer to our log.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id that is taken over from the caller.
const MAX_ID: usize = 64;

/// Where a request is answered that has no route.
const NO_ROUTE: &str = "none";

/// What later steps find out about a request, for its log line.
#[derive(Debug, Clone, Default)]
pub struct Seen(Arc<OnceLock<(String, String)>>);

impl Seen {
    /// Notes who asks.
    pub fn caller(&self, tenant: &str, key_prefix: &str) {
        // A second note cannot differ from the first: there is one key per request.
        let _ = self.0.set((tenant.to_owned(), key_prefix.to_owned()));
    }
}

/// The outermost step of every request.
pub async fn note(mut request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let id = request_id(&request);
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| NO_ROUTE.to_owned(), |path| path.as_str().to_owned());
    let method = request.method().clone();
    let journey = Journey::begin(request.headers());
    request.extensions_mut().insert(journey.clone());
    let seen = Seen::default();
    request.extensions_mut().insert(seen.clone());

    let span = tracing::info_span!("request", request_id = id.to_str().unwrap_or_default());
    let mut response = next.run(request).instrument(span.clone()).await;

    let took = begun.elapsed();
    let status = response.status().as_u16();
    let (tenant, key) = seen.0.get().map_or(("", ""), |(tenant, key)| (tenant, key));
    let trace = journey.end(&Answered {
        method: method.as_str(),
        route: &route,
        status,
        tenant,
        request_id: id.to_str().unwrap_or_default(),
        took,
    });
    if let Some(trace) = trace {
        let label = ("route", route.as_str());
        exemplars::note("postrider_api_request_seconds", label, took.as_secs_f64(), trace);
    }
    let trace_id = trace.map(|trace| trace.to_string());
    span.in_scope(|| {
        tracing::info!(
            %method, route, status, tenant, key, trace_id,
            took_ms = took.as_micros() as f64 / 1_000.0,
            "answered"
        );
    });
    metrics::histogram!("postrider_api_request_seconds", "route" => route.clone())
        .record(took.as_secs_f64());
    metrics::counter!("postrider_api_requests_total", "route" => route, "status" => status.to_string())
        .increment(1);
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// The caller's id where it is a harmless one, else a random one.
fn request_id(request: &Request) -> HeaderValue {
    let harmless = |value: &&HeaderValue| {
        (1..=MAX_ID).contains(&value.len())
            && value.as_bytes().iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
    };
    request.headers().get(REQUEST_ID).filter(harmless).cloned().unwrap_or_else(|| {
        HeaderValue::from_str(&format!("{:016x}", rand::random::<u64>()))
            .unwrap_or(HeaderValue::from_static("0"))
    })
}
