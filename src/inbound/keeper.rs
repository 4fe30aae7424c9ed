//! Group commit: mails of many connections are stored by one statement.
//!
//! While one statement is written, what arrives meanwhile gathers for the next; nobody waits for
//! company. So a mail that comes alone is stored alone and at once, and under load the cost of
//! a commit is shared by many. Each connection is told of its own mail after the commit.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::{mpsc, oneshot};

use super::door::Destination;
use super::session::Mail;
use super::store::{self, Incoming};

/// Mails of one statement, and bytes.
const MOST: usize = 256;
const MOST_BYTES: usize = 8 << 20;

/// Longest wait for the database.
const PATIENCE: Duration = Duration::from_secs(20);

/// Stores what is handed over, in one cell.
#[derive(Debug)]
pub(super) struct Keeper {
    outbox: mpsc::Sender<Waiting>,
}

/// A mail that was not stored, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotStored;

/// A mail for one recipient, and who waits for it.
struct Waiting {
    destination: Destination,
    peer: IpAddr,
    mail: Arc<Mail>,
    stored: oneshot::Sender<Result<(), NotStored>>,
}

impl Keeper {
    /// Starts; ends when it is dropped and all is stored.
    pub(super) fn start(pool: PgPool) -> Self {
        let (outbox, inbox) = mpsc::channel(MOST);
        tokio::spawn(run(pool, inbox));
        Self { outbox }
    }

    /// Stores a mail for one of its recipients; committed when this is `Ok`.
    pub(super) async fn put(
        &self,
        destination: Destination,
        peer: IpAddr,
        mail: &Arc<Mail>,
    ) -> Result<(), NotStored> {
        let (stored, answer) = oneshot::channel();
        let waiting = Waiting { destination, peer, mail: Arc::clone(mail), stored };
        self.outbox.send(waiting).await.map_err(|_ended| NotStored)?;
        answer.await.map_err(|_ended| NotStored)?
    }
}

async fn run(pool: PgPool, mut inbox: mpsc::Receiver<Waiting>) {
    while let Some(first) = inbox.recv().await {
        let mut bytes = first.mail.raw.len();
        let mut batch = vec![first];
        while batch.len() < MOST && bytes < MOST_BYTES {
            let Ok(next) = inbox.try_recv() else { break };
            bytes += next.mail.raw.len();
            batch.push(next);
        }
        // Who gave up waiting has told its client to come again.
        batch.retain(|waiting| !waiting.stored.is_closed());
        write(&pool, batch).await;
    }
}

async fn write(pool: &PgPool, batch: Vec<Waiting>) {
    let result = put(pool, &batch).await;
    // Should one of them be what the database refuses, the others must not suffer for it.
    if batch.len() > 1 && matches!(result, Err(sqlx::Error::Database(_))) {
        for waiting in batch {
            let result = put(pool, std::slice::from_ref(&waiting)).await;
            tell(vec![waiting], &result);
        }
        return;
    }
    tell(batch, &result);
}

async fn put(pool: &PgPool, batch: &[Waiting]) -> Result<(), sqlx::Error> {
    let peers: Vec<String> = batch.iter().map(|waiting| waiting.peer.to_string()).collect();
    let mails: Vec<Incoming<'_>> = batch
        .iter()
        .zip(&peers)
        .map(|(waiting, peer)| Incoming {
            destination: waiting.destination,
            sender: &waiting.mail.from,
            peer,
            raw: &waiting.mail.raw,
        })
        .collect();
    tokio::time::timeout(PATIENCE, store::put(pool, &mails))
        .await
        .unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

fn tell(batch: Vec<Waiting>, result: &Result<(), sqlx::Error>) {
    if let Err(error) = result {
        let mails = batch.len();
        tracing::warn!(%error, mails, "could not store reports; their senders were told to come again");
    }
    for waiting in batch {
        if result.is_ok() {
            let purpose = waiting.destination.as_str();
            metrics::counter!("postrider_inbound_stored_total", "purpose" => purpose).increment(1);
        }
        // Who waited no longer comes again and is stored twice, which changes nothing.
        let kept = if result.is_ok() { Ok(()) } else { Err(NotStored) };
        let _gone = waiting.stored.send(kept);
    }
}
