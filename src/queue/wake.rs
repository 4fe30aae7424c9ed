//! Wake-ups. NOTIFY is sent by a task of its own after the commit and never more
//! often than [`COALESCE`]: in a submitting transaction it would take a lock that all
//! commits of the database share. It is a courtesy; polling stands behind it.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgListener;
use sqlx::{PgConnection, PgPool};
use tokio::sync::Notify;

/// The channel's name.
const CHANNEL: &str = "postrider_wake";

/// Least time between two notifications of one process.
const COALESCE: Duration = Duration::from_millis(20);

/// Wait before listening again after the connection was lost.
const RELISTEN: Duration = Duration::from_secs(2);

/// Tells daemons that there is work.
#[derive(Debug, Clone)]
pub struct Waker {
    asked: Arc<Notify>,
}

impl Waker {
    /// Starts the task that notifies; it ends with the last `Waker`.
    pub fn spawn(pool: PgPool) -> Self {
        let asked = Arc::new(Notify::new());
        let weak = Arc::downgrade(&asked);
        tokio::spawn(async move {
            while let Some(asked) = weak.upgrade() {
                // Wakes now and then to see whether anyone is left to ask.
                let woken = tokio::time::timeout(RELISTEN, asked.notified()).await.is_ok();
                drop(asked);
                if woken {
                    if let Err(error) =
                        sqlx::query("select pg_notify($1, '')").bind(CHANNEL).execute(&pool).await
                    {
                        tracing::debug!(%error, "could not notify; daemons will find the work by polling");
                    }
                    tokio::time::sleep(COALESCE).await;
                }
            }
        });
        Self { asked }
    }

    /// Asks for a notification, soon. Costs nothing.
    pub fn wake(&self) {
        self.asked.notify_one();
    }
}

/// Tells daemons to look when the transaction of `conn` commits. For what happens now and then
/// only: it takes a lock that all commits share.
pub async fn announce(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("select pg_notify($1, '')").bind(CHANNEL).execute(conn).await.map(drop)
}

/// Hears wake-ups for as long as `heard` has other owners.
pub fn listen(pool: PgPool, heard: &Arc<Notify>) {
    let weak = Arc::downgrade(heard);
    tokio::spawn(async move {
        while weak.strong_count() > 0 {
            match PgListener::connect_with(&pool).await {
                Ok(mut listener) => {
                    if listener.listen(CHANNEL).await.is_ok() {
                        while let Ok(_notification) = listener.recv().await {
                            match weak.upgrade() {
                                Some(heard) => heard.notify_one(),
                                None => return,
                            }
                        }
                    }
                }
                Err(error) => tracing::debug!(%error, "cannot listen; polling goes on"),
            }
            tokio::time::sleep(RELISTEN).await;
        }
    });
}
