//! What became of a tenant's messages and deliveries.
//!
//! The state of a delivery is the table its row is in; every question is one
//! statement, so its answer is of one moment. Pages go by key, never by offset,
//! and look at a bounded number of rows each.

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde_json::value::RawValue;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgPool, Row};

pub use super::status::{
    Attempt, AttemptOutcome, Counts, DeadReason, Delivery, DeliveryState, DeliverySummary,
    MessageStatus, Page,
};
use crate::domain::ids::{DeliveryId, MessageId};
use crate::tenant::isolation::TenantScope;

/// Deliveries one page looks at when it searches for a state that no index knows.
const STRETCH: i64 = 10_000;

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

    /// The trace that came with a message; `None` also when this tenant has no such message.
    pub async fn traceparent(
        &self,
        scope: &TenantScope,
        id: MessageId,
    ) -> Result<Option<String>, sqlx::Error> {
        let found: Option<Option<String>> = self
            .read(scope, move |c| {
                let query = sqlx::query_scalar(
                    "select content ->> 'traceparent' from postrider.message where message_id = $1",
                );
                Box::pin(async move { query.bind(id.get()).fetch_optional(c).await })
            })
            .await?;
        Ok(found.flatten())
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
    let rest = accepted.saturating_sub(deliveries.sum());
    if row.try_get("not_yet")? {
        deliveries.scheduled += rest;
    } else {
        deliveries.queued = rest;
    }
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
            outcome: AttemptOutcome::of_kind(self.kind),
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
