//! `/v1/suppressions`: whom a tenant must not write to. What is taken off is kept with who did it
//! and why.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::Api;
use super::auth::Authenticated;
use super::body::{parse_json, read, require_type};
use super::error::Problem;
use super::suppression_body::{
    Added, Known, ListPage, NewEntry, Removed, cursor, reason, stream, subject,
};
use super::suppression_file;
use crate::tenant::suppression::{List, Removal};

/// Entries of a page when the caller does not say, and at most.
const PAGE: u32 = 100;
const MAX_PAGE: u32 = 1_000;

/// Most bytes of a body.
const MAX_BODY: u64 = 4 << 10;

/// Which page.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PageQuery {
    cursor: Option<String>,
    limit: Option<String>,
}

/// Which entry, and why it goes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemovalQuery {
    stream: Option<String>,
    reason: Option<String>,
}

/// `GET /v1/suppressions?cursor=&limit=`; as a file with `Accept: text/csv` or
/// `application/x-ndjson`.
pub async fn page(
    caller: Authenticated,
    query: Result<Query<PageQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Query(query) = query.map_err(|error| Problem::parameter("query", error.body_text()))?;
    let list = list_of(&caller);
    if let Some(format) = suppression_file::wanted(&headers) {
        return Ok(suppression_file::export(list, format));
    }
    let given = |value: Option<String>| value.filter(|value| !value.is_empty());
    let limit = match given(query.limit) {
        None => PAGE,
        Some(text) => {
            let limit = text.parse().ok().filter(|limit| (1..=MAX_PAGE).contains(limit));
            limit.ok_or_else(|| Problem::parameter("limit", format!("expected 1 to {MAX_PAGE}")))?
        }
    };
    let after = given(query.cursor).map(|text| cursor(&text)).transpose()?.unwrap_or_default();
    let limit = i64::from(limit);
    let found = list.page((&after.0, &after.1), limit).await?;
    Ok(Json(ListPage::new(found, limit)).into_response())
}

/// `POST /v1/suppressions`: 201 when it is new, 200 when it was there.
pub async fn add(
    State(api): State<Arc<Api>>,
    caller: Authenticated,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Added>), Problem> {
    require_type(&headers, &["application/json"])?;
    let (bytes, _share) = read(&api.budget, &headers, body, MAX_BODY).await?;
    let asked: NewEntry = parse_json(&bytes)?;
    let list = list_of(&caller);
    let (subject, entry) = asked.checked(&list.keeper, api.clock.now().into())?;
    let new = list.add(vec![entry]).await?;
    let status = if new > 0 { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(Added::new(&subject, new))))
}

/// `GET /v1/suppressions/{address}`
pub async fn show(
    caller: Authenticated,
    Path(address): Path<String>,
) -> Result<Json<Known>, Problem> {
    let subject = subject(&address)?;
    let shown = list_of(&caller).show(&subject).await?;
    Ok(Json(Known {
        address: subject.to_string(),
        suppressed: !shown.entries.is_empty() || !shown.everywhere.is_empty(),
        entries: shown.entries,
        everywhere: !shown.everywhere.is_empty(),
        past: shown.past,
        soft_failures: shown.soft_failures,
    }))
}

/// `DELETE /v1/suppressions/{address}?stream=&reason=`
pub async fn remove(
    caller: Authenticated,
    Path(address): Path<String>,
    query: Result<Query<RemovalQuery>, QueryRejection>,
) -> Result<Json<Removed>, Problem> {
    let Query(query) = query.map_err(|error| Problem::parameter("query", error.body_text()))?;
    let subject = subject(&address)?;
    let removal = Removal {
        stream: query.stream.filter(|name| !name.is_empty()).map(stream).transpose()?,
        by: format!("api:{}", caller.prefix()),
        why: reason(query.reason, "removed by the API")?,
        forget: false,
    };
    let removed = list_of(&caller).remove(&subject, removal).await?;
    if removed.is_empty() {
        return Err(Problem::not_found("entry"));
    }
    Ok(Json(Removed { removed }))
}

pub(super) fn list_of(caller: &Authenticated) -> List {
    caller.cell().list(*caller.scope())
}
