//! `POST /v1/messages` and `POST /v1/messages/{id}/cancel`.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;

use super::Api;
use super::auth::Authenticated;
use super::body::{read, require_type};
use super::error::Problem;
use super::lookup::message_id;
use super::submission::{Draft, Given, Refused, Terms};
use super::trace::Journey;
use crate::domain::ids::MessageId;
use crate::queue::enqueue::{Digest, Idempotency, Submitted, sha256};
use crate::queue::lookup::MessageStatus;

/// Makes a repeat harmless.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Says that an answer is that of an earlier request.
pub(super) const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Longest idempotency key.
const MAX_KEY: usize = 255;

/// A body beyond this is read on a thread of its own, so that its recipients do not
/// hold up other requests.
const LARGE: usize = 32 << 10;

/// 202: what became of each recipient.
#[derive(Serialize)]
#[allow(clippy::struct_field_names, reason = "the names are the interface")]
struct Accepted {
    id: MessageId,
    accepted: u64,
    suppressed: Vec<SuppressedRecipient>,
    refused: Vec<Refused>,
}

#[derive(Serialize)]
struct SuppressedRecipient {
    index: usize,
    to: String,
}

/// `POST /v1/messages`
pub async fn submit(
    State(api): State<Arc<Api>>,
    caller: Authenticated,
    journey: Journey,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    require_type(&headers, &["application/json"])?;
    let key = idempotency_key(&headers)?;
    let terms = Terms { caller: journey.caller(), ..api.terms() };
    let (bytes, share) =
        read(&api.budget, &headers, body, terms.settings.api.max_body_bytes).await?;
    let guard = key.map(|key| (key, sha256(&bytes)));
    let stored = match draft(bytes, terms).await {
        Ok(draft) => store(&caller, &journey, draft, guard)
            .await
            .map_err(|problem| api.authenticator.note(&caller, problem)),
        Err(problem) => Err(problem),
    };
    drop(share);
    match (stored, guard) {
        (Ok(response), _) => Ok(response),
        // It may have been accepted before: its times were still ahead, its domain still there.
        (Err(problem), Some((key, body))) if problem.is_invalid() => {
            match caller.cell().enqueue.replay(caller.scope(), key, body).await? {
                Some(submitted) => answer(submitted, Given::default()),
                None => Err(problem),
            }
        }
        (Err(problem), _) => Err(problem),
    }
}

async fn store(
    caller: &Authenticated,
    journey: &Journey,
    mut draft: Draft,
    guard: Option<(Digest, Digest)>,
) -> Result<Response, Problem> {
    if let Some((key, body)) = guard {
        let given = serde_json::to_string(&draft.given)
            .map_err(|error| Problem::malformed(error.to_string()))?;
        draft.submission.idempotency = Some(Idempotency { key, body, given });
    }
    let submitted = caller.cell().enqueue.submit(caller.scope(), &draft.submission).await?;
    if submitted.replayed.is_some() {
        journey.joined(submitted.id, 0, None);
    } else {
        journey.made(submitted.id, submitted.accepted);
    }
    caller.cell().waker.wake();
    answer(submitted, draft.given)
}

/// `POST /v1/messages/{id}/cancel`: as often as one likes.
pub async fn cancel(
    State(api): State<Arc<Api>>,
    caller: Authenticated,
    Path(id): Path<String>,
) -> Result<Json<MessageStatus>, Problem> {
    let id = message_id(&id)?;
    let cancelled = caller.cell().enqueue.cancel(caller.scope(), id).await;
    cancelled.map_err(|error| api.authenticator.note(&caller, error.into()))?;
    let found = caller.cell().lookup.message(caller.scope(), id).await?;
    found.map(Json).ok_or_else(|| Problem::not_found("message"))
}

/// The hash of the request's idempotency key; 400 for what is none.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<Digest>, Problem> {
    let mut given = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(key) = given.next().map(HeaderValue::as_bytes) else { return Ok(None) };
    let printable = key.iter().all(|b| (0x20..=0x7e).contains(b));
    if given.next().is_some() || !printable || !(1..=MAX_KEY).contains(&key.len()) {
        let reason = format!("expected once, 1 to {MAX_KEY} printable ASCII characters");
        return Err(Problem::parameter("Idempotency-Key", reason));
    }
    Ok(Some(sha256(key)))
}

async fn draft(bytes: Bytes, terms: Terms) -> Result<Draft, Problem> {
    if bytes.len() <= LARGE {
        return Draft::read(&bytes, &terms);
    }
    tokio::task::spawn_blocking(move || Draft::read(&bytes, &terms)).await.unwrap_or_else(|error| {
        tracing::error!(%error, "reading a submission failed");
        Err(Problem::internal())
    })
}

/// `given` is what this request found; a replay answers with what the first one did.
fn answer(submitted: Submitted, given: Given) -> Result<Response, Problem> {
    let replayed = submitted.replayed.is_some();
    let given = match submitted.replayed {
        None => given,
        Some(kept) => serde_json::from_str(kept.get()).map_err(|error| {
            tracing::error!(%error, "a kept answer cannot be read");
            Problem::internal()
        })?,
    };
    let index_of = |position: usize| match &given.indices {
        None => position,
        Some(indices) => indices.get(position).copied().unwrap_or(position),
    };
    let suppressed = submitted
        .suppressed
        .into_iter()
        .map(|s| SuppressedRecipient { index: index_of(s.position), to: s.address })
        .collect();
    let body = Accepted {
        id: submitted.id,
        accepted: submitted.accepted,
        suppressed,
        refused: given.refused,
    };
    let mut response = (StatusCode::ACCEPTED, Json(body)).into_response();
    if replayed {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idempotency_key_is_short_and_printable() {
        let headers = |values: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            for value in values {
                let value = HeaderValue::from_bytes(value).expect("a header value");
                headers.append(IDEMPOTENCY_KEY, value);
            }
            headers
        };
        assert!(matches!(idempotency_key(&headers(&[])), Ok(None)));
        assert!(matches!(idempotency_key(&headers(&[b"order 7"])), Ok(Some(_))));
        assert!(matches!(idempotency_key(&headers(&[&[b'k'; 255]])), Ok(Some(_))));
        let bad: [&[&[u8]]; 4] = [&[b""], &[&[b'k'; 256]], &[b"a", b"b"], &["ä".as_bytes()]];
        for bad in bad {
            assert!(idempotency_key(&headers(bad)).is_err(), "{bad:?}");
        }
    }
}
