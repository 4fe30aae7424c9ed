//! What the maintenance does with the counts: sums them up, and notes what follows. Every
//! statement is about all streams at once.

use std::time::Duration;

use serde_json::json;
use sqlx::{PgPool, Row};

use super::figures::StreamOf;
use super::judge::Excess;
use crate::config::unit;
use crate::domain::ids::TenantId;

/// Rows of the tally that one statement takes.
const AT_ONCE: i64 = 50_000;

/// Takes what was counted into the buckets. The streams that it was of, and those that were
/// warned and are to be looked at again.
pub async fn roll_up(pool: &PgPool) -> Result<Vec<(TenantId, String)>, sqlx::Error> {
    let mut streams = std::collections::BTreeSet::new();
    loop {
        let rows =
            sqlx::query(include_str!("sql/roll_up.sql")).bind(AT_ONCE).fetch_all(pool).await?;
        let mut taken = 0;
        for row in &rows {
            taken = row.try_get::<i64, _>("taken")?;
            if let Some(tenant) = row.try_get::<Option<i64>, _>("tenant_id")? {
                streams.insert((TenantId::new(tenant), row.try_get::<String, _>("stream")?));
            }
        }
        if taken < AT_ONCE {
            return Ok(streams.into_iter().collect());
        }
    }
}

/// Merges minutes that lie back some hours into their hours, and forgets what is older than
/// `keep`.
pub async fn tidy(pool: &PgPool, keep: Duration) -> Result<(), sqlx::Error> {
    sqlx::query(include_str!("sql/merge_hours.sql")).execute(pool).await?;
    sqlx::query(include_str!("sql/forget_hours.sql"))
        .bind(keep.as_secs_f64())
        .execute(pool)
        .await
        .map(drop)
}

/// Tells tenants that streams are near their limits; those that were not told before.
pub async fn warn(
    pool: &PgPool,
    found: &[(StreamOf, Excess)],
) -> Result<Vec<(TenantId, String)>, sqlx::Error> {
    act(pool, include_str!("sql/warn.sql"), found).await
}

/// Holds streams back, and tells their tenants; those that were not held back before.
pub async fn stop(
    pool: &PgPool,
    found: &[(StreamOf, Excess)],
) -> Result<Vec<(TenantId, String)>, sqlx::Error> {
    act(pool, include_str!("sql/stop.sql"), found).await
}

/// Warnings that are over.
pub async fn calm(pool: &PgPool, streams: &[StreamOf]) -> Result<(), sqlx::Error> {
    if streams.is_empty() {
        return Ok(());
    }
    sqlx::query(include_str!("sql/calm.sql"))
        .bind(streams.iter().map(|of| of.tenant.get()).collect::<Vec<_>>())
        .bind(streams.iter().map(|of| of.stream.as_str()).collect::<Vec<_>>())
        .execute(pool)
        .await
        .map(drop)
}

async fn act(
    pool: &PgPool,
    statement: &'static str,
    found: &[(StreamOf, Excess)],
) -> Result<Vec<(TenantId, String)>, sqlx::Error> {
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let detail = |of: &StreamOf, excess: &Excess| {
        json!({
            "stream": of.stream,
            "reason": excess.to_string(),
            "measure": excess.measure.as_str(),
            "mailbox_provider": excess.mailbox_provider,
            "window": unit::written(excess.window),
            "sent": excess.sent,
            "counted": excess.counted,
            "rate": excess.rate(),
            "limit": excess.limit,
        })
        .to_string()
    };
    let rows = sqlx::query(statement)
        .bind(found.iter().map(|(of, _)| of.tenant.get()).collect::<Vec<_>>())
        .bind(found.iter().map(|(of, _)| of.stream.as_str()).collect::<Vec<_>>())
        .bind(found.iter().map(|(_, excess)| excess.to_string()).collect::<Vec<_>>())
        .bind(found.iter().map(|(of, excess)| detail(of, excess)).collect::<Vec<_>>())
        .fetch_all(pool)
        .await?;
    rows.iter()
        .map(|row| Ok((TenantId::new(row.try_get("tenant_id")?), row.try_get("stream")?)))
        .collect()
}
