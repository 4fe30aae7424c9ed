//! Works off the reports that came back by mail, and the callbacks of providers: reads each, and
//! does what it calls for.
//!
//! Any number of processes do this at once; each takes other reports, on loan. What a report
//! says goes into the history of its delivery, in one transaction with the suppression it
//! calls for and the note that it was dealt with, so a process that dies in between leaves
//! nothing half done, and a report that is read twice acts once. Only a report whose return
//! path proves that it is about a mail of ours can suppress, and only the very recipient that
//! this mail went to.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::PgConnection;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::apply::{Applied, apply};
use super::effect::{Effect, Read, read};
use crate::callback;
use crate::cell::Cell;
use crate::config::Settings;
use crate::domain::clock::Clock;
use crate::domain::ids::DeliveryId;
use crate::inbound::door::Door;
use crate::inbound::store::{self, Done, Taken, Try};
use crate::queue::deadline;
use crate::tenant::suppression::Keeper;

/// Reports taken at once.
const BATCH: i64 = 256;
/// Batches under way at once: while one is read, another is written.
const LANES: usize = 2;
/// Wait when there are none.
const IDLE: Duration = Duration::from_millis(300);
/// A step that takes longer waits for a server that is gone.
const LONGEST_STEP: Duration = Duration::from_secs(60);
/// How often old reports are deleted and the waiting ones counted.
const TIDY_EVERY: Duration = Duration::from_secs(10);
/// Old reports deleted in one statement.
const PRUNE: i64 = 2_000;

/// Works off the reports of one cell.
pub struct Reports {
    cell: Cell,
    others: Vec<Cell>,
    settings: watch::Receiver<Arc<Settings>>,
    keeper: Keeper,
    full: Arc<AtomicBool>,
}

impl Reports {
    /// Reports of `cell`; a delivery that has moved is looked for in `others`. `full` is set
    /// while more waits than should.
    pub fn new(
        cell: Cell,
        others: Vec<Cell>,
        settings: watch::Receiver<Arc<Settings>>,
        full: Arc<AtomicBool>,
    ) -> Self {
        let keeper = Keeper::new(&settings.borrow().suppression);
        Self { cell, others, settings, keeper, full }
    }

