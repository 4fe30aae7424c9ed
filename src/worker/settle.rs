//! Step: write settlements, many in one statement.
//!
//! A delivery's slot is free once its settlement is in the channel; the channel is
//! bounded, so a database that does not keep up stops the claims. Results survive
//! database trouble: a batch is repeated until it is written or the process must end.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::PgPool;
use tokio::sync::mpsc;

use super::held::Held;
use super::metrics;
use super::writing::Writing;
use crate::domain::ids::DeliveryId;
use crate::queue::session::Session;
use crate::queue::settle::{Settlement, settle};
use crate::queue::{GENERATIONS, Generation};
use crate::queue::{deadline, doubt};

/// Settlements that may wait to be written before handlers wait too.
const BACKLOG: usize = 4_096;

/// Waits after a failed write: the first, and the longest.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LONGEST: Duration = Duration::from_secs(2);

/// How often evidence is tried to be left.
const EVIDENCE_TRIES: u32 = 5;

/// Where handlers put settlements.
pub type Settlements = mpsc::Sender<Settlement>;

/// Writes batches until every sender is gone, then the last one.
#[derive(Debug)]
pub struct Settler {
    inbox: mpsc::Receiver<Settlement>,
    pool: PgPool,
    session: Arc<Session>,
    held: Arc<Held>,
    batch: usize,
    delay: Duration,
    /// Told of every batch.
    writing: Writing,
    /// Longest wait for the database's answer.
    answer: Duration,
}

impl Settler {
    /// A settler that writes at most `batch` at once and lets none wait longer than `delay`.
    pub fn new(
        pool: PgPool,
        session: Arc<Session>,
        held: Arc<Held>,
        batch: u32,
        delay: Duration,
        writing: Writing,
        answer: Duration,
    ) -> (Self, Settlements) {
        let (outbox, inbox) = mpsc::channel(BACKLOG);
        let batch = batch.max(1) as usize;
        (Self { inbox, pool, session, held, batch, delay, writing, answer }, outbox)
    }

    /// Runs until every sender is gone. Gives back what could not be written by
    /// `deadline`, which is set when the process stops.
    pub async fn run(mut self, deadline: tokio::sync::watch::Receiver<Option<Instant>>) -> usize {
        let mut batch = Vec::with_capacity(self.batch);
        while let Some(first) = self.inbox.recv().await {
            batch.push(first);
            self.gather(&mut batch).await;
            if let Err(lost) = self.write(&mut batch, &deadline).await {
                return lost + self.inbox.len();
            }
        }
        0
    }

    /// Fills the batch with what is there and what comes within the delay.
    async fn gather(&mut self, batch: &mut Vec<Settlement>) {
        let until = tokio::time::Instant::now() + self.delay;
        while batch.len() < self.batch {
            let room = self.batch - batch.len();
            if let Err(_elapsed) =
                tokio::time::timeout_at(until, self.inbox.recv_many(batch, room)).await
            {
                return;
            }
            if self.inbox.is_closed() && self.inbox.is_empty() {
                return;
            }
        }
    }

    async fn write(
        &self,
        batch: &mut Vec<Settlement>,
        stops: &tokio::sync::watch::Receiver<Option<Instant>>,
    ) -> Result<(), usize> {
        let mut by_generation: [Vec<Settlement>; GENERATIONS] = Default::default();
        for settlement in batch.drain(..) {
            by_generation[settlement.generation.index()].push(settlement);
        }
        let mut left: usize = by_generation.iter().map(Vec::len).sum();
        for (generation, settlements) in Generation::ring().zip(by_generation) {
            if settlements.is_empty() {
                continue;
            }
            let refs: Vec<&Settlement> = settlements.iter().collect();
            let mut wait = RETRY_FIRST;
            loop {
                let started = Instant::now();
                let written = settle(&self.pool, self.session.id(), generation, &refs);
                match deadline::within(self.answer, written).await {
                    Ok(settled) => {
                        self.writing.succeeded();
                        let claim = |done: &&Settlement| (done.job, done.hold);
                        let written: HashSet<_> = settled.iter().copied().collect();
                        let ends = refs.iter().filter(|done| {
                            done.ending.kind().is_end() && written.contains(&done.job)
                        });
                        self.held.end(ends.map(claim));
                        self.held.settled(refs.iter().map(claim));
                        metrics::settled(started.elapsed(), settled.len(), refs.len());
                        if settled.len() < refs.len() {
                            self.leave_evidence(&refs, &settled).await;
                        }
                        break;
                    }
                    Err(error) => {
                        self.writing.failed();
                        if stops.borrow().is_some_and(|at| Instant::now() >= at) {
                            tracing::error!(%error, left, "stopping without having written these outcomes; they will be in doubt");
                            return Err(left);
                        }
                        tracing::warn!(%error, waiting = refs.len(), "could not write outcomes; trying again");
                        metrics::database_trouble("settle");
                        tokio::time::sleep(wait.mul_f64(0.5 + 0.5 * rand::random::<f64>())).await;
                        wait = (wait * 2).min(RETRY_LONGEST);
                    }
                }
            }
            left -= refs.len();
        }
        Ok(())
    }

    /// What became of letters that were taken from this process still tells, if they are in
    /// doubt. Tried a few times: the outcomes behind it must not wait for it.
    async fn leave_evidence(&self, batch: &[&Settlement], settled: &[DeliveryId]) {
        let settled: HashSet<DeliveryId> = settled.iter().copied().collect();
        let fenced: Vec<&Settlement> =
            batch.iter().copied().filter(|one| !settled.contains(&one.job)).collect();
        let mut wait = RETRY_FIRST;
        for _try in 0..EVIDENCE_TRIES {
            match doubt::leave_evidence(&self.pool, &fenced).await {
                Ok(evidence) => {
                    tracing::warn!(
                        fenced = fenced.len(),
                        evidence,
                        "settlements were fenced: the deliveries belong to someone else now"
                    );
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, fenced = fenced.len(), "could not leave the outcomes of fenced settlements");
                    metrics::database_trouble("evidence");
                    tokio::time::sleep(wait).await;
                    wait *= 2;
                }
            }
        }
    }
}
