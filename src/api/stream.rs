//! `POST /v1/streams/{stream}/pause`, `/resume` and `/cancel`: a tenant's hand on its own
//! streams.
//!
//! What an operator holds back stays held back. Each call is recorded beside what operators
//! do, under the key it was made with.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};

use super::Api;
use super::auth::Authenticated;
use super::body::{parse_json, read, require_type};
use super::error::Problem;
use crate::config::unit;
use crate::queue::admin::order::Order;
use crate::queue::admin::pause::PauseError;
use crate::queue::admin::target::TargetError;
use crate::queue::admin::{cancel, pause};

/// Most bytes of a body.
const MAX_BODY: u64 = 4 << 10;

/// Longest reason in characters.
const MAX_REASON: usize = 200;

/// Why, and how long.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    reason: String,
    #[serde(rename = "for")]
    time: Option<String>,
}

/// A stream that is held back now.
#[derive(Serialize)]
#[allow(clippy::struct_field_names, reason = "the names are the interface")]
pub struct Paused {
    stream: String,
    paused: bool,
    reason: String,
    /// Until it ends by itself; `null`: not before it is resumed.
    seconds: Option<u64>,
}

/// A stream that is not held back any more.
#[derive(Serialize)]
pub struct Resumed {
    stream: String,
    paused: bool,
    was_paused: bool,
}

/// A stream whose mail was called back.
#[derive(Serialize)]
#[allow(clippy::struct_field_names, reason = "the names are the interface")]
pub struct Cancelled {
    stream: String,
    cancelled: bool,
    lanes: i64,
}

/// `POST /v1/streams/{stream}/pause`
pub async fn pause(
    State(api): State<Arc<Api>>,
    caller: Authenticated,
    Path(stream): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Paused>, Problem> {
    let Asked { reason, time } = asked(&api, &headers, body).await?;
    let expected = "expected a time like 30m, 2h or 1d";
    let time = time
        .map(|text| {
            let time = unit::duration(&text).filter(|time| !time.is_zero());
            time.ok_or_else(|| Problem::field("for", expected))
        })
        .transpose()?;
    let order = ordered(&caller, "stream pause", &stream, &reason);
    let seconds = time.map(|time| time.as_secs_f64());
    pause::pause_own(&caller.cell().pool, *caller.scope(), stream.clone(), seconds, order).await?;
    Ok(Json(Paused { stream, paused: true, reason, seconds: time.map(|time| time.as_secs()) }))
}

/// `POST /v1/streams/{stream}/resume`: as often as one likes.
pub async fn resume(
    caller: Authenticated,
    Path(stream): Path<String>,
) -> Result<Json<Resumed>, Problem> {
    let order = ordered(&caller, "stream resume", &stream, "");
    let was_paused =
        pause::resume_own(&caller.cell().pool, *caller.scope(), stream.clone(), order).await?;
    Ok(Json(Resumed { stream, paused: false, was_paused }))
}

/// `POST /v1/streams/{stream}/cancel`: everything accepted until now.
pub async fn cancel(
    State(api): State<Arc<Api>>,
    caller: Authenticated,
    Path(stream): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Cancelled>, Problem> {
    let Asked { reason, time } = asked(&api, &headers, body).await?;
    if time.is_some() {
        return Err(Problem::field("for", "a cancellation has no end; leave it out"));
    }
    let order = ordered(&caller, "stream cancel", &stream, &reason);
    let lanes =
        cancel::cancel_own(&caller.cell().pool, *caller.scope(), stream.clone(), order).await?;
    Ok(Json(Cancelled { stream, cancelled: true, lanes }))
}

async fn asked(api: &Api, headers: &HeaderMap, body: Body) -> Result<Asked, Problem> {
    require_type(headers, &["application/json"])?;
    let (bytes, _share) = read(&api.budget, headers, body, MAX_BODY).await?;
    let asked: Asked = parse_json(&bytes)?;
    let length = asked.reason.chars().count();
    if !(1..=MAX_REASON).contains(&length) || asked.reason.chars().any(char::is_control) {
        let reason = format!("expected 1 to {MAX_REASON} characters without line breaks");
        return Err(Problem::field("reason", reason));
    }
    Ok(asked)
}

fn ordered(caller: &Authenticated, action: &'static str, stream: &str, reason: &str) -> Order {
    Order {
        actor: format!("api:{}", caller.prefix()),
        action,
        target: format!("stream {}/{stream}", caller.tenant_name()),
        reason: reason.to_owned(),
        detail: serde_json::Value::Null,
    }
}

impl From<TargetError> for Problem {
    fn from(error: TargetError) -> Self {
        match error {
            TargetError::Database(error) => error.into(),
            _ => Self::not_found("stream"),
        }
    }
}

impl From<PauseError> for Problem {
    fn from(error: PauseError) -> Self {
        match error {
            PauseError::Target(error) => error.into(),
            PauseError::Database(error) => error.into(),
            held => Self::held(held.to_string()),
        }
    }
}
