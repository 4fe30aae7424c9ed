//! What daemons leave alone because it does not answer, as they told it.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{FromRow, PgPool};

use crate::domain::ids::SessionId;

/// One that a daemon tells of.
#[derive(Debug, Clone, PartialEq)]
pub struct Broken {
    /// `host 192.0.2.1:25`, `route relay`.
    pub spot: String,
    /// The host's name; empty for a route.
    pub host: String,
    /// `blocked`, `probing` or `ramping`.
    pub state: &'static str,
    /// What went wrong.
    pub why: String,
    /// Recipients' domains that were put back for it lately.
    pub domains: Vec<String>,
    /// Seconds for which it has not been passing.
    pub lasted: f64,
    /// Seconds until it is tried again.
    pub left: f64,
}

/// One as it is stored.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct Stored {
    /// `host 192.0.2.1:25`, `route relay`.
    pub spot: String,
    /// The host's name.
    pub host: String,
    /// `blocked`, `probing` or `ramping`.
    pub state: String,
    /// What went wrong.
    pub why: String,
    /// Which daemon says so.
    pub worker: String,
    /// Since when.
    pub since: DateTime<Utc>,
    /// Until when it is left alone.
    pub until: Option<DateTime<Utc>>,
}

/// Tells everything that `session` leaves alone at the moment; what it told before and is not
/// among it is gone, as is what dead sessions told.
pub async fn tell(pool: &PgPool, session: SessionId, all: &[Broken]) -> Result<(), sqlx::Error> {
    let texts = |of: fn(&Broken) -> &str| all.iter().map(of).collect::<Vec<&str>>();
    let domains: Vec<String> = all.iter().map(|one| one.domains.join(",")).collect();
    sqlx::query(include_str!("sql/tell_breakers.sql"))
        .bind(session.get())
        .bind(texts(|one| &one.spot))
        .bind(texts(|one| &one.host))
        .bind(texts(|one| one.state))
        .bind(texts(|one| &one.why))
        .bind(domains)
        .bind(all.iter().map(|one| one.lasted).collect::<Vec<f64>>())
        .bind(all.iter().map(|one| one.left).collect::<Vec<f64>>())
        .execute(pool)
        .await
        .map(drop)
}

/// What is left alone; with a domain, only what its mail was put back for.
pub async fn all(pool: &PgPool, domain: Option<&str>) -> Result<Vec<Stored>, sqlx::Error> {
    sqlx::query_as(include_str!("sql/breakers.sql")).bind(domain).fetch_all(pool).await
}
