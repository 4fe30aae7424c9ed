//! Reading the log of one tenant.

use std::collections::HashMap;

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgExecutor, Row};

use super::cursor::Place;
use super::kind::EventKind;
use super::payload::Event;
use crate::domain::ids::TenantId;

/// A stretch of the log.
#[derive(Debug, Clone)]
pub struct Page {
    /// What is wanted of it, in order.
    pub events: Vec<Entry>,
    /// Where the stretch ends: the place to go on from.
    pub end: Place,
    /// Whether the stretch was as long as it may be: there is likely more.
    pub more: bool,
}

/// An event with its place.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Right after it.
    pub place: Place,
    /// What is told.
    pub event: Event,
}

/// Reads up to `limit` events of a tenant after a place and gives those of the wanted `kinds`
/// (`None`: all). The connection must see the tenant's rows.
pub async fn read(
    connection: &mut PgConnection,
    tenant: TenantId,
    after: Place,
    kinds: Option<&[EventKind]>,
    limit: i64,
) -> Result<Page, sqlx::Error> {
    let numbers: Option<Vec<i16>> =
        kinds.map(|kinds| kinds.iter().map(|kind| kind.number()).collect());
    let rows = sqlx::query(include_str!("sql/read.sql"))
        .bind(tenant.get())
        .bind(after.xid)
        .bind(after.event)
        .bind(limit)
        .bind(numbers)
        .fetch_all(&mut *connection)
        .await?;
    let mut page = Page {
        events: Vec::with_capacity(rows.len()),
        end: after,
        more: rows.len() as i64 >= limit,
    };
    for row in &rows {
        page.end = place_of(row)?;
        if row.try_get("wanted")? {
            page.events.push(entry_of(row)?);
        }
    }
    look_up(connection, &mut page.events).await?;
    Ok(page)
}

/// Adds to whom the deliveries are and of which streams, as far as that is still kept.
async fn look_up(connection: &mut PgConnection, events: &mut [Entry]) -> Result<(), sqlx::Error> {
    let unnamed = |event: &Event| event.delivery.filter(|_| event.data.to.is_none());
    let jobs = events.iter().filter_map(|entry| Some(unnamed(&entry.event)?.get())).collect();
    let messages = events.iter().filter_map(|entry| Some(entry.event.data.message_id?.get()));
    let messages = messages.collect();
    let recipients = texts(connection, include_str!("sql/recipients.sql"), jobs).await?;
    let streams = texts(connection, include_str!("sql/streams.sql"), messages).await?;
    for Entry { event, .. } in events {
        if let Some(delivery) = unnamed(event) {
            event.data.to = recipients.get(&delivery.get()).cloned();
        }
        if let Some(message) = event.data.message_id {
            event.data.stream = streams.get(&message.get()).cloned();
        }
    }
    Ok(())
}

/// What `statement` knows of these ids.
async fn texts(
    connection: &mut PgConnection,
    statement: &'static str,
    mut ids: Vec<i64>,
) -> Result<HashMap<i64, String>, sqlx::Error> {
    ids.sort_unstable();
    ids.dedup();
    let (Some(first), Some(last)) = (ids.first().copied(), ids.last().copied()) else {
        return Ok(HashMap::new());
    };
    let rows: Vec<(i64, String)> =
        sqlx::query_as(statement).bind(ids).bind(first).bind(last).fetch_all(connection).await?;
    Ok(rows.into_iter().collect())
}

/// Where a tenant's log begins that tells what happened since a moment.
pub async fn place_since<'e>(
    executor: impl PgExecutor<'e>,
    tenant: TenantId,
    since: chrono::DateTime<chrono::Utc>,
) -> Result<Place, sqlx::Error> {
    let row = sqlx::query(include_str!("sql/place_since.sql"))
        .bind(tenant.get())
        .bind(since)
        .fetch_one(executor)
        .await?;
    Ok(Place { xid: row.try_get("xid")?, event: row.try_get("event_id")? })
}

/// The event in a row with the columns of `sql/read.sql`.
pub fn entry_of(row: &PgRow) -> Result<Entry, sqlx::Error> {
    Ok(Entry { place: place_of(row)?, event: Event::of(row)? })
}

fn place_of(row: &PgRow) -> Result<Place, sqlx::Error> {
    Ok(Place { xid: row.try_get("xid")?, event: row.try_get("event_id")? })
}
