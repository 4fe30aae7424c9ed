//! What became of a tenant's messages and deliveries.
//!
//! The state of a delivery is the table its row is in; every question is one
//! statement, so its answer is of one moment. Pages go by key, never by offset,
//! and look at a bounded number of rows each.

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgPool, Row};

use crate::domain::ids::{DeliveryId, MessageId};
use crate::tenant::isolation::TenantScope;

/// Deliveries one page looks at when it searches for a state that no index knows.
const STRETCH: i64 = 10_000;

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// Waits for its turn.
    Queued,
    /// Waits for the message's `send_at`.
    Scheduled,
    /// In the hands of a worker.
    Sending,
    /// Was refused for now; waits for the next try.
    Deferred,
    /// A peer took it.
    Delivered,
    /// Refused for good.
    Bounced,
    /// Its time was over before anyone took it.
    Expired,
    /// The recipient must not be written to.
    Suppressed,
    /// Called back.
    Cancelled,
    /// Cannot be processed; an operator must look.
    DeadLettered,
}

impl DeliveryState {
    /// Every state.
    pub const ALL: [Self; 10] = [
        Self::Queued,
        Self::Scheduled,
        Self::Sending,
        Self::Deferred,
        Self::Delivered,
        Self::Bounced,
        Self::Expired,
        Self::Suppressed,
        Self::Cancelled,
        Self::DeadLettered,
    ];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Scheduled => "scheduled",
            Self::Sending => "sending",
            Self::Deferred => "deferred",
            Self::Delivered => "delivered",
            Self::Bounced => "bounced",
            Self::Expired => "expired",
            Self::Suppressed => "suppressed",
            Self::Cancelled => "cancelled",
            Self::DeadLettered => "dead_lettered",
        }
    }

    /// The state of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// How the history calls an end.
    const fn kind_of_end(self) -> Option<i16> {
        match self {
            Self::Delivered => Some(1),
            Self::Bounced => Some(2),
            Self::Expired => Some(3),
            Self::Suppressed => Some(4),
            Self::Cancelled => Some(5),
            _ => None,
        }
    }
}

/// A message and how far it has come.
#[derive(Debug, Clone, Serialize)]
pub struct MessageStatus {
    /// The message.
    pub id: MessageId,
    /// Its stream.
    pub stream: String,
    /// The author, as submitted.
    pub from: Option<String>,
    /// The subject, as submitted (a template).
    pub subject: Option<String>,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// Not sent before.
    pub send_at: Option<DateTime<Utc>>,
    /// Given up at.
    pub expires_at: DateTime<Utc>,
    /// When it was called back.
    pub cancelled_at: Option<DateTime<Utc>>,
    /// Deliveries ever queued; the sum of `deliveries`.
    pub accepted: u64,
    /// Recipients left out at submission because they must not be written to.
    pub suppressed: u64,
    /// Deliveries by state.
    pub deliveries: Counts,
    /// What the tenant attached for itself.
    pub metadata: Option<Box<RawValue>>,
}

/// Deliveries by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the fields are the states")]
pub struct Counts {
    pub queued: u64,
    pub scheduled: u64,
    pub sending: u64,
    pub deferred: u64,
    pub delivered: u64,
    pub bounced: u64,
    pub expired: u64,
    pub suppressed: u64,
    pub cancelled: u64,
    pub dead_lettered: u64,
}

/// One line of a page of deliveries.
#[derive(Debug, Clone, Serialize)]
pub struct DeliverySummary {
    /// The delivery.
    pub id: DeliveryId,
    /// The recipient.
    pub to: String,
    /// Where it stands.
    pub state: DeliveryState,
    /// Attempts that counted.
    pub attempts: u32,
    /// The reply code of its end, where there was one.
    pub code: Option<i16>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// When it is tried again.
    pub next_at: Option<DateTime<Utc>>,
}

