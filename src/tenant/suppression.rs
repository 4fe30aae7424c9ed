//! Whom a tenant must not write to: what an operator adds, lists and removes.
//!
//! Recipients are checked against it at submission and before each attempt. Every
//! statement runs in the tenant's scope, so row-level security holds as for the API.

use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use serde::Serialize;
use sqlx::{FromRow, PgPool};

use super::isolation::TenantScope;
use crate::domain::ids::DeliveryId;
use crate::message::address::Address;

/// An address that is not written to, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, FromRow)]
pub struct Suppressed {
    /// The address, normalised.
    pub address: String,
    /// Why, in words.
    pub reason: String,
    /// Who said so: `reply`, `operator`, `api` or `recipient`.
    pub source: String,
    /// Since when.
    pub created_at: DateTime<Utc>,
}

/// Whether the list changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It did.
    Made,
    /// It was so already.
    None,
}

/// Puts addresses on the list; those that are there keep their first reason. Says
/// how many are new.
pub async fn add(
    pool: &PgPool,
    scope: TenantScope,
    addresses: &[Address],
    reason: &str,
) -> Result<u64, sqlx::Error> {
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let reason = reason.to_owned();
    scope
        .run(pool, move |conn| {
            async move {
                let done = sqlx::query(
                    "insert into postrider.suppression(tenant_id, address, reason, source)
                     select $1, a, $3, 'operator' from unnest($2::text[]) a
                     on conflict do nothing",
                )
                .bind(scope.tenant().get())
                .bind(addresses)
                .bind(reason)
                .execute(conn)
                .await?;
                Ok(done.rows_affected())
            }
            .boxed()
        })
        .await
}

/// The recipient of a delivery wants no further mail from its tenant. `None` when the
/// delivery is no longer known. Needs no scope: the caller has verified a link that this
/// installation signed for this delivery. `pool` acts as the API's role.
pub async fn unsubscribe(
    pool: &PgPool,
    delivery: DeliveryId,
) -> Result<Option<Change>, sqlx::Error> {
    let new: Option<bool> = sqlx::query_scalar("select postrider.unsubscribe($1)")
        .bind(delivery.get())
        .fetch_one(pool)
        .await?;
    Ok(new.map(|new| if new { Change::Made } else { Change::None }))
}

/// One page of the list by address: those after `after`.
pub async fn list(
    pool: &PgPool,
    scope: TenantScope,
    after: &str,
    limit: i64,
) -> Result<Vec<Suppressed>, sqlx::Error> {
    let after = after.to_owned();
    scope
        .run(pool, move |conn| {
            sqlx::query_as(
                "select address, reason, source, created_at from postrider.suppression
                 where tenant_id = $1 and address > $2 order by address limit $3",
            )
            .bind(scope.tenant().get())
            .bind(after)
            .bind(limit)
            .fetch_all(conn)
            .boxed()
        })
        .await
}

/// Takes an address off the list.
pub async fn remove(
    pool: &PgPool,
    scope: TenantScope,
    address: &Address,
) -> Result<Change, sqlx::Error> {
    let address = address.to_string();
    scope
        .run(pool, move |conn| {
            async move {
                let done = sqlx::query(
                    "delete from postrider.suppression where tenant_id = $1 and address = $2",
                )
                .bind(scope.tenant().get())
                .bind(address)
                .execute(conn)
                .await?;
                Ok(if done.rows_affected() == 0 { Change::None } else { Change::Made })
            }
            .boxed()
        })
        .await
}
