//! What could not be processed: look at it, try it again, or give it up.
//!
//! Replay and discard work in batches, each one statement, so that a queue of
//! millions is not locked and a caller can pace them; a batch is done or not done.

use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use serde::Serialize;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{PgPool, Postgres, Row};

use super::within;
use crate::domain::ids::{DeliveryId, MessageId};
use crate::tenant::isolation::TenantScope;

/// Which dead letters are meant; all of them when nothing is named.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// One tenant's.
    pub scope: Option<TenantScope>,
    /// `malformed`, `crashed`, `doubt` or `interrupted`.
    pub reason: Option<String>,
    /// Of one message.
    pub message: Option<MessageId>,
    /// These and no others.
    pub deliveries: Option<Vec<DeliveryId>>,
}

/// A delivery that waits for an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeadLetter {
    /// Which delivery.
    pub delivery: DeliveryId,
    /// Of which message.
    pub message: MessageId,
    /// Whose.
    pub tenant: String,
    /// Of which stream.
    pub stream: Option<String>,
    /// To whom it would go.
    pub mailbox_provider: Option<String>,
    /// Attempts that counted.
    pub attempts: i16,
    /// Why it is here, in a word.
    pub reason: String,
    /// Why, in a sentence.
    pub detail: Option<String>,
    /// Since when.
    pub dead_at: DateTime<Utc>,
    /// The envelope address.
    pub recipient: String,
    /// What is personal to it, JSON.
    pub payload: Option<String>,
}

/// What one batch did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// Dead letters it looked at; none: the end is reached.
    pub picked: i64,
    /// Those it moved. The others were called back, or their content is pruned.
    pub done: i64,
    /// Where the next batch goes on.
    pub last: Option<DeliveryId>,
}

/// One page by delivery: those after `after`.
pub async fn list(
    pool: &PgPool,
    selection: &Selection,
    after: Option<DeliveryId>,
    most: i64,
) -> Result<Vec<DeadLetter>, sqlx::Error> {
    let asked = selection.clone();
    let rows = within(pool, selection.scope, move |conn| {
        let query = sqlx::query(include_str!("sql/dead_letters.sql"));
        bind(query, &asked, after, most).fetch_all(conn).boxed()
    })
    .await?;
    rows.iter().map(read).collect()
}

/// Puts one batch back into the queue for a first attempt.
pub async fn replay(
    pool: &PgPool,
    selection: &Selection,
    after: Option<DeliveryId>,
    most: i64,
) -> Result<Batch, sqlx::Error> {
    let asked = selection.clone();
    let row = within(pool, selection.scope, move |conn| {
        let query = sqlx::query(include_str!("sql/replay.sql"));
        bind(query, &asked, after, most).fetch_one(conn).boxed()
    })
    .await?;
    batch(&row)
}

/// Gives one batch up for good: each ends as cancelled, with `why` in its history.
pub async fn discard(
    pool: &PgPool,
    selection: &Selection,
    after: Option<DeliveryId>,
    most: i64,
    why: &str,
) -> Result<Batch, sqlx::Error> {
    let (asked, why) = (selection.clone(), why.to_owned());
    let row = within(pool, selection.scope, move |conn| {
        let query = sqlx::query(include_str!("sql/discard.sql"));
        bind(query, &asked, after, most).bind(why).fetch_one(conn).boxed()
    })
    .await?;
    batch(&row)
}

fn bind(
    query: Query<'static, Postgres, PgArguments>,
    selection: &Selection,
    after: Option<DeliveryId>,
    most: i64,
) -> Query<'static, Postgres, PgArguments> {
    let deliveries =
        selection.deliveries.as_ref().map(|ids| ids.iter().map(|id| id.get()).collect::<Vec<_>>());
    query
        .bind(selection.scope.map(|scope| scope.tenant().get()))
        .bind(selection.reason.clone())
        .bind(selection.message.map(MessageId::get))
        .bind(deliveries)
        .bind(after.map_or(0, DeliveryId::get))
        .bind(most)
}

fn batch(row: &PgRow) -> Result<Batch, sqlx::Error> {
    Ok(Batch {
        picked: row.try_get("picked")?,
        done: row.try_get("done")?,
        last: row.try_get::<Option<i64>, _>("last")?.map(DeliveryId::new),
    })
}

fn read(row: &PgRow) -> Result<DeadLetter, sqlx::Error> {
    Ok(DeadLetter {
        delivery: DeliveryId::new(row.try_get("job_id")?),
        message: MessageId::new(row.try_get("message_id")?),
        tenant: row.try_get("tenant")?,
        stream: row.try_get("stream")?,
        mailbox_provider: row.try_get("mailbox_provider")?,
        attempts: row.try_get("attempts")?,
        reason: row.try_get("reason")?,
        detail: row.try_get("detail")?,
        dead_at: row.try_get("dead_at")?,
        recipient: row.try_get("recipient")?,
        payload: row.try_get("payload")?,
    })
}
