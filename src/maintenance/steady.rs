//! Steps that any number of processes take at once: promotion of due work, waking of lanes
//! whose scheduled work is due, expiry, fencing and rescue, cancellation.

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Settings;
use crate::queue::deadline;
use crate::queue::session::Session;
use crate::queue::{recall, upkeep};

/// Rows one step moves.
const PROMOTE_ROWS: i32 = 2_000;
const RESCUE_ROWS: i64 = 5_000;
const CANCEL_ROWS: i64 = 5_000;
const WAKE_ROWS: i32 = 1_000;

/// A step that takes longer waits for a server that is gone; each may be repeated.
const LONGEST_STEP: Duration = Duration::from_secs(60);

const PROMOTE_EVERY: Duration = Duration::from_millis(250);
const WAKE_EVERY: Duration = Duration::from_millis(200);
const RESCUE_EVERY: Duration = Duration::from_secs(2);
const EXPIRE_EVERY: Duration = Duration::from_secs(5);
const CANCEL_EVERY: Duration = Duration::from_millis(500);

/// Runs all steady steps until `stop`. `woken` is told when work became ready.
pub fn spawn(
    tracker: &TaskTracker,
    pool: &PgPool,
    settings: &watch::Receiver<Arc<Settings>>,
    session: &Arc<Session>,
    woken: &Arc<Notify>,
    stop: &CancellationToken,
) {
    let (pool, woken) = (pool.clone(), Arc::clone(woken));
    tracker.spawn(every("promote", PROMOTE_EVERY, stop.clone(), {
        let (pool, woken) = (pool.clone(), Arc::clone(&woken));
        move || {
            let (pool, woken) = (pool.clone(), Arc::clone(&woken));
            async move {
                let promoted = upkeep::promote(&pool, PROMOTE_ROWS).await?;
                if promoted > 0 {
                    woken.notify_one();
                }
                Ok(more(promoted, PROMOTE_ROWS as u64))
            }
        }
    }));
    tracker.spawn(every("wake", WAKE_EVERY, stop.clone(), {
        let (pool, woken) = (pool.clone(), Arc::clone(&woken));
        move || {
            let (pool, woken) = (pool.clone(), Arc::clone(&woken));
            async move {
                let lanes = upkeep::wake_lanes(&pool, WAKE_ROWS).await?;
                if lanes > 0 {
                    woken.notify_one();
                }
                Ok(more(lanes, WAKE_ROWS as u64))
            }
        }
    }));
    tracker.spawn(every("rescue", RESCUE_EVERY, stop.clone(), {
        let (pool, settings) = (pool.clone(), settings.clone());
        let session = Arc::clone(session);
        move || {
            let (pool, queue) = (pool.clone(), settings.borrow().queue.clone());
            let session = Arc::clone(&session);
            async move {
                if session.may_fence() {
                    for silent in upkeep::fence(&pool, queue.session_ttl).await? {
                        tracing::warn!(
                            session = silent.get(),
                            "fenced a silent session; its deliveries will be rescued"
                        );
                    }
                }
                let rescued =
                    upkeep::rescue(&pool, RESCUE_ROWS, queue.rescue_delay, queue.max_interruptions)
                        .await?;
                if rescued.all() > 0 {
                    tracing::warn!(
                        unsent = rescued.unsent,
                        resent = rescued.resent,
                        held = rescued.held,
                        "rescued deliveries of a dead worker; those resent and held are in doubt"
                    );
                    metrics::counter!("postrider_rescued_total").increment(rescued.all());
                    for (policy, number) in [("resend", rescued.resent), ("hold", rescued.held)] {
                        metrics::counter!("postrider_in_doubt_total", "policy" => policy)
                            .increment(number);
                    }
                }
                Ok(more(rescued.all(), RESCUE_ROWS as u64))
            }
        }
    }));
    tracker.spawn(every("expire", EXPIRE_EVERY, stop.clone(), {
        let pool = pool.clone();
        move || {
            let pool = pool.clone();
            async move {
                // The cluster takes one stride in this time, so each process asks a little
                // more often than its turn comes.
                let expired = upkeep::expire(&pool, EXPIRE_EVERY.mul_f64(0.8)).await?;
                metrics::counter!("postrider_expired_total").increment(expired);
                Ok(more(expired, upkeep::EXPIRED_AT_ONCE))
            }
        }
    }));
    tracker.spawn(every("cancel", CANCEL_EVERY, stop.clone(), move || {
        let pool = pool.clone();
        async move {
            let mut pace = Pace::Rest;
            for message in upkeep::open_cancellations(&pool).await? {
                let ended = upkeep::cancel(&pool, message, CANCEL_ROWS).await?;
                if ended == 0 {
                    upkeep::close_cancellation(&pool, message).await?;
                } else {
                    pace = Pace::Again;
                }
            }
            for lane in recall::open(&pool).await? {
                let ended = recall::sweep(&pool, lane, CANCEL_ROWS).await?;
                if ended == 0 {
                    recall::close(&pool, lane).await?;
                } else {
                    pace = Pace::Again;
                }
            }
            Ok(pace)
        }
    }));
}

/// Whether a step left work behind.
enum Pace {
    Again,
    Rest,
}

fn more(done: u64, most: u64) -> Pace {
    if done >= most { Pace::Again } else { Pace::Rest }
}

/// Repeats `step` with jitter until `stop`; at once while it leaves work behind. An error
/// is logged and the next turn tries again: every step is repeatable.
async fn every<F, S>(name: &'static str, interval: Duration, stop: CancellationToken, step: S)
where
    F: Future<Output = Result<Pace, sqlx::Error>>,
    S: Fn() -> F,
{
    loop {
        let wait = match deadline::within(LONGEST_STEP, step()).await {
            Ok(Pace::Again) => Duration::from_millis(10),
            Ok(Pace::Rest) => interval,
            Err(error) => {
                tracing::warn!(task = name, %error, "maintenance step failed; will be repeated");
                metrics::counter!("postrider_maintenance_errors_total", "task" => name)
                    .increment(1);
                interval * 2
            }
        };
        let wait = wait.mul_f64(0.8 + 0.4 * rand::random::<f64>());
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}
