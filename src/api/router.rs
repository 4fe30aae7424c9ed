//! All routes, and what every request passes on its way to them.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tower_http::catch_panic::CatchPanicLayer;

use super::error::Problem;
use super::{
    Api, access, callbacks, events, health, lookup, message, openapi, recipients, stream,
    suppression_file, suppressions as list, tenant_health, tracking, unsubscribe,
    webhooks as hooks, why,
};

/// Longest time for an answer; uploads are bounded by their silence instead.
const DEADLINE: Duration = Duration::from_secs(120);

/// The routes of an API.
pub fn router(api: Arc<Api>) -> Router {
    let timed = Router::new()
        .route("/v1/messages", post(message::submit))
        .route("/v1/messages/{id}", get(lookup::message))
        .route("/v1/messages/{id}/deliveries", get(lookup::deliveries))
        .route("/v1/messages/{id}/cancel", post(message::cancel))
        .route("/v1/messages/{id}/why", get(why::message))
        .route("/v1/deliveries/{id}", get(lookup::delivery))
        .route("/v1/streams/{stream}/pause", post(stream::pause))
        .route("/v1/streams/{stream}/resume", post(stream::resume))
        .route("/v1/streams/{stream}/cancel", post(stream::cancel))
        .route("/v1/deliveries/{id}/why", get(why::delivery))
        .route("/v1/health", get(tenant_health::show))
        .route("/v1/events", get(events::read).put(events::switch))
        .route("/v1/webhooks", get(hooks::list).post(hooks::create))
        .route("/v1/webhooks/{id}", get(hooks::show).patch(hooks::change).delete(hooks::remove))
        .route("/v1/webhooks/{id}/rotate-secret", post(hooks::rotate))
        .route("/v1/webhooks/{id}/test", post(hooks::test))
        .route("/v1/webhooks/{id}/replay", post(hooks::replay))
        .route("/v1/suppressions", get(list::page).post(list::add))
        .route("/v1/suppressions/{address}", get(list::show).delete(list::remove))
        .route("/v1/callbacks/ses", post(callbacks::ses))
        .route("/v1/callbacks/sendgrid", post(callbacks::sendgrid))
        .route("/v1/callbacks/mailgun", post(callbacks::mailgun))
        .route("/u/{token}", get(unsubscribe::ask).post(unsubscribe::act))
        .route("/c/{token}", get(tracking::click))
        .route("/o/{token}", get(tracking::open))
        .route("/v1/openapi.json", get(openapi::show))
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .layer(from_fn(deadline));
    Router::new()
        .route("/v1/messages/{id}/recipients", post(recipients::append))
        .route("/v1/suppressions/import", post(suppression_file::import))
        .merge(timed)
        .fallback(async || Problem::not_found("path"))
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(access::note))
        .with_state(api)
}

async fn deadline(request: Request, next: Next) -> Response {
    tokio::time::timeout(DEADLINE, next.run(request))
        .await
        .unwrap_or_else(|_| Problem::unavailable().into_response())
}

#[allow(clippy::needless_pass_by_value, reason = "the layer hands it over")]
fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    tracing::error!(panic = text, "a request panicked");
    Problem::internal().into_response()
}
