//! The rows of endpoints: each function is one statement on a connection that sees the tenant's.

use std::time::Duration;

use sqlx::PgConnection;

use super::desk::{DeskError, Hand};
use super::endpoint::{self, Endpoint};
use super::spec::{Change, Spec};
use crate::domain::ids::{TenantId, WebhookId};
use crate::event::cursor::Place;
use crate::event::kind::EventKind;

/// An endpoint of the tenant.
pub(super) async fn one(
    conn: &mut PgConnection,
    tenant: TenantId,
    id: WebhookId,
) -> Result<Endpoint, DeskError> {
    endpoint::show(conn, tenant, Some(id)).await?.pop().ok_or(DeskError::Missing)
}

/// A new endpoint that reads on from `end`; `None` when the tenant has `most` already.
pub(super) async fn insert(
    conn: &mut PgConnection,
    tenant: TenantId,
    spec: &Spec,
    end: Place,
    most: u16,
) -> Result<Option<WebhookId>, sqlx::Error> {
    let id: Option<i64> = sqlx::query_scalar(include_str!("sql/create.sql"))
        .bind(tenant.get())
        .bind(&spec.url)
        .bind(&spec.description)
        .bind(numbers(spec.kinds.as_deref()))
        .bind(i32::from(spec.batch))
        .bind(i32::from(spec.in_flight))
        .bind(spec.per_second.map(i32::from))
        .bind(end.xid)
        .bind(end.event)
        .bind(i64::from(most))
        .fetch_optional(conn)
        .await?;
    Ok(id.map(WebhookId::new))
}

/// Who disabled it, if anybody did. Its row is locked until the transaction ends.
pub(super) async fn disabled_by(
    conn: &mut PgConnection,
    tenant: TenantId,
    id: WebhookId,
) -> Result<Option<String>, DeskError> {
    let found: Option<Option<String>> = sqlx::query_scalar(
        "select disabled_by from postrider.webhook where tenant_id = $1 and webhook_id = $2 for update",
    )
    .bind(tenant.get())
    .bind(id.get())
    .fetch_optional(conn)
    .await?;
    found.ok_or(DeskError::Missing)
}

/// Changes what is given.
pub(super) async fn change(
    conn: &mut PgConnection,
    tenant: TenantId,
    id: WebhookId,
    change: &Change,
    hand: Hand,
) -> Result<(), sqlx::Error> {
    let Change { url, description, kinds, batch, in_flight, per_second, enabled } = change;
    sqlx::query(include_str!("sql/change.sql"))
        .bind(tenant.get())
        .bind(id.get())
        .bind(url.as_deref())
        .bind(description.as_deref())
        .bind(kinds.is_some())
        .bind(kinds.as_ref().and_then(|kinds| numbers(kinds.as_deref())))
        .bind(batch.map(i32::from))
        .bind(in_flight.map(i32::from))
        .bind(per_second.is_some())
        .bind(per_second.flatten().map(i32::from))
        .bind(enabled)
        .bind(match hand {
            Hand::Tenant => "tenant",
            Hand::Operator => "operator",
        })
        .execute(conn)
        .await
        .map(drop)
}

/// Deletes it with its secrets and retries; whether it was there.
pub(super) async fn remove(
    conn: &mut PgConnection,
    tenant: TenantId,
    id: WebhookId,
) -> Result<bool, sqlx::Error> {
    let done =
        sqlx::query("delete from postrider.webhook where tenant_id = $1 and webhook_id = $2")
            .bind(tenant.get())
            .bind(id.get())
            .execute(conn)
            .await?;
    Ok(done.rows_affected() > 0)
}

/// Has it read from a place on again, if it was further.
pub(super) async fn set_back(
    conn: &mut PgConnection,
    tenant: TenantId,
    id: WebhookId,
    place: Place,
) -> Result<(), sqlx::Error> {
    sqlx::query(include_str!("sql/replay.sql"))
        .bind(tenant.get())
        .bind(id.get())
        .bind(place.xid)
        .bind(place.event)
        .execute(conn)
        .await
        .map(drop)
}

/// The secrets until now go on for `overlap` at most.
pub(super) async fn retire_secrets(
    conn: &mut PgConnection,
    id: WebhookId,
    overlap: Duration,
) -> Result<(), sqlx::Error> {
    sqlx::query(include_str!("sql/retire.sql"))
        .bind(id.get())
        .bind(overlap.as_secs_f64())
        .execute(conn)
        .await
        .map(drop)
}

/// A secret that goes on until it is replaced.
pub(super) async fn insert_secret(
    conn: &mut PgConnection,
    tenant: TenantId,
    id: WebhookId,
    sealed: Vec<u8>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into postrider.webhook_secret(tenant_id, webhook_id, sealed) values ($1, $2, $3)",
    )
    .bind(tenant.get())
    .bind(id.get())
    .bind(sealed)
    .execute(conn)
    .await
    .map(drop)
}

fn numbers(kinds: Option<&[EventKind]>) -> Option<Vec<i16>> {
    kinds.map(|kinds| kinds.iter().map(|kind| kind.number()).collect())
}
