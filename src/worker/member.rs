//! A process that does not serve the home cell is a member of the installation all the same:
//! it has a session there, which claims nothing and counts for the shares of the limits.
//!
//! The home cell being away stops nothing; the session is opened when it comes, and anew when
//! it was fenced.

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use super::daemon::{BeatsOf, beats};
use super::shared::{Shared, Standing};
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
                tracing::warn!(%error, "the home cell does not answer; limits keep their last share");
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(AGAIN) => continue,
                }
            }
        };
        let of = BeatsOf {
            pool: home.clone(),
            session: Arc::clone(&session),
            shared: Arc::clone(&shared),
            standing: Standing::Home,
        };
        beats(of, queue.beat_interval, CancellationToken::new(), stop.clone()).await;
        if let Err(error) = session.close(&home).await {
            tracing::warn!(%error, "could not close the session; others will fence it");
        }
    }
}
