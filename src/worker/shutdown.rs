//! The order of stopping: no new claims, give back what has not begun, finish what has,
//! write the last batch under a deadline of its own, close the session.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::daemon::Running;

/// Time for the last batch of settlements after the deadline for deliveries.
const LAST_WRITE: Duration = Duration::from_secs(5);

/// Set when the process stops: what has not begun is given back.
#[derive(Debug, Clone, Default)]
pub struct Stopping(Arc<AtomicBool>);

impl Stopping {
    /// Whether new deliveries must not begin.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// What has not begun is given back from now on.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How a stop went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// Deliveries still under way at the deadline: left to the rescue, in doubt.
    pub abandoned: usize,
    /// Outcomes that could not be written: in doubt.
    pub unwritten: usize,
}

impl Running {
    /// Stops in order; deliveries under way have until `deadline` from now.
    pub async fn stop(self, deadline: Duration) -> Stopped {
        let ends = Instant::now() + deadline;
        self.stopping.set();
        self.stop_claims.cancel();
        if let Err(error) = self.session.drain(&self.pool).await {
            tracing::warn!(%error, "could not mark the session as leaving");
        }
        join_until(self.pump, ends).await;
        // The pump held the only sender: the workers end when all is carried.
        let mut abandoned = 0;
        if !join_until(self.workers, ends).await {
            abandoned = self.slots.used();
            tracing::warn!(
                abandoned,
                "deliveries were still under way at the deadline; they are in doubt"
            );
        }
        let last = Instant::now() + LAST_WRITE;
        // Nobody waits for this receiver to change any more if the settler has ended.
        let _ = self.settle_deadline.send(Some(last));
        let unwritten = match tokio::time::timeout(LAST_WRITE * 2, self.settler).await {
            Ok(Ok(unwritten)) => unwritten,
            Ok(Err(_)) | Err(_) => 0,
        };
        self.stop_all.cancel();
        self.tasks.close();
        if tokio::time::timeout(LAST_WRITE, self.tasks.wait()).await.is_err() {
            tracing::warn!("background tasks did not end in time");
        }
        if tokio::time::timeout(LAST_WRITE, self.intent_writer).await.is_err() {
            tracing::warn!("settled intents were not dropped in time; others will");
        }
        if let Err(error) = self.session.close(&self.pool).await {
            tracing::warn!(%error, "could not close the session; others will fence it");
        }
        Stopped { abandoned, unwritten }
    }
}

/// Waits for a task until `ends`; aborts it then. True if it ended by itself.
async fn join_until(mut task: JoinHandle<()>, ends: Instant) -> bool {
    let until = tokio::time::Instant::from_std(ends);
    if tokio::time::timeout_at(until, &mut task).await.is_ok() {
        return true;
    }
    task.abort();
    false
}
