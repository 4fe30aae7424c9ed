//! `/c/{token}` and `/o/{token}`: links of tracked mail, and the picture in it.
//!
//! The answer needs nothing but the token: whoever follows a link gets there while the database
//! is away, and long after the delivery is forgotten. Nobody is ever sent to an address that this
//! installation did not sign for this host. What there is to tell is told behind the answer, a
//! few statements at a time; when that cannot be, the event is lost and counted. GET tells,
//! because that is what people send; HEAD does not, because only machines send it.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Path, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_TYPE, HOST, LOCATION, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use quick_cache::sync::Cache;
use tokio::sync::Semaphore;

use super::Api;
use super::agent;
use super::cells::Cells;
use super::page::no_such_link;
use crate::config::Secrets;
use crate::event::track::{Seen, Told};
use crate::message::tracking::{Target, TrackingKey};
use crate::queue::deadline;

/// What waits to be told, at most: about 2 KiB each.
const WAITING: u32 = 1_000;

/// Statements at once.
const STATEMENTS: usize = 2;

/// Longest time for one.
const TELLING: Duration = Duration::from_secs(10);

/// What was told is remembered for so long: a link that is followed over and over costs nothing.
const FRESH: Duration = Duration::from_secs(60);

/// So many of them are remembered.
const REMEMBERED: usize = 20_000;

/// The smallest picture that every program shows: one transparent dot.
const DOT: &[u8] = b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff!\xf9\x04\x01\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x01D\0;";

/// Nothing on the way keeps an answer, or tells the next one where it came from.
const POLICY: [(HeaderName, HeaderValue); 4] = [
    (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (HeaderName::from_static("x-robots-tag"), HeaderValue::from_static("noindex, nofollow")),
];

/// Reads tokens, and tells what was seen.
pub(super) struct Tracker {
    key: TrackingKey,
    cells: Arc<Cells>,
    waiting: Arc<Semaphore>,
    statements: Semaphore,
    recent: Cache<u64, Instant>,
    hasher: RandomState,
}

impl Tracker {
    /// `None` where there is no key: then no link is ours.
    pub(super) fn new(secrets: &Secrets, cells: Arc<Cells>) -> Option<Arc<Self>> {
        Some(Arc::new(Self {
            key: TrackingKey::of(secrets)?,
            cells,
            waiting: Arc::new(Semaphore::new(WAITING as usize)),
            statements: Semaphore::new(STATEMENTS),
            recent: Cache::new(REMEMBERED),
            hasher: RandomState::new(),
        }))
    }

    /// Waits until what was seen is told, for as long as one may take.
    pub(super) async fn finish(&self) {
        // In the end it is lost either way, and counted where it was.
        let _ = tokio::time::timeout(TELLING, self.waiting.acquire_many(WAITING)).await;
    }

    /// Has it told, unless it was told just now.
    fn tell(self: &Arc<Self>, seen: Seen) {
        let kind = kind_of(&seen);
        let mark = self.hasher.hash_one((seen.delivery.get(), &seen.url));
        if self.recent.get(&mark).is_some_and(|at| at.elapsed() < FRESH) {
            return count(kind, Told::Repeated.as_str());
        }
        let Ok(seat) = Arc::clone(&self.waiting).try_acquire_owned() else {
            return count(kind, "busy");
        };
        let tracker = Arc::clone(self);
        tokio::spawn(async move {
            match deadline::within(TELLING, tracker.write(&seen)).await {
                Ok(told) => {
                    if matches!(told, Told::Told | Told::Repeated | Told::TooMany) {
                        tracker.recent.insert(mark, Instant::now());
                    }
                    count(kind, told.as_str());
                }
                Err(error) => {
                    tracing::debug!(%error, delivery = %seen.delivery, "an event is lost");
                    count(kind, "database");
                }
            }
            drop(seat);
        });
    }

    async fn write(&self, seen: &Seen) -> Result<Told, sqlx::Error> {
        let _turn = self.statements.acquire().await.map_err(|_| sqlx::Error::PoolClosed)?;
        self.cells.track(seen).await
    }
}

/// `GET /c/{token}`
pub async fn click(
    State(api): State<Arc<Api>>,
    Path(token): Path<String>,
    request: Request,
) -> Response {
    let Some(tracker) = &api.tracker else { return refused("click", "no_key") };
    let clicked = match tracker.key.read_click(&host(&request), &token) {
        Ok(clicked) => clicked,
        Err(fault) => return refused("click", fault.as_str()),
    };
    let Some(answer) = redirect(&clicked.target) else { return refused("click", "malformed") };
    seen(tracker, &request, |agent, machine| Seen {
        delivery: clicked.delivery,
        url: Some(clicked.target.to_string()),
        agent,
        machine,
    });
    answer
}

/// `GET /o/{token}`
pub async fn open(
    State(api): State<Arc<Api>>,
    Path(token): Path<String>,
    request: Request,
) -> Response {
    let Some(tracker) = &api.tracker else { return refused("open", "no_key") };
    let delivery = match tracker.key.read_open(&host(&request), &token) {
        Ok(delivery) => delivery,
        Err(fault) => return refused("open", fault.as_str()),
    };
    seen(tracker, &request, |agent, machine| Seen { delivery, url: None, agent, machine });
    (POLICY, [(CONTENT_TYPE, HeaderValue::from_static("image/gif"))], DOT).into_response()
}

fn seen(
    tracker: &Arc<Tracker>,
    request: &Request,
    what: impl FnOnce(Option<String>, bool) -> Seen,
) {
    let headers = request.headers();
    let seen = what(agent::told(headers), agent::is_machine(headers));
    if request.method() == Method::HEAD {
        return count(kind_of(&seen), "looked");
    }
    tracker.tell(seen);
}

/// `None` only for what cannot stand in a header, which no target can be.
fn redirect(target: &Target) -> Option<Response> {
    let location = HeaderValue::from_str(target.as_str()).ok()?;
    Some((StatusCode::FOUND, POLICY, [(LOCATION, location)]).into_response())
}

/// The name that was asked for: lower case, without a port. A proxy in front must pass it on.
fn host(request: &Request) -> String {
    let named = request.headers().get(HOST).and_then(|value| value.to_str().ok());
    let authority = || request.uri().authority().map(axum::http::uri::Authority::as_str);
    let text = named.or_else(authority).unwrap_or_default();
    let name = match text.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => text,
    };
    name.trim_end_matches('.').to_ascii_lowercase()
}

