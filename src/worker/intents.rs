//! Writes intents to send, many in one commit.
//!
//! Whoever is about to send waits here until its intent is durable. While one batch is
//! written the next gathers, so a lone delivery waits for one commit and a crowd shares
//! them. When the database does not take a batch it is repeated with jitter, and the
//! deliveries wait: no send begins while intents cannot be written. They are let go without
//! leave when the session is fenced or the process stops.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::PgPool;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::held::{Claimed, Held};
use super::metrics;
use super::shutdown::Stopping;
use crate::domain::outcome::{Outcome, WaitReason};
use crate::queue::deadline;
use crate::queue::intent::{self, Batch, Leave, MOST};
use crate::queue::session::Session;

/// Deliveries that may wait for their batch; more wait to get in.
const BACKLOG: usize = 4_096;

/// Waits after a failed write: the first, and the longest.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LONGEST: Duration = Duration::from_secs(2);

/// Intents whose deliveries are settled go with the next batch; should there be none, after this.
const TIDY: Duration = Duration::from_secs(1);

/// Settled batches dropped by one statement.
const MOST_DROPPED: usize = 2_000;

/// Where deliveries ask for leave; clones ask the same writer.
#[derive(Debug, Clone)]
pub struct Intents(mpsc::Sender<Ask>);

#[derive(Debug)]
struct Ask {
    claim: Claimed,
    answer: oneshot::Sender<Result<(), Refusal>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    Fenced,
    Stopping,
}

/// Writes what was asked for.
#[derive(Debug)]
pub struct IntentWriter {
    inbox: mpsc::Receiver<Ask>,
    pool: PgPool,
    session: Arc<Session>,
    held: Arc<Held>,
    stopping: Stopping,
    /// Longest wait for the database's answer.
    answer: Duration,
    next: i64,
}

impl Intents {
    /// The two ends.
    pub fn new(
        pool: PgPool,
        session: Arc<Session>,
        held: Arc<Held>,
        stopping: Stopping,
        answer: Duration,
    ) -> (IntentWriter, Self) {
        let (outbox, inbox) = mpsc::channel(BACKLOG);
        (IntentWriter { inbox, pool, session, held, stopping, answer, next: 1 }, Self(outbox))
    }

    /// Waits until the intent to send `claim` is durable. Without it nothing may be sent.
    pub async fn declare(&self, claim: Claimed) -> Result<(), Outcome> {
        let (answer, answered) = oneshot::channel();
        let refused = |reason| Outcome::Postponed { delay: Duration::ZERO, reason };
        self.0.send(Ask { claim, answer }).await.map_err(|_gone| refused(WaitReason::NotReady))?;
        match answered.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Refusal::Stopping)) => Err(refused(WaitReason::Shutdown)),
            Ok(Err(Refusal::Fenced)) | Err(_) => Err(refused(WaitReason::NotReady)),
        }
    }
}

impl IntentWriter {
    /// Writes until `stop`, or until nobody can ask any more; then drops what is settled.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut asks = Vec::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                first = timeout(TIDY, self.inbox.recv()) => match first {
                    Ok(Some(first)) => asks.push(first),
                    Ok(None) => break,
                    Err(_elapsed) => {
                        self.tidy().await;
                        continue;
                    }
                }
            }
            while asks.len() < MOST
                && let Ok(ask) = self.inbox.try_recv()
            {
                asks.push(ask);
            }
            let answer = self.write(&asks).await;
            for ask in asks.drain(..) {
                // Whoever asked may be gone; then its settlement tells.
                let _ = ask.answer.send(answer);
            }
        }
        self.tidy().await;
    }

    async fn write(&mut self, asks: &[Ask]) -> Result<(), Refusal> {
        let claims: Vec<Claimed> = asks.iter().map(|ask| ask.claim).collect();
        let batch = Batch::new(self.next);
        self.next += 1;
        let settled = self.held.take_settled(MOST_DROPPED);
        let mut wait = RETRY_FIRST;
        loop {
            let started = Instant::now();
            let written = intent::write(&self.pool, self.session.id(), batch, &claims, &settled);
            match deadline::within(self.answer, written).await {
                Ok(Leave::Granted) => {
                    self.held.intended(batch, &claims);
                    metrics::intended(started.elapsed(), claims.len(), self.held.under_intent());
                    return Ok(());
                }
                Ok(Leave::Fenced) => {
                    tracing::warn!(
                        refused = claims.len(),
                        "this session is fenced: what was about to be sent is not"
                    );
                    return Err(Refusal::Fenced);
                }
                Err(error) => {
                    metrics::database_trouble("intent");
                    if self.stopping.is_set() {
                        tracing::warn!(%error, refused = claims.len(), "stopping: what was about to be sent is not");
                        self.held.give_back(settled);
                        return Err(Refusal::Stopping);
                    }
                    tracing::warn!(%error, waiting = claims.len(), "could not write intents; nothing is sent until it works");
                    tokio::time::sleep(wait.mul_f64(0.5 + 0.5 * rand::random::<f64>())).await;
                    wait = (wait * 2).min(RETRY_LONGEST);
                }
            }
        }
    }

    /// Drops intents of which nothing is in hand. Not worth repeating: the next turn does.
    async fn tidy(&mut self) {
        metrics::under_intent(self.held.under_intent());
        let settled = self.held.take_settled(MOST_DROPPED);
        if settled.is_empty() {
            return;
        }
        let none = Batch::new(0);
        if let Err(error) = intent::write(&self.pool, self.session.id(), none, &[], &settled).await
        {
            tracing::debug!(%error, "could not drop settled intents");
            self.held.give_back(settled);
        }
    }
}
