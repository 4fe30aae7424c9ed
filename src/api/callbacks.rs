//! `/v1/callbacks/…`: what providers tell of mail that they took.
//!
//! Verified here, stored, and acknowledged only then; understood later by a daemon. What cannot
//! be stored now is answered 503, so that the provider repeats it. A flood of callbacks has few
//! seats, memory of its own and two statements at once, so submissions do not notice.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::Api;
use super::body::{self, Budget};
use super::error::Problem;
use crate::callback::store::{self, Put};
use crate::callback::verify::Verifier;
use crate::callback::{Opened, Origin, Refusal};
use crate::config::Callbacks;
use crate::inbound::store::MAX_WAITING;
use crate::queue::deadline;

/// Longest time for a body: providers send it at once.
const BODY: Duration = Duration::from_secs(10);

/// Longest time for storing, so that there is an answer before the provider gives up.
const STORING: Duration = Duration::from_secs(8);

/// Statements of callbacks at once.
const STATEMENTS: usize = 2;

/// How long it is believed that there is room, or none.
const ROOM: Duration = Duration::from_secs(5);

/// Memory for bodies of callbacks together.
const MEMORY: u64 = 32 << 20;

/// What callbacks share.
#[derive(Debug)]
pub(super) struct Desk {
    verifier: Verifier,
    seats: Semaphore,
    statements: Semaphore,
    budget: Budget,
    max_body_bytes: u64,
    /// Whether too much waits for the daemons, and when that was asked.
    full: Mutex<Option<(Instant, bool)>>,
}

impl Desk {
    /// `None` where no provider is listened to, or with a line in the log where none can be.
    pub(super) fn new(settings: &Callbacks) -> Option<Self> {
        if !settings.is_on() {
            return None;
        }
        let verifier = Verifier::new(settings)
            .inspect_err(
                |error| tracing::error!(%error, "callbacks cannot be verified, and none are taken"),
            )
            .ok()?;
        Some(Self {
            verifier,
            seats: Semaphore::new(settings.max_requests as usize),
            statements: Semaphore::new(STATEMENTS),
            budget: Budget::of(MEMORY.max(settings.max_body_bytes)),
            max_body_bytes: settings.max_body_bytes,
            full: Mutex::default(),
        })
    }
}

/// `POST /v1/callbacks/ses`
pub async fn ses(State(api): State<Arc<Api>>, request: Request) -> Response {
    answer(&api, Origin::Ses, request).await
}

/// `POST /v1/callbacks/sendgrid`
pub async fn sendgrid(State(api): State<Arc<Api>>, request: Request) -> Response {
    answer(&api, Origin::SendGrid, request).await
}

/// `POST /v1/callbacks/mailgun`
pub async fn mailgun(State(api): State<Arc<Api>>, request: Request) -> Response {
    answer(&api, Origin::Mailgun, request).await
}

async fn answer(api: &Api, origin: Origin, request: Request) -> Response {
    let Some(desk) = api.callbacks.as_ref().filter(|desk| desk.verifier.knows(origin)) else {
        return Problem::not_found("path").into_response();
    };
    match take(api, desk, origin, request).await {
        Ok(()) => "taken\n".into_response(),
        Err(refusal) => {
            metrics::counter!(
                "postrider_callbacks_refused_total",
                "provider" => origin.as_str(), "reason" => refusal.as_str()
            )
            .increment(1);
            tracing::debug!(provider = origin.as_str(), %refusal, "a callback was refused");
            Problem::callback(refusal).into_response()
        }
    }
}

async fn take(api: &Api, desk: &Desk, origin: Origin, request: Request) -> Result<(), Refusal> {
    // Whoever finds no seat is told so before its body is read.
    let _seat = desk.seats.try_acquire().map_err(|_| Refusal::Busy)?;
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let peer = peer.map_or_else(|| "unknown".to_owned(), |info| info.0.ip().to_string());
    let (head, body) = request.into_parts();
    let (body, _share) = read(desk, &head.headers, body).await?;
    let now = api.clock.unix_seconds();
    let opened = desk.verifier.open(origin, &head.headers, &body, now).await?;
    keep(api, desk, origin, &peer, &opened).await
}

async fn read(
    desk: &Desk,
    headers: &HeaderMap,
    body: Body,
) -> Result<(bytes::Bytes, Option<tokio::sync::OwnedSemaphorePermit>), Refusal> {
    let reading = body::read(&desk.budget, headers, body, desk.max_body_bytes);
    match tokio::time::timeout(BODY, reading).await {
        Ok(Ok(read)) => Ok(read),
        Ok(Err(problem)) if problem.is_too_large() => Err(Refusal::TooLarge),
        Ok(Err(problem)) if problem.is_unavailable() => Err(Refusal::Busy),
        Ok(Err(_)) | Err(_) => Err(Refusal::Malformed),
    }
}

/// In the home cell, also what is about deliveries of others: daemons find those.
async fn keep(
    api: &Api,
    desk: &Desk,
    origin: Origin,
    peer: &str,
    opened: &Opened,
) -> Result<(), Refusal> {
    let writing = async {
        let _turn = desk.statements.acquire().await.map_err(|_| sqlx::Error::PoolClosed)?;
        if is_full(api, desk).await? {
            return Ok(None);
        }
        let cells = &api.cells;
        cells
            .ask_home(|pool| async move { store::put(&pool, origin, peer, opened).await })
            .await
            .map(Some)
    };
    let put = deadline::within(STORING, writing).await.map_err(|error| {
        tracing::warn!(%error, provider = origin.as_str(), "a callback could not be stored");
        Refusal::Database
    })?;
    let new = match put {
        None => return Err(Refusal::Busy),
        Some(Put::Replayed) => return Err(Refusal::Replayed),
        Some(Put::Stored(new)) => new,
    };
    let known = opened.events.len() as u64 - new.min(opened.events.len() as u64);
    for (outcome, events) in
        [("stored", new), ("duplicate", known), ("ignored", opened.idle as u64)]
    {
        metrics::counter!(
            "postrider_callback_events_total", "provider" => origin.as_str(), "outcome" => outcome
        )
        .increment(events);
    }
    Ok(())
}

/// Whether too many reports wait for the daemons.
async fn is_full(api: &Api, desk: &Desk) -> Result<bool, sqlx::Error> {
    if let Some((_, full)) = desk.full.lock().filter(|(at, _)| at.elapsed() < ROOM) {
        return Ok(full);
    }
    let full =
        api.cells.ask_home(|pool| async move { store::is_full(&pool, MAX_WAITING).await }).await?;
    *desk.full.lock() = Some((Instant::now(), full));
    Ok(full)
}
