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

    async fn check(&self) -> bool {
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

/// `GET /readyz`: 200 when submissions can be stored, else 503.
pub async fn ready(State(api): State<Arc<Api>>) -> (StatusCode, &'static str) {
    if api.readiness.check().await {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "database: does not answer\n")
    }
}
