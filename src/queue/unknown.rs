//! Replies that no rule knows, as they are kept: a bounded number of shapes.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{FromRow, PgPool};

use crate::reply::unknown::Unknown;

/// Shapes that are kept; those not seen for longest go.
pub const KEPT: i64 = 1_000;

/// One shape as it is stored.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct Stored {
    /// At which stage of a delivery.
    pub stage: String,
    /// With which code; in whole hundreds where shapes were too many to tell apart.
    pub code: i16,
    /// The text without what is particular.
    pub shape: String,
    /// How many came.
    pub count: i64,
    /// The first.
    pub first_seen: DateTime<Utc>,
    /// The last.
    pub last_seen: DateTime<Utc>,
    /// One of them, without addresses.
    pub sample: String,
}

/// Adds what came.
pub async fn add(pool: &PgPool, unknown: &[Unknown]) -> Result<(), sqlx::Error> {
    let texts = |of: fn(&Unknown) -> &str| unknown.iter().map(of).collect::<Vec<&str>>();
    sqlx::query(include_str!("sql/add_unknown.sql"))
        .bind(texts(|one| one.stage.as_str()))
        .bind(unknown.iter().map(|one| one.code as i16).collect::<Vec<i16>>())
        .bind(texts(|one| &one.shape))
        .bind(unknown.iter().map(|one| one.count as i64).collect::<Vec<i64>>())
        .bind(texts(|one| &one.sample))
        .execute(pool)
        .await?;
    sqlx::query(include_str!("sql/bound_unknown.sql")).bind(KEPT).execute(pool).await.map(drop)
}

/// The most frequent first.
pub async fn list(pool: &PgPool, limit: i64) -> Result<Vec<Stored>, sqlx::Error> {
    sqlx::query_as(include_str!("sql/unknown.sql")).bind(limit).fetch_all(pool).await
}

/// Forgets all of them, once rules were made for them; how many there were.
pub async fn forget(conn: &mut sqlx::PgConnection) -> Result<u64, sqlx::Error> {
    let done = sqlx::query(include_str!("sql/forget_unknown.sql")).execute(conn).await?;
    Ok(done.rows_affected())
}
