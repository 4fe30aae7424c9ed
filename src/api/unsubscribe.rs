//! `/u/{token}`: the link in List-Unsubscribe and at the foot of a mail (RFC 8058).
//!
//! GET and HEAD change nothing, because mail filters follow links; GET shows a button. POST acts
//! if it says `List-Unsubscribe=One-Click`, as the button and mail programs do, as often as it is
//! sent: a filter that posts to whatever it finds changes nothing either. The token says who,
//! from whom and from which stream; nobody logs in.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;

use super::Api;
use super::error::Problem;
use super::page::{no_such_link, page};
use crate::domain::ids::DeliveryId;
use crate::tenant::suppression::Change;

/// Most bytes of a form that are read: the field that matters comes in some dozens.
const MAX_FORM: usize = 4 << 10;

const BUTTON: &str = "<p>Do you want no further mail of this kind from this sender?</p>\
    <form method=\"post\"><button name=\"List-Unsubscribe\" value=\"One-Click\">\
    Unsubscribe</button></form>";

/// `GET /u/{token}`
pub async fn ask(State(api): State<Arc<Api>>, Path(text): Path<String>) -> Response {
    if read(&api, &text).is_none() {
        return no_such_link();
    }
    count("asked");
    page(StatusCode::OK, "Unsubscribe", BUTTON)
}

/// `POST /u/{token}`
pub async fn act(
    State(api): State<Arc<Api>>,
    Path(text): Path<String>,
    body: Body,
) -> Result<Response, Problem> {
    let Some(delivery) = read(&api, &text) else { return Ok(no_such_link()) };
    if !is_one_click(body).await {
        count("unasked");
        return Ok(page(StatusCode::BAD_REQUEST, "Unsubscribe", BUTTON));
    }
    match api.cells.unsubscribe(delivery).await? {
        None => {
            count("unknown");
            return Ok(no_such_link());
        }
        Some(Change::None) => count("repeated"),
        Some(Change::Made) => {
            count("made");
            tracing::info!(%delivery, "the recipient unsubscribed");
        }
    }
    Ok(page(
        StatusCode::OK,
        "Unsubscribed",
        "<p>You will get no further mail of this kind from this sender.</p>",
    ))
}

/// The delivery, if this installation made the token. What it did not make is counted by what is
/// wrong with it.
fn read(api: &Api, text: &str) -> Option<DeliveryId> {
    let Some(keys) = &api.unsubscribe else {
        count("no_key");
        return None;
    };
    keys.read(text).inspect_err(|fault| count(fault.as_str())).ok()
}

/// Whether a form says what RFC 8058 3.2 asks for, in either of the two ways that it allows.
async fn is_one_click(body: Body) -> bool {
    let Ok(form) = axum::body::to_bytes(body, MAX_FORM).await else { return false };
    let has = |text: &[u8]| memchr::memmem::find(&form, text).is_some();
    has(b"List-Unsubscribe=One-Click")
        || (has(b"name=\"List-Unsubscribe\"") && has(b"\r\n\r\nOne-Click"))
}

fn count(outcome: &'static str) {
    metrics::counter!("postrider_unsubscribe_requests_total", "outcome" => outcome).increment(1);
}