    /// Works until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let work = futures_util::future::join_all((0..LANES).map(|_| self.work(&stop)));
        tokio::join!(work, self.tidy_up(&stop));
    }

    async fn work(&self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            let wait = match deadline::within(LONGEST_STEP, self.step(Clock::System)).await {
                Ok(0) => IDLE,
                Ok(_) => Duration::ZERO,
                Err(error) => {
                    tracing::warn!(%error, cell = &*self.cell.name, "could not work off reports; trying again");
                    IDLE * 10
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn tidy_up(&self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            if let Err(error) = deadline::within(LONGEST_STEP, self.tidy()).await {
                tracing::warn!(%error, cell = &*self.cell.name, "could not tidy up old reports");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(TIDY_EVERY) => {}
            }
        }
    }

    /// Deals with what waits, some at a time; how many reports were taken.
    pub async fn step(&self, clock: Clock) -> Result<usize, sqlx::Error> {
        let taken = store::take(&self.cell.pool, BATCH).await?;
        let count = taken.len();
        if count == 0 {
            return Ok(0);
        }
        let door = Door::new(&self.settings.borrow(), clock);
        let reads = understand(taken, door).await;
        let elsewhere = self.apply_here(reads).await?;
        for one in elsewhere {
            self.apply_elsewhere(one).await?;
        }
        Ok(count)
    }

    /// Applies what is about deliveries of this cell; gives back what may be about others'.
    async fn apply_here(&self, mut reads: Vec<Read>) -> Result<Vec<Read>, sqlx::Error> {
        let mut transaction = self.cell.pool.begin().await?;
        let ids: Vec<i64> = reads.iter().map(|one| one.report).collect();
        let open = store::lock(&mut transaction, &ids).await?;
        reads.retain(|one| open.contains(&one.report));
        look_for(&mut transaction, &mut reads).await?;
        let effects: Vec<&Effect> = reads.iter().flat_map(|one| &one.effects).collect();
        let applied = apply(&mut transaction, &self.keeper, &effects).await?;
        let mut elsewhere = Vec::new();
        let mut done = Vec::new();
        let (mut later, mut moving) = (Vec::new(), Vec::new());
        for one in &reads {
            let found: Vec<&Applied> = applied.iter().filter(|a| a.report == one.report).collect();
            if found.iter().any(|applied| !applied.here) {
                // Its tenant is on the move: again, here or there, as often as that takes.
                moving.push(one.report);
                continue;
            }
            if found.is_empty() && one.delivery().is_some() && !self.others.is_empty() {
                elsewhere.push(one.clone());
                continue;
            }
            if found.is_empty() && one.may_come_later {
                later.push(one.report);
                continue;
            }
            done.push(
                one.done(&found.iter().map(|applied| applied.suppressed).collect::<Vec<_>>()),
            );
        }
        store::postpone(&mut transaction, &later, Try::Spent).await?;
        store::postpone(&mut transaction, &moving, Try::Unspent).await?;
        store::finish(&mut transaction, &done).await?;
        transaction.commit().await?;
        count(&done, &reads);
        Ok(elsewhere)
    }

    /// Applies a report where its delivery lives now. Not in one transaction with the note that
    /// it was dealt with, which is in this cell: repeated, it changes nothing.
    async fn apply_elsewhere(&self, one: Read) -> Result<(), sqlx::Error> {
        let mut one = [one];
        let mut suppressed = Vec::new();
        let mut moves = false;
        for cell in &self.others {
            let mut transaction = cell.pool.begin().await?;
            look_for(&mut transaction, &mut one).await?;
            let effects: Vec<&Effect> = one.iter().flat_map(|one| &one.effects).collect();
            let applied = apply(&mut transaction, &self.keeper, &effects).await?;
            transaction.commit().await?;
            if applied.iter().any(|one| one.here) {
                suppressed = applied.iter().map(|one| one.suppressed).collect();
                break;
            }
            moves |= !applied.is_empty();
        }
        let [read] = &one;
        let mut connection = self.cell.pool.acquire().await?;
        if suppressed.is_empty() && (moves || read.may_come_later) {
            // A move ends by itself; the id of a provider may be a stranger's.
            let of = if moves { Try::Unspent } else { Try::Spent };
            return store::postpone(&mut connection, &[read.report], of).await;
        }
        let done = vec![read.done(&suppressed)];
        store::finish(&mut connection, &done).await?;
        count(&done, &one);
        Ok(())
    }

    async fn tidy(&self) -> Result<(), sqlx::Error> {
        let keep = self.settings.borrow().feedback.keep_reports;
        while store::prune(&self.cell.pool, keep, PRUNE).await? >= PRUNE as u64 {}
        while callback::store::forget_tokens(&self.cell.pool, PRUNE).await? >= PRUNE as u64 {}
        let waiting = store::waiting(&self.cell.pool).await?;
        self.full.store(waiting > store::MAX_WAITING, Ordering::Relaxed);
        metrics::gauge!("postrider_reports_waiting", "cell" => self.cell.name.to_string())
            .set(waiting as f64);
        Ok(())
    }
}

impl std::fmt::Debug for Reports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reports").field("cell", &self.cell.name).finish_non_exhaustive()
    }
}

/// Reads reports on a thread of its own. One that makes the reader panic is failed, alone.
async fn understand(taken: Vec<Taken>, door: Option<Door>) -> Vec<Read> {
    let ids: Vec<i64> = taken.iter().map(|one| one.report_id).collect();
    let reading = tokio::task::spawn_blocking(move || {
        taken.iter().map(|one| read_alone(one, door.as_ref())).collect()
    });
    reading.await.unwrap_or_else(|error| {
        tracing::error!(%error, "reports could not be read");
        ids.into_iter().map(Read::failed).collect()
    })
}

fn read_alone(one: &Taken, door: Option<&Door>) -> Read {
    let read = std::panic::AssertUnwindSafe(|| read(one, door));
    std::panic::catch_unwind(read).unwrap_or_else(|_panic| {
        tracing::error!(report = one.report_id, "a report could not be read");
        Read::failed(one.report_id)
    })
}

/// Settles events of providers on the deliveries that these took under the same id. That goes
/// before the delivery which the mail itself names: the id is what the provider answered to us.
async fn look_for(conn: &mut PgConnection, reads: &mut [Read]) -> Result<(), sqlx::Error> {
    let ids: Vec<&str> =
        reads.iter().flat_map(|one| &one.provider_ids).map(String::as_str).collect();
    if ids.is_empty() {
        return Ok(());
    }
    let found: HashMap<String, i64> =
        callback::store::find(conn, &ids).await?.into_iter().collect();
    for one in reads {
        let job = one.provider_ids.iter().find_map(|id| found.get(id));
        if let Some(job) = job {
            one.settle_on(DeliveryId::new(*job));
        }
    }
    Ok(())
}

fn count(done: &[Done], reads: &[Read]) {
    for one in done {
        metrics::counter!("postrider_reports_total", "kind" => one.kind, "outcome" => one.outcome)
            .increment(1);
        let read = reads.iter().find(|read| read.report == one.report_id);
        for (class, hardness) in read.iter().flat_map(|read| &read.classes) {
            metrics::counter!(
                "postrider_report_findings_total",
                "class" => class.as_str(), "hardness" => hardness.as_str()
            )
            .increment(1);
        }
    }
}
