//! Events of providers in Postgres: among the reports that came back, stored before they are
//! acknowledged.
//!
//! An event that is there already is not stored again; a token that was used stores nothing.
//! `pool` acts as the API's role, which may add reports and not read them.

use sqlx::{PgPool, Row};

use super::{Opened, Origin};

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// So many events are new; the others were there.
    Stored(u64),
    /// The token was used before: nothing was stored.
    Replayed,
}

/// Stores what a callback holds, all of it or nothing; committed when this returns.
pub async fn put(
    pool: &PgPool,
    origin: Origin,
    peer: &str,
    opened: &Opened,
) -> Result<Put, sqlx::Error> {
    if opened.events.is_empty() && opened.token.is_none() {
        return Ok(Put::Stored(0));
    }
    let token = opened.token.as_ref();
    let row = sqlx::query(include_str!("sql/put.sql"))
        .bind(origin.as_str())
        .bind(peer)
        .bind(opened.events.iter().map(|event| event.key.as_str()).collect::<Vec<_>>())
        .bind(opened.events.iter().map(|event| event.raw.as_slice()).collect::<Vec<_>>())
        .bind(token.map(|token| token.text.as_str()))
        .bind(token.map(|token| token.expires_at as f64))
        .fetch_one(pool)
        .await?;
    let (tokens, stored): (i64, i64) = (row.try_get("tokens")?, row.try_get("stored")?);
    if token.is_some() && tokens == 0 {
        return Ok(Put::Replayed);
    }
    Ok(Put::Stored(stored as u64))
}

/// Whether so many reports wait for the daemons that no more should be taken in.
pub async fn is_full(pool: &PgPool, most: i64) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select postrider.reports_are_many($1)").bind(most).fetch_one(pool).await
}

/// Forgets up to `most` tokens that are stale anyway. `pool` acts as the worker's role.
pub async fn forget_tokens(pool: &PgPool, most: i64) -> Result<u64, sqlx::Error> {
    sqlx::query(include_str!("sql/forget_tokens.sql"))
        .bind(most)
        .execute(pool)
        .await
        .map(|done| done.rows_affected())
}

/// The deliveries that providers took under `ids`.
pub async fn find(
    conn: &mut sqlx::PgConnection,
    ids: &[&str],
) -> Result<Vec<(String, i64)>, sqlx::Error> {
    sqlx::query_as(
        "select distinct provider_id, job_id from postrider.attempt where provider_id = any ($1)",
    )
    .bind(ids)
    .fetch_all(conn)
    .await
}
