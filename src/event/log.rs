//! Reading the log of one tenant.

use sqlx::postgres::PgRow;
use sqlx::{PgExecutor, Row};

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
pub async fn read<'e>(
    executor: impl PgExecutor<'e>,
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
        .fetch_all(executor)
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
    Ok(page)
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
