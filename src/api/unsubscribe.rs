//! `/u/{token}`: the link in List-Unsubscribe and at the foot of a mail (RFC 8058).
//!
//! GET changes nothing, because mail filters follow links; it shows a button. POST
//! acts, from the button or from the recipient's mail program, as often as it is
//! sent. The token says who and from whom; nobody logs in.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{Html, IntoResponse, Response};

use super::Api;
use super::error::Problem;
use crate::domain::ids::DeliveryId;
use crate::tenant::suppression::Change;

/// The page loads nothing, runs nothing, and posts only to itself.
const POLICY: [(HeaderName, HeaderValue); 4] = [
    (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
        ),
    ),
];

/// `GET /u/{token}`
pub async fn ask(State(api): State<Arc<Api>>, Path(text): Path<String>) -> Response {
    if read(&api, &text).is_none() {
        return invalid();
    }
    page(
        StatusCode::OK,
        "Unsubscribe",
        "<p>Do you want no further mail from this sender?</p>\
         <form method=\"post\"><button name=\"List-Unsubscribe\" value=\"One-Click\">\
         Unsubscribe</button></form>",
    )
}

/// `POST /u/{token}`
pub async fn act(
    State(api): State<Arc<Api>>,
    Path(text): Path<String>,
) -> Result<Response, Problem> {
    let Some(delivery) = read(&api, &text) else { return Ok(invalid()) };
    match api.cells.unsubscribe(delivery).await? {
        None => return Ok(invalid()),
        Some(Change::None) => {}
        Some(Change::Made) => tracing::info!(%delivery, "the recipient unsubscribed"),
    }
    Ok(page(
        StatusCode::OK,
        "Unsubscribed",
        "<p>You will get no further mail from this sender.</p>",
    ))
}

/// The delivery, if this installation made the token.
fn read(api: &Api, text: &str) -> Option<DeliveryId> {
    api.unsubscribe.as_ref()?.read(text).ok()
}

fn invalid() -> Response {
    page(
        StatusCode::NOT_FOUND,
        "This link does not work",
        "<p>It is not complete, or too old. Please use the whole link from a recent mail.</p>",
    )
}

/// `body` is ours: nothing of a request is in it.
fn page(status: StatusCode, title: &str, body: &str) -> Response {
    let html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <meta name=\"robots\" content=\"noindex\"><title>{title}</title><h1>{title}</h1>{body}</html>\n"
    );
    (status, POLICY, Html(html)).into_response()
}
