//! `GET /v1/messages/{id}`, its `/deliveries`, and `GET /v1/deliveries/{id}`.

use std::str::FromStr;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query};
use serde::Deserialize;

use super::auth::Authenticated;
use super::error::Problem;
use crate::domain::ids::{DeliveryId, MessageId};
use crate::queue::lookup::{Delivery, DeliveryState, MessageStatus, Page};

/// Lines of a page when the caller does not say.
const PAGE: u32 = 100;

/// Most lines of a page.
const MAX_PAGE: u32 = 1_000;

/// `GET /v1/messages/{id}`
pub async fn message(
    caller: Authenticated,
    Path(id): Path<String>,
) -> Result<Json<MessageStatus>, Problem> {
    let id = message_id(&id)?;
    let found = caller.cell().lookup.message(caller.scope(), id).await?;
    found.map(Json).ok_or_else(|| Problem::not_found("message"))
}

/// What `/deliveries` can be asked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PageQuery {
    state: Option<String>,
    limit: Option<String>,
    cursor: Option<String>,
}

/// `GET /v1/messages/{id}/deliveries?state=&limit=&cursor=`
pub async fn deliveries(
    caller: Authenticated,
    Path(id): Path<String>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<Page>, Problem> {
    let id = message_id(&id)?;
    let Query(query) = query.map_err(|error| Problem::parameter("query", error.body_text()))?;
    let state = given(query.state).map(|name| state_of(&name)).transpose()?;
    let limit = given(query.limit).map(|text| limit_of(&text)).transpose()?.unwrap_or(PAGE);
    let cursor = given(query.cursor)
        .map(|text| DeliveryId::from_str(&text))
        .transpose()
        .map_err(|_| Problem::parameter("cursor", "expected next_cursor of the page before"))?;
    let found = caller.cell().lookup.deliveries(caller.scope(), id, state, cursor, limit).await?;
    found.map(Json).ok_or_else(|| Problem::not_found("message"))
}

/// `GET /v1/deliveries/{id}`
pub async fn delivery(
    caller: Authenticated,
    Path(id): Path<String>,
) -> Result<Json<Delivery>, Problem> {
    // What cannot be an id is the id of nothing.
    let id = id.parse().map_err(|_| Problem::not_found("delivery"))?;
    let found = caller.cell().lookup.delivery(caller.scope(), id).await?;
    found.map(Json).ok_or_else(|| Problem::not_found("delivery"))
}

/// The id in a path; what cannot be an id is the id of nothing.
pub(super) fn message_id(text: &str) -> Result<MessageId, Problem> {
    text.parse().map_err(|_| Problem::not_found("message"))
}

/// An empty parameter is one not given.
fn given(value: Option<String>) -> Option<String> {
    value.filter(|value| !value.is_empty())
}

fn state_of(name: &str) -> Result<DeliveryState, Problem> {
    DeliveryState::from_name(name).ok_or_else(|| {
        let names: Vec<&str> = DeliveryState::ALL.into_iter().map(DeliveryState::as_str).collect();
        Problem::parameter("state", format!("expected one of {}", names.join(", ")))
    })
}

fn limit_of(text: &str) -> Result<u32, Problem> {
    text.parse()
        .ok()
        .filter(|limit| (1..=MAX_PAGE).contains(limit))
        .ok_or_else(|| Problem::parameter("limit", format!("expected 1 to {MAX_PAGE}")))
}
