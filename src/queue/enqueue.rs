//! Accepting work: messages, further recipients, and calling a message back.
//!
//! Each verb is one statement, so `Ok` means committed, and a caller that goes
//! away in the middle leaves either all of it or nothing. What may be repeated
//! is guarded in the same statement: a submission by its idempotency key, a part
//! of an upload by the upload's key and the part's number.

use aws_lc_rs::digest::{SHA256, digest};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::value::RawValue;
use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row};

use crate::domain::ids::MessageId;
use crate::tenant::isolation::TenantScope;
use crate::tenant::suppression::{Keeper, Probes};

/// Tries of a statement that the database itself asks to repeat.
const TRIES: u32 = 3;

/// SHA-256, as idempotency keys and bodies are compared.
pub type Digest = [u8; 32];

/// The SHA-256 of some bytes.
pub fn sha256(bytes: &[u8]) -> Digest {
    let mut out = Digest::default();
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

/// A checked message on its way into the queue.
#[derive(Debug, Clone)]
pub struct Submission {
    /// Domain of the author's address, lower-case A-labels; must be the tenant's.
    pub from_domain: String,
    /// The stream's name.
    pub stream: String,
    /// The content as stored: JSON.
    pub content: String,
    /// Not before; `None`: at once.
    pub send_at: Option<DateTime<Utc>>,
    /// When it is given up; `None`: as the stream's policy says.
    pub expires_at: Option<DateTime<Utc>>,
    /// Whom to.
    pub recipients: Recipients,
    /// Makes a repeat harmless.
    pub idempotency: Option<Idempotency>,
}

/// Envelope addresses and what is personal to each, side by side.
#[derive(Debug, Clone, Default)]
pub struct Recipients {
    addresses: Vec<String>,
    payloads: Vec<Option<String>>,
}

impl Recipients {
    /// Adds one: `payload` is JSON.
    pub fn push(&mut self, address: String, payload: Option<String>) {
        self.addresses.push(address);
        self.payloads.push(payload);
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.addresses.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }
}

/// How a repeated submission is recognised and answered.
#[derive(Debug, Clone)]
pub struct Idempotency {
    /// Hash of the caller's key.
    pub key: Digest,
    /// Hash of the whole request.
    pub body: Digest,
    /// JSON that the caller wants back with a replay.
    pub given: String,
}

/// A stored submission.
#[derive(Debug, Clone)]
pub struct Submitted {
    /// The message.
    pub id: MessageId,
    /// Recipients that are queued now.
    pub accepted: u64,
    /// Recipients that must not be written to.
    pub suppressed: Vec<Suppressed>,
    /// `Some` when this is the answer to an earlier, equal request: what was given then.
    pub replayed: Option<Box<RawValue>>,
}

/// A recipient who must not be written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suppressed {
    /// Place in the submission's recipients, from 0.
    pub position: usize,
    /// The address.
    pub address: String,
}

/// A part of an upload.
#[derive(Debug, Clone)]
pub struct Chunk {
    /// Hash of the upload's key; `None`: a repeat would store it again.
    pub upload: Option<Digest>,
    /// Place of the part in the upload, from 0.
    pub number: i32,
    /// Hash of what the part was read from.
    pub digest: Digest,
    /// Whom to.
    pub recipients: Recipients,
}

/// A stored part of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Recipients that are queued now.
    pub accepted: u64,
    /// How many must not be written to.
    pub suppressed: u64,
    /// Whether it had been stored before, and this is the answer of then.
    pub replayed: bool,
}

