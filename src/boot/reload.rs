//! Reading the configuration again: on SIGHUP, when asked at `POST /reload`, or when its file
//! has changed.

use std::path::Path;
use std::sync::Arc;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::look::{Look, Read};
use crate::config::Settings;
use crate::config::reload::{ReloadOutcome, Reloader, Told};
use crate::telemetry::manager::Manager;
use crate::telemetry::pages::{self, Pages};
use crate::telemetry::traces;
use crate::telemetry::tracing::LogHandle;

/// Reloads, and all who must know how one ended.
#[derive(Clone)]
pub(super) struct Reloads {
    pub(super) reloader: Arc<Reloader>,
    pub(super) settings: watch::Receiver<Arc<Settings>>,
    pub(super) log: LogHandle,
    pub(super) manager: Manager,
    /// What of the file was read last.
    pub(super) read: Read,
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

    /// Reloads when the file has changed, where that is wanted, until `stop`.
    pub(super) fn watch(self, stop: CancellationToken) {
        let Some(path) = self.reloader.path().map(Path::to_path_buf) else { return };
        tokio::spawn(async move {
            let mut last = Look::at(&path);
            loop {
                let settings = self.settings.borrow().reload.clone();
                let rest = tokio::time::sleep(settings.interval);
                if stop.run_until_cancelled(rest).await.is_none() {
                    return;
                }
                let now = Look::at(&path);
                if settings.watch_file && self.read.is_stale(&now, &last) {
                    tracing::info!(file = %path.display(), "the configuration's file has changed");
                    self.reload().await;
                }
                last = now;
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
        self.read.begins(self.reloader.path());
        let reloader = Arc::clone(&self.reloader);
        // Reading files blocks; a panic there must not end the reloads.
        let outcome = tokio::task::spawn_blocking(move || reloader.reload()).await.ok();
        if outcome.is_some() {
            let settings = Arc::clone(&self.settings.borrow());
            self.log.set_level(&settings.log.level);
            traces::apply(&settings.traces);
        }
        let line = outcome.as_ref().map(ReloadOutcome::told).as_ref().map(Told::line);
        self.manager.reloaded(line.as_deref().unwrap_or("broke down"));
        outcome
    }
}
