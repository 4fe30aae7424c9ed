//! A process that does not serve the home cell is a member of the installation all the same:
//! it has a session there, which claims nothing and in whose name limits are exchanged.
//!
//! The home cell being away stops nothing; the session is opened when it comes, and anew when
//! it was fenced.

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use super::daemon::beats;
use super::shared::Shared;
use crate::queue::session::Session;

/// Wait before the home cell is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// Keeps a session in the home cell until `stop`.
pub async fn run(home: PgPool, shared: Arc<Shared>, worker: String, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let queue = shared.applied.borrow().queue.clone();
        let session = match Session::open(&home, &worker, queue.session_ttl).await {
            Ok(session) => Arc::new(session),
            Err(error) => {
                tracing::warn!(%error, "the home cell does not answer; limited mail waits");
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(AGAIN) => continue,
                }
            }
        };
        match shared.at_home(&home, session.id()).await {
            Ok(()) => {
                let beaten = CancellationToken::new();
                beats(
                    home.clone(),
                    Arc::clone(&session),
                    queue.beat_interval,
                    beaten,
                    stop.clone(),
                )
                .await;
            }
            Err(error) => tracing::warn!(%error, "cannot exchange limits; limited mail waits"),
        }
        if let Err(error) = session.close(&home).await {
            tracing::warn!(%error, "could not close the session; others will fence it");
        }
    }
}