/// A page of deliveries.
#[derive(Debug, Clone, Serialize)]
pub struct Page {
    /// Its lines, oldest delivery first.
    pub deliveries: Vec<DeliverySummary>,
    /// Where the next page begins; `None`: this was the last. A page may be
    /// short, even empty, and still have a next one.
    pub next_cursor: Option<DeliveryId>,
}

/// A delivery and its history.
#[derive(Debug, Clone, Serialize)]
pub struct Delivery {
    /// The delivery.
    pub id: DeliveryId,
    /// Its message.
    pub message_id: MessageId,
    /// The recipient.
    pub to: String,
    /// Where it stands.
    pub state: DeliveryState,
    /// Attempts that counted.
    pub attempts: u32,
    /// Given up at.
    pub expires_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// When it is tried again.
    pub next_at: Option<DateTime<Utc>>,
    /// Why it cannot be processed, when it is a dead letter.
    pub dead_letter: Option<DeadReason>,
    /// What was tried and how it ended, oldest first.
    pub history: Vec<Attempt>,
}

/// Why a delivery is a dead letter.
#[derive(Debug, Clone, Serialize)]
pub struct DeadReason {
    /// In a word.
    pub reason: String,
    /// In a sentence.
    pub detail: Option<String>,
}

/// One line of a delivery's history.
#[derive(Debug, Clone, Serialize)]
pub struct Attempt {
    /// When it ended.
    pub at: DateTime<Utc>,
    /// Its number, from 1; 0 when nothing was tried.
    pub attempt: u32,
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// The mail may have been taken although this was not its last attempt.
    pub in_doubt: bool,
    /// The peer's reply code.
    pub code: Option<i16>,
    /// When it is tried again.
    pub next_at: Option<DateTime<Utc>>,
    /// Route, source, host, ip, tls, provider, stage, class, reach, enhanced, reply, cause, took_ms.
    #[serde(flatten)]
    pub detail: serde_json::Map<String, serde_json::Value>,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "as DeliveryState, and two of its own")]
pub enum AttemptOutcome {
    Delivered,
    Bounced,
    Expired,
    Suppressed,
    Cancelled,
    DeadLettered,
    Deferred,
    /// Its worker died.
    Interrupted,
}

/// What recipients that are added later are checked against.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct StoredTemplate {
    /// The content without its attachments: JSON.
    pub content: String,
    /// The message's stream.
    pub stream: String,
}

/// Reads what became of messages.
#[derive(Debug, Clone)]
pub struct Lookup {
    pool: PgPool,
}

impl Lookup {
    /// `pool` may act as the API's role.
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// A message with its counts; `None` when this tenant has no such message.
    pub async fn message(
        &self,
        scope: &TenantScope,
        id: MessageId,
    ) -> Result<Option<MessageStatus>, sqlx::Error> {
        let row = self
            .read(scope, move |c| {
                let query = sqlx::query(include_str!("sql/lookup_message.sql"));
                Box::pin(async move { query.bind(id.get()).fetch_optional(c).await })
            })
            .await?;
        row.map(|row| message_of(id, &row)).transpose()
    }

    /// The deliveries of a message after `cursor`, `limit` at most; `None` when this
    /// tenant has no such message.
    pub async fn deliveries(
        &self,
        scope: &TenantScope,
        id: MessageId,
        state: Option<DeliveryState>,
        cursor: Option<DeliveryId>,
        limit: u32,
    ) -> Result<Option<Page>, sqlx::Error> {
        let after = cursor.map_or(0, DeliveryId::get);
        let limit = i64::from(limit);
        let rows =
            self.read(scope, move |c| Box::pin(page_rows(c, id, state, after, limit + 1))).await?;
        rows.map(|rows| page_of(&rows, limit)).transpose()
    }

    /// A delivery with every attempt; `None` when this tenant has no such delivery.
    pub async fn delivery(
        &self,
        scope: &TenantScope,
        id: DeliveryId,
    ) -> Result<Option<Delivery>, sqlx::Error> {
        let row = self
            .read(scope, move |c| {
                let query = sqlx::query(include_str!("sql/lookup_delivery.sql"));
                Box::pin(async move { query.bind(id.get()).fetch_optional(c).await })
            })
            .await?;
        row.map(|row| delivery_of(id, &row)).transpose()
    }