fn kind_of(seen: &Seen) -> &'static str {
    if seen.url.is_some() { "click" } else { "open" }
}

fn refused(kind: &'static str, outcome: &'static str) -> Response {
    count(kind, outcome);
    no_such_link()
}

fn count(kind: &'static str, outcome: &'static str) {
    metrics::counter!("postrider_tracking_requests_total", "kind" => kind, "outcome" => outcome)
        .increment(1);
}

impl fmt::Debug for Tracker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracker").field("recent", &self.recent.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[test]
    fn the_host_is_what_was_asked_for() {
        for (uri, header, host_of) in [
            ("/c/x", Some("Link.Shop.example"), "link.shop.example"),
            ("/c/x", Some("link.shop.example:8443"), "link.shop.example"),
            ("/c/x", Some("link.shop.example."), "link.shop.example"),
            ("https://link.shop.example/c/x", None, "link.shop.example"),
            ("https://a.example/c/x", Some("b.example"), "b.example"),
            ("/c/x", None, ""),
            ("/c/x", Some("[::1]:80"), "[::1]"),
        ] {
            let mut request = Request::get(uri);
            if let Some(header) = header {
                request = request.header(HOST, header);
            }
            assert_eq!(host(&request.body(Body::empty()).expect("a request")), host_of);
        }
    }

    #[test]
    fn a_target_becomes_a_header_as_it_is() {
        let target = Target::read("https://shop.example/ä?a=1&b='%22#c").expect("a target");
        let answer = redirect(&target).expect("an answer");
        assert_eq!(answer.status(), StatusCode::FOUND);
        assert_eq!(answer.headers()[LOCATION], "https://shop.example/%C3%A4?a=1&b=%27%22#c");
    }
}
