//! The endpoints that are told events: they take most, refuse some, and hang up on some after
//! having taken them. What they took, in which order, is their ledger.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, bail};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::post;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::client::Tenant;

/// Share of the requests that are refused, and of those whose answer is lost.
const REFUSED: f64 = 0.03;
const UNANSWERED: f64 = 0.03;

/// An event as it was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    /// Whose endpoint.
    pub(crate) tenant: String,
    /// `evt_…`
    pub(crate) id: String,
    /// What happened.
    pub(crate) kind: String,
    /// When.
    pub(crate) timestamp: String,
    /// To which delivery.
    pub(crate) delivery: Option<String>,
}

/// Running endpoints, one for each tenant; gone when dropped.
pub(crate) struct Consumer {
    address: SocketAddr,
    ledger: Arc<Ledger>,
    serving: JoinHandle<()>,
}

struct Ledger {
    told: Mutex<Vec<Told>>,
    rng: Mutex<StdRng>,
}

impl Consumer {
    /// Listens on a free port.
    pub(crate) async fn start(seed: u64) -> anyhow::Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let rng = Mutex::new(StdRng::seed_from_u64(seed));
        let ledger = Arc::new(Ledger { told: Mutex::default(), rng });
        let router = Router::new().route("/{tenant}", post(take)).with_state(Arc::clone(&ledger));
        let serving = tokio::spawn(async move {
            // It ends with the run.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, ledger, serving })
    }

    /// Makes an endpoint here for a tenant, by the API.
    pub(crate) async fn subscribe(
        &self,
        api: SocketAddr,
        tenant: &Tenant,
        batch: u32,
    ) -> anyhow::Result<()> {
        let url = format!("http://{}/{}", self.address, tenant.name);
        let answer = reqwest::Client::new()
            .post(format!("http://{api}/v1/webhooks"))
            .bearer_auth(&tenant.key)
            .json(&json!({"url": url, "batch": batch}))
            .send()
            .await?;
        if answer.status() != StatusCode::CREATED.as_u16() {
            bail!("no endpoint for {}: {}", tenant.name, answer.text().await?);
        }
        Ok(())
    }

    /// All that was taken so far, in order.
    pub(crate) fn told(&self) -> Vec<Told> {
        self.ledger.told.lock().clone()
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn take(
    State(ledger): State<Arc<Ledger>>,
    Path(tenant): Path<String>,
    body: Bytes,
) -> StatusCode {
    let (refused, unanswered) = {
        let mut rng = ledger.rng.lock();
        (rng.random_bool(REFUSED), rng.random_bool(UNANSWERED))
    };
    if refused {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    let Ok(events) = read(&tenant, &body) else { return StatusCode::BAD_REQUEST };
    ledger.told.lock().extend(events);
    // Taken, and the sender does not learn it.
    if unanswered { StatusCode::BAD_GATEWAY } else { StatusCode::OK }
}

/// One event, or an array of them.
fn read(tenant: &str, body: &[u8]) -> anyhow::Result<Vec<Told>> {
    let events = match serde_json::from_slice(body)? {
        Value::Array(events) => events,
        one => vec![one],
    };
    let one = |event: &Value| {
        let text = |key: &str| event[key].as_str().map(ToOwned::to_owned).context("no text");
        anyhow::Ok(Told {
            tenant: tenant.to_owned(),
            id: text("id")?,
            kind: text("type")?,
            timestamp: text("timestamp")?,
            delivery: event["data"]["delivery_id"].as_str().map(ToOwned::to_owned),
        })
    };
    events.iter().map(one).collect()
}