    /// What further recipients of a message are checked against; `None` when this
    /// tenant has no such message.
    pub async fn template(
        &self,
        scope: &TenantScope,
        id: MessageId,
    ) -> Result<Option<StoredTemplate>, sqlx::Error> {
        self.read(scope, move |c| {
            let query = sqlx::query_as(include_str!("sql/lookup_template.sql"));
            Box::pin(async move { query.bind(id.get()).fetch_optional(c).await })
        })
        .await
    }

    async fn read<T, F>(&self, scope: &TenantScope, query: F) -> Result<T, sqlx::Error>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, sqlx::Error>>
            + Send
            + 'static,
    {
        scope.run(&self.pool, query).await
    }
}

fn message_of(id: MessageId, row: &PgRow) -> Result<MessageStatus, sqlx::Error> {
    let accepted = count(row, "accepted")?;
    let mut deliveries = Counts {
        queued: 0,
        scheduled: count(row, "scheduled")?,
        sending: count(row, "sending")?,
        deferred: count(row, "deferred")?,
        delivered: count(row, "delivered")?,
        bounced: count(row, "bounced")?,
        expired: count(row, "expired")?,
        suppressed: count(row, "ended_suppressed")?,
        cancelled: count(row, "ended_cancelled")?,
        dead_lettered: count(row, "dead_lettered")?,
    };
    let elsewhere = deliveries.sum();
    deliveries.queued = accepted.saturating_sub(elsewhere);
    Ok(MessageStatus {
        id,
        stream: row.try_get("stream")?,
        from: row.try_get("from_address")?,
        subject: row.try_get("subject")?,
        created_at: row.try_get("created_at")?,
        send_at: row.try_get("send_at")?,
        expires_at: row.try_get("expires_at")?,
        cancelled_at: row.try_get("cancelled_at")?,
        accepted,
        suppressed: count(row, "suppressed")?,
        deliveries,
        metadata: row
            .try_get::<Option<String>, _>("metadata")?
            .map(RawValue::from_string)
            .transpose()
            .map_err(decode)?,
    })
}

impl Counts {
    /// All of them.
    pub const fn sum(&self) -> u64 {
        self.queued
            + self.scheduled
            + self.sending
            + self.deferred
            + self.delivered
            + self.bounced
            + self.expired
            + self.suppressed
            + self.cancelled
            + self.dead_lettered
    }
}

/// The rows of one page, with one row more than asked for where there is a next
/// page; `None` when this tenant has no such message.
async fn page_rows(
    c: &mut PgConnection,
    id: MessageId,
    state: Option<DeliveryState>,
    after: i64,
    more: i64,
) -> Result<Option<Vec<PgRow>>, sqlx::Error> {
    let known: Option<i64> =
        sqlx::query_scalar("select message_id from postrider.message where message_id = $1")
            .bind(id.get())
            .fetch_optional(&mut *c)
            .await?;
    if known.is_none() {
        return Ok(None);
    }
    let query = match (state, state.and_then(DeliveryState::kind_of_end)) {
        (_, Some(kind)) => sqlx::query(include_str!("sql/lookup_ended.sql"))
            .bind(id.get())
            .bind(after)
            .bind(kind)
            .bind(more),
        (Some(DeliveryState::DeadLettered), None) => {
            sqlx::query(include_str!("sql/lookup_dead.sql")).bind(id.get()).bind(after).bind(more)
        }
        (state, None) => sqlx::query(include_str!("sql/lookup_page.sql"))
            .bind(id.get())
            .bind(after)
            .bind(if state.is_some() { STRETCH } else { more })
            .bind(state.map(DeliveryState::as_str))
            .bind(more),
    };
    query.fetch_all(c).await.map(Some)
}

