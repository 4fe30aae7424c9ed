//! Raw reports in Postgres: stored before they are acknowledged, taken by whoever processes
//! them, kept for a while for inspection.
//!
//! A report lies in the cell that minted the delivery it came for. Taking one is a loan for
//! 90 s: whoever dies with it has it taken again by another, at most [`MAX_TRIES`] times.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{FromRow, PgConnection, PgPool};

use super::door::Destination;
use crate::domain::ids::DeliveryId;

/// A mail to be stored for one recipient.
#[derive(Debug, Clone)]
pub struct Incoming<'a> {
    /// What it came for.
    pub destination: Destination,
    /// Envelope sender; empty: the null sender.
    pub sender: &'a str,
    /// The client's address.
    pub peer: &'a str,
    /// The mail.
    pub raw: &'a [u8],
}

/// A report that was taken for processing.
#[derive(Debug, Clone, FromRow)]
pub struct Taken {
    /// Its number.
    pub report_id: i64,
    /// `return`, `complaint`, `unsubscribe` or `callback`.
    pub purpose: String,
    /// The delivery whose address it came to.
    pub job_id: Option<i64>,
    /// Envelope sender; of a callback: the provider.
    pub sender: String,
    /// The mail, or the event.
    pub raw: Vec<u8>,
    /// How often it was taken, this time too.
    pub tries: i16,
    /// By which the event of a callback is known.
    pub event_key: Option<String>,
}

/// A report as `postrider report list` shows it.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct Listed {
    /// Its number.
    pub report_id: i64,
    /// When it was stored.
    pub received_at: DateTime<Utc>,
    /// What it came for.
    pub purpose: String,
    /// The delivery whose address it came to.
    pub job_id: Option<i64>,
    /// Envelope sender.
    pub sender: String,
    /// The client.
    pub peer: String,
    /// Bytes.
    pub size: i32,
    /// When it was dealt with.
    pub done_at: Option<DateTime<Utc>>,
    /// What kind of mail it was taken for.
    pub kind: Option<String>,
    /// What was done about it.
    pub outcome: Option<String>,
    /// What it says (JSON).
    pub findings: Option<String>,
}

/// Times a report is taken before it is given up.
pub const MAX_TRIES: i16 = 3;

/// Reports that wait, beyond which no more are taken in.
pub const MAX_WAITING: i64 = 200_000;

/// Stores mails; committed when this returns.
pub async fn put(pool: &PgPool, mails: &[Incoming<'_>]) -> Result<(), sqlx::Error> {
    let delivery = |one: &Incoming<'_>| one.destination.delivery().map(DeliveryId::get);
    sqlx::query(include_str!("sql/put.sql"))
        .bind(mails.iter().map(|one| one.destination.as_str()).collect::<Vec<_>>())
        .bind(mails.iter().map(delivery).collect::<Vec<_>>())
        .bind(mails.iter().map(|one| one.sender).collect::<Vec<_>>())
        .bind(mails.iter().map(|one| one.peer).collect::<Vec<_>>())
        .bind(mails.iter().map(|one| one.raw).collect::<Vec<_>>())
        .execute(pool)
        .await
        .map(drop)
}

/// Takes up to `most` reports that nobody else has.
pub async fn take(pool: &PgPool, most: i64) -> Result<Vec<Taken>, sqlx::Error> {
    sqlx::query_as(include_str!("sql/take.sql")).bind(most).bind(MAX_TRIES).fetch_all(pool).await
}

/// How a report was dealt with.
#[derive(Debug, Clone)]
pub struct Done {
    /// Its number.
    pub report_id: i64,
    /// What kind of mail it was taken for.
    pub kind: &'static str,
    /// `applied`, `evidence`, `unmatched`, `ignored` or `failed`.
    pub outcome: &'static str,
    /// What it says (JSON).
    pub findings: String,
}

/// Locks reports for the transaction of `conn`; those that nobody has dealt with yet.
pub async fn lock(conn: &mut PgConnection, reports: &[i64]) -> Result<Vec<i64>, sqlx::Error> {
    sqlx::query_scalar(
        "select report_id from postrider.inbound_report
         where report_id = any ($1) and done_at is null order by report_id for update",
    )
    .bind(reports)
    .fetch_all(conn)
    .await
}

/// Notes what became of reports, in the transaction of `conn`.
pub async fn finish(conn: &mut PgConnection, done: &[Done]) -> Result<(), sqlx::Error> {
    sqlx::query(include_str!("sql/finish.sql"))
        .bind(done.iter().map(|one| one.report_id).collect::<Vec<_>>())
        .bind(done.iter().map(|one| one.kind).collect::<Vec<_>>())
        .bind(done.iter().map(|one| one.outcome).collect::<Vec<_>>())
        .bind(done.iter().map(|one| one.findings.as_str()).collect::<Vec<_>>())
        .execute(conn)
        .await
        .map(drop)
}

/// Whether a report that comes again has used up one of its tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Try {
    /// It has: what it waits for may never come.
    Spent,
    /// It has not: what it waits for ends by itself.
    Unspent,
}

/// Gives reports back, to be taken again in half a minute.
pub async fn postpone(
    conn: &mut PgConnection,
    reports: &[i64],
    of: Try,
) -> Result<(), sqlx::Error> {
    sqlx::query(include_str!("sql/postpone.sql"))
        .bind(reports)
        .bind(of == Try::Spent)
        .execute(conn)
        .await
        .map(drop)
}

/// Gives up what was taken too often, and deletes up to `most` reports that were dealt with
/// `keep` ago; how many are gone.
pub async fn prune(
    pool: &PgPool,
    keep: std::time::Duration,
    most: i64,
) -> Result<u64, sqlx::Error> {
    sqlx::query(include_str!("sql/prune.sql"))
        .bind(keep.as_secs_f64())
        .bind(most)
        .bind(MAX_TRIES)
        .execute(pool)
        .await
        .map(|done| done.rows_affected())
}

/// How many wait; counts no further than a little beyond [`MAX_WAITING`].
pub async fn waiting(pool: &PgPool) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "select count(*) from (select 1 from postrider.inbound_report where done_at is null limit $1) w",
    )
    .bind(MAX_WAITING + 1)
    .fetch_one(pool)
    .await
}

/// The newest reports before `before`, of one delivery if named.
pub async fn list(
    pool: &PgPool,
    delivery: Option<DeliveryId>,
    before: Option<i64>,
    most: i64,
) -> Result<Vec<Listed>, sqlx::Error> {
    sqlx::query_as(include_str!("sql/list.sql"))
        .bind(delivery.map(DeliveryId::get))
        .bind(before.unwrap_or(i64::MAX))
        .bind(most)
        .fetch_all(pool)
        .await
}

/// One report with its mail.
pub async fn show(pool: &PgPool, report: i64) -> Result<Option<(Listed, Vec<u8>)>, sqlx::Error> {
    let mut found: Vec<Listed> = sqlx::query_as(include_str!("sql/list.sql"))
        .bind(None::<i64>)
        .bind(report.saturating_add(1))
        .bind(1_i64)
        .fetch_all(pool)
        .await?;
    let Some(listed) = found.pop().filter(|listed| listed.report_id == report) else {
        return Ok(None);
    };
    let raw = sqlx::query_scalar("select raw from postrider.inbound_report where report_id = $1")
        .bind(report)
        .fetch_optional(pool)
        .await?;
    Ok(raw.map(|raw| (listed, raw)))
}
