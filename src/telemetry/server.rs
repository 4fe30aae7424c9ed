//! `/metrics`, `/livez`, `/readyz` and the pages of features over HTTP, for the operator's network only.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_http::timeout::TimeoutLayer;

use super::exemplars;
use super::health::Health;
use super::metrics::MetricsHandle;
use super::pages::{Entry, Pages};

/// No probe takes longer; a scrape of thousands of series takes milliseconds.
const LONGEST: Duration = Duration::from_secs(10);

#[derive(Clone)]
struct Probes {
    metrics: MetricsHandle,
    health: Health,
    pages: Pages,
}

/// Takes the address, so that a start fails at once where it is in use.
pub async fn bind(listen: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(listen).await
}

/// Answers until `shutdown`; then finishes the answers in hand.
pub async fn serve(
    listener: TcpListener,
    metrics: MetricsHandle,
    health: Health,
    pages: Pages,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(scrape))
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .fallback(page)
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, LONGEST))
        .with_state(Probes { metrics, health, pages });
    let router = router.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

async fn scrape(State(probes): State<Probes>, headers: HeaderMap) -> Response {
    super::usage::sample();
    let accepted = headers.get(header::ACCEPT).and_then(|accepted| accepted.to_str().ok());
    if accepted.is_some_and(|accepted| accepted.contains("application/openmetrics-text")) {
        let format = [(header::CONTENT_TYPE, exemplars::CONTENT_TYPE)];
        return (format, exemplars::open_metrics(&probes.metrics.render())).into_response();
    }
    let format = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (format, probes.metrics.render()).into_response()
}

/// That this is answered shows that the runtime turns; silent parts tell the rest.
async fn live(State(probes): State<Probes>) -> Response {
    let silent = probes.health.silent();
    if silent.is_empty() {
        return (StatusCode::OK, "alive\n").into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("silent: {}\n", silent.join(", "))).into_response()
}

async fn ready(State(probes): State<Probes>) -> Response {
    let parts = probes.health.readiness();
    let ready = parts.values().all(|part| part.ready);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(serde_json::json!({ "ready": ready, "parts": parts }))).into_response()
}

async fn page(
    State(probes): State<Probes>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    method: Method,
    uri: Uri,
) -> Response {
    match probes.pages.find(uri.path()) {
        Some(Entry::Shown(page)) if method == Method::GET => page().await,
        // Whoever may scrape this address from afar may not make the process do something.
        Some(Entry::Done(page)) if method == Method::POST => {
            if peer.ip().to_canonical().is_loopback() {
                return page().await;
            }
            (StatusCode::FORBIDDEN, "only from this machine\n").into_response()
        }
        Some(_) => StatusCode::METHOD_NOT_ALLOWED.into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    async fn ask(address: SocketAddr, path: &str) -> String {
        request(address, "GET", path).await
    }

    async fn request(address: SocketAddr, method: &str, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("connect");
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("ask");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("answer");
        answer
    }

    #[tokio::test]
    async fn the_probes_tell_what_the_parts_report() {
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("bind");
        let address = listener.local_addr().expect("address");
        let (health, stop) = (Health::new(), CancellationToken::new());
        let metrics = crate::telemetry::metrics::install().expect("recorder");
        let pages = Pages::default();
        let server =
            tokio::spawn(serve(listener, metrics, health.clone(), pages.clone(), stop.clone()));

        let queue = health.part("queue");
        let answer = ask(address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(answer.contains(r#""queue":{"ready":false,"reason":"starting"}"#), "{answer}");
        queue.ready();
        let answer = ask(address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(ask(address, "/livez").await.starts_with("HTTP/1.1 200"));
        assert!(ask(address, "/metrics").await.contains("text/plain; version=0.0.4"));
        assert!(ask(address, "/else").await.starts_with("HTTP/1.1 404"));
        pages.put("/else", || Box::pin(async { "here now".into_response() }));
        assert!(ask(address, "/else").await.ends_with("here now"));
        pages.put_action("/act", || Box::pin(async { "done".into_response() }));
        assert!(ask(address, "/act").await.starts_with("HTTP/1.1 405"), "asking does nothing");
        assert!(request(address, "POST", "/act").await.ends_with("done"));

        stop.cancel();
        server.await.expect("no panic").expect("served");
    }
}
