//! Reading the configuration again: on SIGHUP, or when asked at `POST /reload`.

use std::sync::Arc;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::config::reload::{ReloadOutcome, Reloader, Told};
use crate::telemetry::manager::Manager;
use crate::telemetry::pages::{self, Pages};
use crate::telemetry::tracing::LogHandle;

/// Reloads, and all who must know how one ended.
#[derive(Clone)]
pub(super) struct Reloads {
    pub(super) reloader: Arc<Reloader>,
    pub(super) settings: watch::Receiver<Arc<Settings>>,
    pub(super) log: LogHandle,
    pub(super) manager: Manager,
}

impl Reloads {
    /// Reloads on every SIGHUP until `stop`.
    pub(super) fn follow(self, stop: CancellationToken) {
        let mut hangups = match signal(SignalKind::hangup()) {
            Ok(hangups) => hangups,
            Err(error) => {
                tracing::error!(%error, "cannot hear SIGHUP: reload by `postrider reload`");
                return;
            }
        };
        tokio::spawn(async move {
            while let Some(Some(())) = stop.run_until_cancelled(hangups.recv()).await {
                self.reload().await;
            }
        });
    }

    /// Lets others on this machine ask for a reload and hear how it ended.
    pub(super) fn serve(self, pages: &Pages) {
        pages.put_action(pages::RELOAD, move || {
            let reloads = self.clone();
            Box::pin(async move { reloads.answer().await })
        });
    }

    async fn answer(&self) -> Response {
        match self.reload().await {
            Some(outcome @ ReloadOutcome::Refused(_)) => {
                (StatusCode::UNPROCESSABLE_ENTITY, Json(outcome.told())).into_response()
            }
            Some(outcome) => Json(outcome.told()).into_response(),
            None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }
    }

    /// `None` when it broke down, which is logged; nothing has changed then.
    async fn reload(&self) -> Option<ReloadOutcome> {
        self.manager.reloading();
        let reloader = Arc::clone(&self.reloader);
        // Reading files blocks; a panic there must not end the reloads.
        let outcome = tokio::task::spawn_blocking(move || reloader.reload()).await.ok();
        if outcome.is_some() {
            self.log.set_level(&self.settings.borrow().log.level);
        }
        let line = outcome.as_ref().map(ReloadOutcome::told).as_ref().map(Told::line);
        self.manager.reloaded(line.as_deref().unwrap_or("broke down"));
        outcome
    }
}
