//! What the cluster's limits stand at, for people.

use serde::Serialize;
use sqlx::{FromRow, PgPool};

/// A rate of a key that was used lately.
#[derive(Debug, Clone, PartialEq, Serialize, FromRow)]
pub struct RateState {
    /// `mailbox_provider/google`.
    pub key: String,
    /// Which of the limit's rates, from 0.
    pub nth: i16,
    /// Tokens per second, as last asked with.
    pub rate: f64,
    /// Most that gather in a pause.
    pub burst: f64,
    /// Tokens that gathered.
    pub tokens: f64,
    /// Until the next token is released; those before it are dealt out already.
    pub next_seconds: f64,
}

/// What one daemon has of a concurrency limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, FromRow)]
pub struct SlotState {
    /// `mailbox_provider/google`.
    pub key: String,
    /// The limit, as it last asked with.
    pub slots: i32,
    /// The daemon's session.
    pub session_id: i64,
    /// Its name.
    pub worker: String,
    /// Slots it may use.
    pub allotted: i32,
    /// Slots it could use; it is hungry if that is more.
    pub want: i32,
}

/// Rates that were used lately.
pub async fn rates(pool: &PgPool) -> Result<Vec<RateState>, sqlx::Error> {
    sqlx::query_as(include_str!("sql/buckets.sql")).fetch_all(pool).await
}

/// Slots that are dealt out.
pub async fn slots(pool: &PgPool) -> Result<Vec<SlotState>, sqlx::Error> {
    sqlx::query_as(include_str!("sql/slots.sql")).fetch_all(pool).await
}
