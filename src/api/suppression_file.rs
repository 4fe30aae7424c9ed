//! `POST /v1/suppressions/import`, and the list as a file: streams of CSV or NDJSON, in memory
//! that does not grow with their length.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{TryStreamExt, stream as streams};
use serde::Deserialize;

use super::Api;
use super::auth::Authenticated;
use super::body::{next_frame, require_type};
use super::error::{FieldFault, Problem};
use super::suppression_body::{reason, stream};
use super::suppressions::list_of;
use crate::tenant::suppression::{
    Decoder, Exporter, Format, Importer, List, Mode, Refusal, Summary,
};

const CSV: &str = "text/csv";
const NDJSON: &str = "application/x-ndjson";

/// What the body may be called.
const TYPES: [&str; 5] =
    [CSV, "application/csv", NDJSON, "application/ndjson", "application/jsonl"];

/// Memory that an import takes: a part, as read and as stored.
const SHARE: u64 = 2 << 20;

/// How an import is taken.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportQuery {
    mode: Option<String>,
    stream: Option<String>,
    reason: Option<String>,
}

/// `POST /v1/suppressions/import?mode=&stream=&reason=`
pub async fn import(
    State(api): State<Arc<Api>>,
    caller: Authenticated,
    query: Result<Query<ImportQuery>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Summary>, Problem> {
    let Query(query) = query.map_err(|error| Problem::parameter("query", error.body_text()))?;
    require_type(&headers, &TYPES)?;
    let mode = match query.mode.as_deref() {
        None | Some("" | "lines") => Mode::EachLine,
        Some("whole") => Mode::Whole,
        Some(_) => return Err(Problem::parameter("mode", "expected lines or whole")),
    };
    let stream = query.stream.filter(|name| !name.is_empty()).map(stream).transpose()?;
    let reason = reason(query.reason, "imported")?;
    let named = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let csv = named.is_some_and(|name| name.to_ascii_lowercase().contains("csv"));
    let format = if csv { Format::Csv } else { Format::Ndjson };
    let _share = api.budget.share(SHARE).await?;
    let mut importer =
        Importer::new(list_of(&caller), mode, stream, reason, api.clock.now().into());
    match take(&mut importer, format, body).await {
        Ok(()) => {}
        Err(problem) => {
            // Best effort: what waits for the end of this import is deleted after a day anyway.
            if let Err(error) = importer.abandon().await {
                tracing::debug!(%error, "an import that broke off could not be tidied up");
            }
            return Err(api.authenticator.note(&caller, problem));
        }
    }
    let summary = importer.finish().await?;
    if summary.stored {
        return Ok(Json(summary));
    }
    let named = |Refusal { line, field, reason }: Refusal| {
        FieldFault::new(format!("line {line}: {field}").trim_end_matches(": "), reason)
    };
    Err(Problem::invalid(summary.refusals.into_iter().map(named).collect()))
}

async fn take(importer: &mut Importer, format: Format, body: Body) -> Result<(), Problem> {
    let mut frames = body.into_data_stream();
    let mut decoder = Decoder::new(format);
    let mut lines = Vec::new();
    let headless = |error| Problem::field("header", error);
    while let Some(frame) = next_frame(&mut frames).await? {
        decoder.feed(&frame, &mut lines).map_err(headless)?;
        importer.take(&mut lines).await?;
    }
    decoder.finish(&mut lines).map_err(headless)?;
    importer.take(&mut lines).await?;
    Ok(())
}

/// The kind of file that a caller wants, if it wants one.
pub(super) fn wanted(headers: &HeaderMap) -> Option<Format> {
    let accept = headers.get(ACCEPT)?.to_str().ok()?;
    accept.split([',', ';']).find_map(|one| match one.trim() {
        CSV => Some(Format::Csv),
        NDJSON => Some(Format::Ndjson),
        _ => None,
    })
}

/// The whole list, piece by piece as it is taken.
pub(super) fn export(list: List, format: Format) -> Response {
    let named = match format {
        Format::Csv => "text/csv; charset=utf-8",
        Format::Ndjson => NDJSON,
    };
    let pieces = streams::try_unfold(Exporter::new(list, format), async |mut exporter| {
        let piece = exporter.next().await?;
        Ok::<_, sqlx::Error>(piece.map(|piece| (Bytes::from(piece.bytes), exporter)))
    })
    .inspect_err(|error: &sqlx::Error| tracing::warn!(%error, "an export broke off"));
    ([(CONTENT_TYPE, HeaderValue::from_static(named))], Body::from_stream(pieces)).into_response()
}
