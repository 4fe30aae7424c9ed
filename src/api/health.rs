//! Whether the process lives, and whether it can do its work.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::StatusCode;
use sqlx::PgPool;
use tokio::sync::Mutex;

use super::Api;

/// How long an answer of the database is believed: probes must not become load.
const FRESH: Duration = Duration::from_secs(1);

/// Longest wait for the database.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks the database whether it is there.
#[derive(Debug)]
pub struct Readiness {
    pool: PgPool,
    last: Mutex<Option<(Instant, bool)>>,
}

impl Readiness {
    /// Checks through this pool, so an exhausted pool is not ready either.
    pub fn new(pool: PgPool) -> Self {
        Self { pool, last: Mutex::new(None) }
    }

    /// Whether it answers, or did a moment ago.
    pub async fn check(&self) -> bool {
        let mut last = self.last.lock().await;
        if let Some((at, ready)) = *last
            && at.elapsed() < FRESH
        {
            return ready;
        }
        let asked = sqlx::query("select 1").execute(&self.pool);
        let ready = matches!(tokio::time::timeout(PATIENCE, asked).await, Ok(Ok(_)));
        *last = Some((Instant::now(), ready));
        ready
    }
}

/// `GET /livez`: the process answers.
pub async fn live() -> &'static str {
    "alive\n"
}

/// `GET /readyz`: 200 when submissions can be stored, else 503. Of several cells one is enough;
/// those that do not answer are named.
pub async fn ready(State(api): State<Arc<Api>>) -> (StatusCode, String) {
    let asked = api.cells.iter().map(|cell| async move { (cell, cell.readiness.check().await) });
    let cells = futures_util::future::join_all(asked).await;
    let silent: Vec<&str> =
        cells.iter().filter(|(_, answers)| !answers).map(|(cell, _)| &*cell.name).collect();
    match (cells.len(), silent.len()) {
        (_, 0) => (StatusCode::OK, "ready\n".to_owned()),
        (1, _) => (StatusCode::SERVICE_UNAVAILABLE, "database: does not answer\n".to_owned()),
        (all, some) => {
            let status = if all == some { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
            let head = if all == some { "" } else { "ready\n" };
            (status, format!("{head}does not answer: cell {}\n", silent.join(", cell ")))
        }
    }
}
