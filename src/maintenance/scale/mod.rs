//! `GET /scale`: how much waits, what it waits for, and how many replicas would help.
//!
//! Every replica gives the same answer, because it comes from the database. It is made anew
//! at most once a second, and so seldom that making it takes no more than a tenth of the
//! time; whoever asks in between gets the last one. The gauges show the same numbers.
//!
//! A daemon that serves several cells answers for each; as every daemon has an equal part of
//! its room for each, the number of replicas is that of the cell which needs most.

mod gauges;
pub mod replicas;
pub mod report;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures_util::future::join_all;
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
    cell: String,
    last: Mutex<Option<Made>>,
}

struct Made {
    good_until: Instant,
    report: Arc<Report>,
}

impl Scaler {
    /// Of one cell; `pool` acts as the daemon's role.
    pub fn new(pool: PgPool, settings: watch::Receiver<Arc<Settings>>, cell: String) -> Arc<Self> {
        Arc::new(Self { pool, settings, cell, last: Mutex::new(None) })
    }

    /// Sets the gauges until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut gauges = Gauges::new(self.cell.clone());
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
}

/// Answers on `/scale` from now on.
pub fn serve(scalers: Vec<Arc<Scaler>>, pages: &Pages) {
    let scalers: Arc<[Arc<Scaler>]> = scalers.into();
    pages.put("/scale", move || {
        let scalers = Arc::clone(&scalers);
        Box::pin(async move { answer(&scalers).await })
    });
}

/// Of one cell its report. Of several each under its name, and the most that one of those that
/// answer needs: for one that does not, nothing can be sent.
async fn answer(scalers: &[Arc<Scaler>]) -> Response {
    let reports = join_all(scalers.iter().map(|scaler| scaler.report())).await;
    let replicas = reports.iter().flatten().map(|report| &report.replicas);
    let Some(most) = replicas.max_by_key(|replicas| replicas.suggested).cloned() else {
        for error in reports.iter().filter_map(|report| report.as_ref().err()) {
            tracing::warn!(%error, "could not answer /scale");
        }
        let text = "the database does not answer; keep the replicas that there are\n";
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    };
    if let [Ok(only)] = &reports[..] {
        return Json(&**only).into_response();
    }
    let mut cells = BTreeMap::new();
    for (scaler, report) in scalers.iter().zip(reports) {
        let said = match report {
            Ok(report) => serde_json::json!(&*report),
            Err(error) => {
                tracing::warn!(cell = scaler.cell, %error, "cannot tell on /scale how it stands");
                serde_json::json!({"error": "the database does not answer"})
            }
        };
        cells.insert(scaler.cell.clone(), said);
    }
    Json(serde_json::json!({"replicas": most, "cells": cells})).into_response()
}
