//! `GET /v1/events`: what happened, from a cursor on, as a page or as a stream of lines; and
//! `PUT /v1/events`: whether it is written at all.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{FutureExt, Stream, TryStreamExt, stream};
use serde::{Deserialize, Serialize};

use super::Api;
use super::auth::Authenticated;
use super::body::{parse_json, read as read_body, require_type};
use super::error::Problem;
use crate::event::cursor::{Cursor, Place};
use crate::event::kind::EventKind;
use crate::event::log::{self, Page};
use crate::event::payload::Event;
use crate::event::switch::{self, Standing};
use crate::queue::admin::action::{self, Action};

/// Events of a page when the caller does not say, and at most.
const PAGE: u32 = 100;
const MAX_PAGE: u32 = 1_000;

/// Events of the log that are looked at for one page, or one piece of a stream: where few are
/// wanted a page may be short, even empty, and still have a next one.
const STRETCH: i64 = 1_000;

/// Most bytes of a body.
const MAX_BODY: u64 = 4 << 10;

const NDJSON: &str = "application/x-ndjson";

/// What can be asked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventQuery {
    cursor: Option<String>,
    limit: Option<String>,
    r#type: Option<String>,
}

/// A page.
#[derive(Debug, Serialize)]
pub struct EventPage {
    events: Vec<Event>,
    /// Where the next page begins, also where there is none yet.
    next_cursor: String,
    /// There is likely more at once.
    more: bool,
    /// Whether events are written.
    enabled: bool,
}

/// A line of a stream.
#[derive(Debug, Serialize)]
struct Line<'e> {
    #[serde(flatten)]
    event: &'e Event,
    /// Where to go on after this line.
    cursor: String,
}

/// `GET /v1/events?cursor=&limit=&type=`
pub async fn read(
    caller: Authenticated,
    query: Result<Query<EventQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Query(query) = query.map_err(|error| Problem::parameter("query", error.body_text()))?;
    let given = |value: Option<String>| value.filter(|value| !value.is_empty());
    let cursor = given(query.cursor)
        .map(|text| text.parse::<Cursor>())
        .transpose()
        .map_err(|error| Problem::parameter("cursor", error))?;
    let kinds = given(query.r#type)
        .map(|names| EventKind::read_all(names.split(',').map(str::trim)))
        .transpose()
        .map_err(|error| Problem::parameter("type", error))?;
    let limit = match given(query.limit) {
        None => None,
        Some(text) => {
            let limit = text.parse().ok().filter(|limit| (1..=MAX_PAGE).contains(limit));
            let problem = || Problem::parameter("limit", format!("expected 1 to {MAX_PAGE}"));
            Some(limit.ok_or_else(problem)?)
        }
    };
    let reading = Reading { caller, kinds };
    let standing = reading.standing().await?;
    let after = match cursor {
        None => Place::START,
        Some(cursor) => {
            cursor.place(standing.moves).map_err(|error| Problem::parameter("cursor", error))?
        }
    };
    let lines = headers
        .get(ACCEPT)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|accept| accept.split([',', ';']).any(|one| one.trim() == NDJSON));
    if lines {
        let body = Body::from_stream(reading.lines(after, standing.moves));
        return Ok(([(CONTENT_TYPE, HeaderValue::from_static(NDJSON))], body).into_response());
    }
    let limit = i64::from(limit.unwrap_or(PAGE));
    let stretch = if reading.kinds.is_some() { STRETCH } else { limit };
    let mut page = reading.page(after, stretch).await?;
    if page.events.len() as i64 > limit {
        page.events.truncate(limit as usize);
        page.end = page.events.last().map_or(page.end, |entry| entry.place);
        page.more = true;
    }
    let page = EventPage {
        next_cursor: Cursor::new(standing.moves, page.end).to_string(),
        more: page.more,
        enabled: standing.enabled,
        events: page.events.into_iter().map(|entry| entry.event).collect(),
    };
    Ok(Json(page).into_response())
}

/// Who reads what.
struct Reading {
    caller: Authenticated,
    kinds: Option<Vec<EventKind>>,
}

impl Reading {
    async fn standing(&self) -> Result<Standing, sqlx::Error> {
        let scope = *self.caller.scope();
        scope
            .run(&self.caller.cell().pool, move |conn| {
                switch::standing(conn, scope.tenant()).boxed()
            })
            .await
    }

    async fn page(&self, after: Place, limit: i64) -> Result<Page, sqlx::Error> {
        let (scope, kinds) = (*self.caller.scope(), self.kinds.clone());
        scope
            .run(&self.caller.cell().pool, move |conn| {
                async move { log::read(conn, scope.tenant(), after, kinds.as_deref(), limit).await }
                    .boxed()
            })
            .await
    }

    /// All there is now, piece by piece as it is taken.
    fn lines(self, after: Place, moves: i32) -> impl Stream<Item = Result<Bytes, sqlx::Error>> {
        stream::try_unfold((self, Some(after)), move |(reading, after)| async move {
            let Some(after) = after else { return Ok(None) };
            let page = reading.page(after, STRETCH).await?;
            let mut text = Vec::new();
            for entry in &page.events {
                let cursor = Cursor::new(moves, entry.place).to_string();
                let line = Line { event: &entry.event, cursor };
                serde_json::to_writer(&mut text, &line)
                    .map_err(|error| sqlx::Error::Encode(error.into()))?;
                text.push(b'\n');
            }
            Ok(Some((Bytes::from(text), (reading, page.more.then_some(page.end)))))
        })
        .inspect_err(|error: &sqlx::Error| tracing::warn!(%error, "a stream of events broke off"))
    }
}

/// What is to be.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    enabled: bool,
}

/// What is.
#[derive(Debug, Serialize)]
pub struct Switched {
    enabled: bool,
}

/// `PUT /v1/events`
pub async fn switch(
    State(api): State<Arc<Api>>,
    caller: Authenticated,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Switched>, Problem> {
    require_type(&headers, &["application/json"])?;
    let (bytes, _share) = read_body(&api.budget, &headers, body, MAX_BODY).await?;
    let Asked { enabled } = parse_json(&bytes)?;
    let scope = *caller.scope();
    let (actor, target) =
        (format!("api:{}", caller.prefix()), format!("events of tenant {}", caller.tenant_name()));
    let done = scope
        .run(&caller.cell().pool, move |conn| {
            async move {
                let done = if enabled {
                    switch::on(&mut *conn, scope.tenant()).await.map(|()| true)?
                } else {
                    switch::off(&mut *conn, scope.tenant()).await?
                };
                if done {
                    let action = Action {
                        actor: &actor,
                        action: if enabled { "events on" } else { "events off" },
                        target: &target,
                        reason: None,
                        detail: serde_json::Value::Null,
                    };
                    action::record(conn, &action).await?;
                }
                Ok(done)
            }
            .boxed()
        })
        .await?;
    if done {
        Ok(Json(Switched { enabled }))
    } else {
        Err(Problem::conflict("endpoints wait for events: delete them first"))
    }
}
