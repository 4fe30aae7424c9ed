//! `GET /scale`: how much waits, what it waits for, and how many replicas would help.
//!
//! Every replica gives the same answer, because it comes from the database. It is made anew
//! at most once a second, and so seldom that making it takes no more than a tenth of the
//! time; whoever asks in between gets the last one. The gauges show the same numbers.

mod gauges;
pub mod replicas;
pub mod report;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use sqlx::PgPool;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use self::gauges::Gauges;
use self::report::Report;
use crate::config::Settings;
use crate::queue::backlog;
use crate::telemetry::pages::Pages;

/// Least time between two answers that are made anew.
const FRESH: Duration = Duration::from_secs(1);

/// Most time for which an answer is given again.
const STALEST: Duration = Duration::from_secs(60);

/// How often the gauges are set when nobody asks.
const EVERY: Duration = Duration::from_secs(10);

/// Makes the answers, and keeps the last.
pub struct Scaler {
    pool: PgPool,
    settings: watch::Receiver<Arc<Settings>>,
    last: Mutex<Option<Made>>,
}

struct Made {
    good_until: Instant,
    report: Arc<Report>,
}

impl Scaler {
    /// `pool` acts as the daemon's role.
    pub fn new(pool: PgPool, settings: watch::Receiver<Arc<Settings>>) -> Arc<Self> {
        Arc::new(Self { pool, settings, last: Mutex::new(None) })
    }

    /// Answers on `/scale` from now on.
    pub fn serve_on(self: &Arc<Self>, pages: &Pages) {
        let scaler = Arc::clone(self);
        pages.put("/scale", move || {
            let scaler = Arc::clone(&scaler);
            Box::pin(async move { scaler.answer().await })
        });
    }

    /// Sets the gauges until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut gauges = Gauges::default();
        loop {
            match self.report().await {
                Ok(report) => gauges.set(&report),
                Err(error) => tracing::debug!(%error, "could not look at the backlog"),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(EVERY.mul_f64(0.8 + 0.4 * rand::random::<f64>())) => {}
            }
        }
    }

    /// The last report, or a new one when it is time.
    pub async fn report(&self) -> Result<Arc<Report>, sqlx::Error> {
        let mut last = self.last.lock().await;
        let begun = Instant::now();
        if let Some(made) = last.as_ref().filter(|made| begun < made.good_until) {
            return Ok(Arc::clone(&made.report));
        }
        let (scale, ttl) = {
            let now = self.settings.borrow();
            (now.scale.clone(), now.queue.session_ttl)
        };
        let backlog = backlog::read(&self.pool, ttl).await?;
        let mut report = Report::of(&backlog, &scale);
        let suggested = backlog::suggest(&self.pool, report.replicas.needed, scale.hold).await?;
        report.replicas.suggested = suggested.clamp(scale.min_replicas, scale.max_replicas);
        let report = Arc::new(report);
        let good_until = Instant::now() + (begun.elapsed() * 9).clamp(FRESH, STALEST);
        *last = Some(Made { good_until, report: Arc::clone(&report) });
        Ok(report)
    }

    async fn answer(&self) -> Response {
        match self.report().await {
            Ok(report) => Json(&*report).into_response(),
            Err(error) => {
                tracing::warn!(%error, "could not answer /scale");
                let text = "the database does not answer; keep the replicas that there are\n";
                (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
            }
        }
    }
}