/// Why nothing was stored.
#[derive(Debug, thiserror::Error)]
pub enum EnqueueError {
    /// The tenant is suspended or gone.
    #[error("the tenant is not active")]
    TenantInactive,
    /// Nobody has shown that the domain is this tenant's.
    #[error("the sender's domain is not one of this tenant's; add it: postrider domain add")]
    ForeignDomain,
    /// The idempotency key was used for something else.
    #[error("the idempotency key was used before with another request; use a new key")]
    Conflict,
    /// No such message of this tenant.
    #[error("no such message")]
    Missing,
    /// The message was called back.
    #[error("the message was cancelled")]
    Cancelled,
    /// The message's time is over.
    #[error("the message has expired")]
    Expired,
    /// The database did not answer, or not as agreed.
    #[error(transparent)]
    Storage(#[from] sqlx::Error),
}

/// Puts work into the queue.
#[derive(Debug, Clone)]
pub struct Enqueue {
    pool: PgPool,
    keeper: Keeper,
}

impl Enqueue {
    /// `pool` acts as the API's role (or as one that may do more). Knows the list of suppressions
    /// in the clear only.
    pub fn new(pool: PgPool) -> Self {
        Self::with_list(pool, Keeper::default())
    }

    /// The same with the list of suppressions as `keeper` knows it.
    pub fn with_list(pool: PgPool, keeper: Keeper) -> Self {
        Self { pool, keeper }
    }

    /// Stores a message with its first recipients.
    pub async fn submit(
        &self,
        scope: &TenantScope,
        submission: &Submission,
    ) -> Result<Submitted, EnqueueError> {
        let guard = submission.idempotency.as_ref();
        let probes = Probes::new(&self.keeper, &submission.recipients.addresses);
        let row = repeat(|| {
            sqlx::query(include_str!("sql/submit.sql"))
                .bind(scope.tenant().get())
                .bind(&submission.from_domain)
                .bind(&submission.stream)
                .bind(&submission.content)
                .bind(submission.send_at)
                .bind(submission.expires_at)
                .bind(&submission.recipients.addresses)
                .bind(&submission.recipients.payloads)
                .bind(guard.map(|guard| guard.key.as_slice()))
                .bind(guard.map(|guard| guard.body.as_slice()))
                .bind(guard.map(|guard| guard.given.as_str()))
                .bind(&probes.of)
                .bind(&probes.forms)
                .fetch_one(&self.pool)
        })
        .await?;
        match row.try_get("status")? {
            "ok" => submitted(&row, &submission.recipients),
            "replayed" => replayed(row.try_get("message_id")?, row.try_get("answer")?),
            "conflict" => Err(EnqueueError::Conflict),
            "no_tenant" => Err(EnqueueError::TenantInactive),
            "foreign_domain" => Err(EnqueueError::ForeignDomain),
            other => Err(unknown_status(other)),
        }
    }

    /// The answer of an earlier, equal request, if there was one under this key.
    pub async fn replay(
        &self,
        scope: &TenantScope,
        key: Digest,
        body: Digest,
    ) -> Result<Option<Submitted>, EnqueueError> {
        let known = scope
            .run(&self.pool, move |c| {
                Box::pin(async move {
                    sqlx::query_as::<_, (Vec<u8>, i64, Option<String>)>(include_str!(
                        "sql/replay.sql"
                    ))
                    .bind(key.as_slice())
                    .fetch_optional(c)
                    .await
                })
            })
            .await?;
        match known {
            None => Ok(None),
            Some((hash, ..)) if hash != body => Err(EnqueueError::Conflict),
            Some((_, id, answer)) => replayed(id, answer.as_deref()).map(Some),
        }
    }

