//! Telling the daemons that there is work.
//!
//! A hint: daemons also poll, so a lost notification costs one poll interval.
//! `notify` takes a lock that all committing notifiers share, so it is never
//! part of a submission; one task sends at most one every [`INTERVAL`].

use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::mpsc;

/// The channel that daemons listen on.
pub const CHANNEL: &str = "postrider_wake";

/// Shortest time between two notifications.
const INTERVAL: Duration = Duration::from_millis(20);

/// Wait after the database refused.
const PAUSE: Duration = Duration::from_secs(1);

/// Asks for a wake-up; cheap, never waits, many requests become one.
#[derive(Debug, Clone)]
pub struct Waker {
    asked: mpsc::Sender<()>,
}

impl Waker {
    /// Starts the task that notifies; it ends when the last `Waker` is gone.
    pub fn spawn(pool: PgPool) -> Self {
        // Room for one: a request that waits already speaks for all later ones.
        let (asked, mut requests) = mpsc::channel(1);
        tokio::spawn(async move {
            while requests.recv().await.is_some() {
                let pause = match notify(&pool).await {
                    Ok(()) => INTERVAL,
                    Err(error) => {
                        tracing::warn!(%error, "could not wake the daemons; they will poll");
                        PAUSE
                    }
                };
                tokio::time::sleep(pause).await;
            }
        });
        Self { asked }
    }

    /// Asks; call it after a commit.
    pub fn wake(&self) {
        // Full: a request waits already. Closed: the runtime is stopping.
        let _ = self.asked.try_send(());
    }
}

async fn notify(pool: &PgPool) -> Result<(), sqlx::Error> {
    sqlx::query("select pg_notify($1, '')").bind(CHANNEL).execute(pool).await.map(drop)
}
