//! Whether a tenant is told at all, and how often it moved.

use sqlx::PgExecutor;

use super::cursor::Place;
use crate::domain::ids::TenantId;

/// How the log of a tenant stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Whether events are written.
    pub enabled: bool,
    /// How often the tenant moved to another cell.
    pub moves: i32,
}

/// How the tenant's log stands.
pub async fn standing<'e>(
    executor: impl PgExecutor<'e>,
    tenant: TenantId,
) -> Result<Standing, sqlx::Error> {
    let row: Option<(bool, i32)> =
        sqlx::query_as("select enabled, moves from postrider.event_tenant where tenant_id = $1")
            .bind(tenant.get())
            .fetch_optional(executor)
            .await?;
    let (enabled, moves) = row.unwrap_or((false, 0));
    Ok(Standing { enabled, moves })
}

/// From the next transaction on events are written for the tenant.
pub async fn on<'e>(executor: impl PgExecutor<'e>, tenant: TenantId) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into postrider.event_tenant(tenant_id) values ($1)
         on conflict (tenant_id) do update set enabled = true, since = now()
         where not event_tenant.enabled",
    )
    .bind(tenant.get())
    .execute(executor)
    .await
    .map(drop)
}

/// No further events, unless an endpoint needs them; whether it did. What is in the log stays
/// until its time.
pub async fn off<'e>(executor: impl PgExecutor<'e>, tenant: TenantId) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(include_str!("sql/off.sql")).bind(tenant.get()).fetch_one(executor).await
}

/// The end of the log: what is written from now on comes after it.
pub async fn end<'e>(executor: impl PgExecutor<'e>) -> Result<Place, sqlx::Error> {
    let xid: i64 =
        sqlx::query_scalar("select postrider.event_horizon() - 1").fetch_one(executor).await?;
    Ok(Place { xid, event: i64::MAX })
}
