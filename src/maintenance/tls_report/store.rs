//! Results and reports in the database.

use chrono::NaiveDate;
use sqlx::PgPool;

/// A report that is to be made.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct Open {
    pub(super) day: NaiveDate,
    pub(super) domain: String,
    /// Collectors that have it.
    pub(super) done: Vec<String>,
}

/// Sessions that went alike.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct Row {
    pub(super) policy_type: String,
    pub(super) policy: String,
    pub(super) host: String,
    pub(super) source_ip: String,
    pub(super) host_ip: String,
    pub(super) failure: String,
    pub(super) sessions: i64,
}

/// Reports on days that are over, at most `most`.
pub(super) async fn open(pool: &PgPool, most: i64) -> Result<Vec<Open>, sqlx::Error> {
    sqlx::query_as(include_str!("../sql/tls_open.sql")).bind(most).fetch_all(pool).await
}

/// How sessions with a domain went.
pub(super) async fn results(
    pool: &PgPool,
    day: NaiveDate,
    domain: &str,
) -> Result<Vec<Row>, sqlx::Error> {
    sqlx::query_as(include_str!("../sql/tls_results.sql"))
        .bind(day)
        .bind(domain)
        .fetch_all(pool)
        .await
}

/// A collector has the report, or may have it.
pub(super) async fn note(
    pool: &PgPool,
    day: NaiveDate,
    domain: &str,
    collector: &str,
) -> Result<(), sqlx::Error> {
    about(pool, include_str!("../sql/tls_note.sql"), day, domain, collector).await
}

/// A collector has it not, after all.
pub(super) async fn take_back(
    pool: &PgPool,
    day: NaiveDate,
    domain: &str,
    collector: &str,
) -> Result<(), sqlx::Error> {
    about(pool, include_str!("../sql/tls_take_back.sql"), day, domain, collector).await
}

/// The report is over: `sent` or `unwanted`.
pub(super) async fn close(
    pool: &PgPool,
    day: NaiveDate,
    domain: &str,
    state: &str,
) -> Result<(), sqlx::Error> {
    about(pool, include_str!("../sql/tls_close.sql"), day, domain, state).await
}

/// The report is tried again later, or given up after many tries.
pub(super) async fn later(pool: &PgPool, day: NaiveDate, domain: &str) -> Result<(), sqlx::Error> {
    sqlx::query(include_str!("../sql/tls_later.sql"))
        .bind(day)
        .bind(domain)
        .execute(pool)
        .await
        .map(drop)
}

/// Forgets what is older than three days, when nothing is to be reported of it any more.
pub(super) async fn forget(pool: &PgPool) -> Result<(), sqlx::Error> {
    sqlx::query(include_str!("../sql/tls_forget_results.sql")).execute(pool).await?;
    sqlx::query(include_str!("../sql/tls_forget_reports.sql")).execute(pool).await.map(drop)
}

async fn about(
    pool: &PgPool,
    statement: &'static str,
    day: NaiveDate,
    domain: &str,
    what: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(statement).bind(day).bind(domain).bind(what).execute(pool).await.map(drop)
}