    /// Adds recipients to a message.
    pub async fn append(
        &self,
        scope: &TenantScope,
        message: MessageId,
        chunk: &Chunk,
    ) -> Result<Appended, EnqueueError> {
        let probes = Probes::new(&self.keeper, &chunk.recipients.addresses);
        let row = repeat(|| {
            sqlx::query(include_str!("sql/append.sql"))
                .bind(scope.tenant().get())
                .bind(message.get())
                .bind(&chunk.recipients.addresses)
                .bind(&chunk.recipients.payloads)
                .bind(chunk.upload.as_ref().map(Digest::as_slice))
                .bind(chunk.number)
                .bind(chunk.digest.as_slice())
                .bind(&probes.of)
                .bind(&probes.forms)
                .fetch_one(&self.pool)
        })
        .await
        .map_err(|error| match sql_state(&error).as_deref() {
            // Called back while the recipients were being stored.
            Some("55000") => EnqueueError::Cancelled,
            _ => EnqueueError::Storage(error),
        })?;
        match row.try_get("status")? {
            status @ ("ok" | "replayed") => Ok(Appended {
                accepted: row.try_get::<i32, _>("accepted")?.unsigned_abs().into(),
                suppressed: row.try_get::<i32, _>("suppressed")?.unsigned_abs().into(),
                replayed: status == "replayed",
            }),
            "conflict" => Err(EnqueueError::Conflict),
            "missing" => Err(EnqueueError::Missing),
            "cancelled" => Err(EnqueueError::Cancelled),
            "expired" => Err(EnqueueError::Expired),
            other => Err(unknown_status(other)),
        }
    }

    /// Calls a message back: nothing new starts; what is in hand may still go out.
    /// Repeating it changes nothing.
    pub async fn cancel(
        &self,
        scope: &TenantScope,
        message: MessageId,
    ) -> Result<(), EnqueueError> {
        let row = repeat(|| {
            sqlx::query(include_str!("sql/cancel_message.sql"))
                .bind(scope.tenant().get())
                .bind(message.get())
                .fetch_one(&self.pool)
        })
        .await?;
        if row.try_get(0)? { Ok(()) } else { Err(EnqueueError::Missing) }
    }
}

/// Runs a statement again when the database undid it to break a deadlock.
async fn repeat<F, Fut>(mut statement: F) -> Result<PgRow, sqlx::Error>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<PgRow, sqlx::Error>>,
{
    for _ in 1..TRIES {
        match statement().await {
            Err(error) if matches!(sql_state(&error).as_deref(), Some("40001" | "40P01")) => {}
            other => return other,
        }
    }
    statement().await
}

fn sql_state(error: &sqlx::Error) -> Option<String> {
    error.as_database_error()?.code().map(std::borrow::Cow::into_owned)
}

fn submitted(row: &PgRow, recipients: &Recipients) -> Result<Submitted, EnqueueError> {
    let positions: Vec<i32> = row.try_get("suppressed")?;
    Ok(Submitted {
        id: MessageId::new(row.try_get("message_id")?),
        accepted: row.try_get::<i32, _>("accepted")?.unsigned_abs().into(),
        suppressed: positions
            .into_iter()
            .map(|position| position.unsigned_abs() as usize)
            .map(|position| Suppressed {
                position,
                address: recipients.addresses.get(position).cloned().unwrap_or_default(),
            })
            .collect(),
        replayed: None,
    })
}

/// What `postrider.submit` keeps of its answer.
#[derive(Deserialize)]
struct KeptAnswer {
    accepted: u64,
    suppressed: Vec<usize>,
    suppressed_to: Vec<String>,
    given: Option<Box<RawValue>>,
}

fn replayed(id: i64, answer: Option<&str>) -> Result<Submitted, EnqueueError> {
    let kept: KeptAnswer = serde_json::from_str(answer.unwrap_or_default())
        .map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
    Ok(Submitted {
        id: MessageId::new(id),
        accepted: kept.accepted,
        suppressed: kept
            .suppressed
            .into_iter()
            .zip(kept.suppressed_to)
            .map(|(position, address)| Suppressed { position, address })
            .collect(),
        replayed: Some(kept.given.unwrap_or_else(|| RawValue::NULL.to_owned())),
    })
}

fn unknown_status(found: &str) -> EnqueueError {
    EnqueueError::Storage(sqlx::Error::Protocol(format!(
        "the schema answered {found:?}, which this version does not know; migrate or update"
    )))
}