/// `rows` holds up to one more than `limit`, or says how far a search went.
fn page_of(rows: &[PgRow], limit: i64) -> Result<Page, sqlx::Error> {
    let mut deliveries = Vec::with_capacity(rows.len());
    for row in rows {
        if row.try_get::<Option<i64>, _>("job_id")?.is_some() {
            deliveries.push(summary_of(row)?);
        }
    }
    let full = deliveries.len() as i64 > limit;
    deliveries.truncate(limit as usize);
    let next_cursor = if full {
        deliveries.last().map(|last| last.id)
    } else {
        match rows.first().map(|row| row.try_get::<i64, _>("scanned")) {
            // The stretch was cut off, so there may be more behind it.
            Some(Ok(STRETCH)) => {
                rows[0].try_get::<Option<i64>, _>("scanned_to")?.map(DeliveryId::new)
            }
            _ => None,
        }
    };
    Ok(Page { deliveries, next_cursor })
}

fn summary_of(row: &PgRow) -> Result<DeliverySummary, sqlx::Error> {
    Ok(DeliverySummary {
        id: DeliveryId::new(row.try_get("job_id")?),
        to: row.try_get("recipient")?,
        state: state(row)?,
        attempts: row.try_get::<i32, _>("attempts")?.unsigned_abs(),
        code: row.try_get("code")?,
        ended_at: row.try_get("ended_at")?,
        next_at: row.try_get("due_at")?,
    })
}

fn delivery_of(id: DeliveryId, row: &PgRow) -> Result<Delivery, sqlx::Error> {
    let history: Vec<HistoryLine> =
        serde_json::from_str(row.try_get("history")?).map_err(decode)?;
    let dead: Option<String> = row.try_get("dead_reason")?;
    let detail = row.try_get("dead_detail")?;
    Ok(Delivery {
        id,
        message_id: MessageId::new(row.try_get("message_id")?),
        to: row.try_get("recipient")?,
        state: state(row)?,
        attempts: row.try_get::<i32, _>("attempts")?.unsigned_abs(),
        expires_at: row.try_get("expires_at")?,
        ended_at: row.try_get("ended_at")?,
        next_at: row.try_get("due_at")?,
        dead_letter: dead.map(|reason| DeadReason { reason, detail }),
        history: history.into_iter().map(HistoryLine::into_attempt).collect(),
    })
}

/// A row of the history as the statement writes it.
#[derive(Deserialize)]
struct HistoryLine {
    at: DateTime<Utc>,
    attempt: u32,
    kind: i16,
    in_doubt: bool,
    code: Option<i16>,
    next_at: Option<DateTime<Utc>>,
    detail: Option<serde_json::Map<String, serde_json::Value>>,
}

impl HistoryLine {
    fn into_attempt(self) -> Attempt {
        let mut detail = self.detail.unwrap_or_default();
        // What is a column of its own is told by the column.
        for column in ["at", "attempt", "outcome", "in_doubt", "code", "next_at"] {
            detail.remove(column);
        }
        Attempt {
            at: self.at,
            attempt: self.attempt,
            outcome: match self.kind {
                1 => AttemptOutcome::Delivered,
                2 => AttemptOutcome::Bounced,
                3 => AttemptOutcome::Expired,
                4 => AttemptOutcome::Suppressed,
                5 => AttemptOutcome::Cancelled,
                6 => AttemptOutcome::DeadLettered,
                7 => AttemptOutcome::Deferred,
                _ => AttemptOutcome::Interrupted,
            },
            in_doubt: self.in_doubt,
            code: self.code,
            next_at: self.next_at,
            detail,
        }
    }
}

fn state(row: &PgRow) -> Result<DeliveryState, sqlx::Error> {
    let name: &str = row.try_get("state")?;
    DeliveryState::from_name(name)
        .ok_or_else(|| sqlx::Error::Decode(format!("unknown state {name:?}").into()))
}

fn count(row: &PgRow, column: &str) -> Result<u64, sqlx::Error> {
    row.try_get::<i64, _>(column).map(i64::unsigned_abs)
}

fn decode(error: serde_json::Error) -> sqlx::Error {
    sqlx::Error::Decode(Box::new(error))
}
