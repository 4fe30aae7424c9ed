//! A message's content, as the worker needs it once for all its deliveries.

use sqlx::{PgPool, Row};

use crate::domain::ids::{MessageId, TenantId};

/// What is stored of a message.
#[derive(Debug, Clone)]
pub struct StoredMessage {
    /// Whose it is.
    pub tenant: TenantId,
    /// The tenant's name.
    pub tenant_name: String,
    /// Its stream's name.
    pub stream: String,
    /// The content (JSON of `message::content`).
    pub content: String,
    /// Seconds since 1970 that its Date header shows: when it was to be sent.
    pub dated: u64,
    /// Deliveries made of it, as far as its recipients have been handed over.
    pub accepted: u64,
}

/// Loads a message; `None` when its history has been dropped.
pub async fn load(pool: &PgPool, id: MessageId) -> Result<Option<StoredMessage>, sqlx::Error> {
    let row =
        sqlx::query(include_str!("sql/message.sql")).bind(id.get()).fetch_optional(pool).await?;
    row.map(|row| {
        Ok(StoredMessage {
            tenant: TenantId::new(row.try_get("tenant_id")?),
            tenant_name: row.try_get("tenant")?,
            stream: row.try_get("stream")?,
            content: row.try_get("content")?,
            dated: row.try_get::<i64, _>("dated")?.max(0) as u64,
            accepted: row.try_get::<i64, _>("accepted")?.unsigned_abs(),
        })
    })
    .transpose()
}
