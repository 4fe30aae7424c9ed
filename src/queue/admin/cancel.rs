//! Calling back everything that was accepted until now in some lanes.
//!
//! Asking is a row for each lane, however much waits in them; claims honour it from its
//! commit on, and the maintenance ends what waits (`queue::recall`). Mail accepted later is
//! not touched. What is in hand may still go out.

use futures_util::FutureExt;
use serde::Serialize;
use sqlx::{FromRow, PgConnection, PgPool};

use super::order::{Order, together};
use super::target::{Target, TargetError};
use super::within;
use crate::domain::ids::{LaneId, PoolId, StreamId, TenantId};
use crate::queue::selector::Selector;
use crate::tenant::isolation::TenantScope;

/// Lanes that are shown at most.
const SHOWN: i64 = 1_000;

/// A lane whose mail is called back and may not all have ended yet.
#[derive(Debug, Clone, PartialEq, Serialize, FromRow)]
pub struct Cancellation {
    /// Its number.
    pub lane: i32,
    /// Whose.
    pub tenant: String,
    /// For whom.
    pub mailbox_provider: String,
    /// Of which stream.
    pub stream: String,
    /// Why.
    pub reason: String,
    /// Who asked, as they said.
    pub actor: String,
    /// Seconds since it was asked.
    pub asked_seconds: f64,
}

/// Calls back; says for how many lanes. A route is nothing that mail has been accepted for:
/// the target must not name one.
pub async fn cancel(pool: &PgPool, target: &Target, order: Order) -> Result<i64, TargetError> {
    let target = target.clone();
    together(pool, move |conn| {
        async move {
            let selector = target.selector(conn).await?;
            Ok(ask(conn, &selector, &order).await?)
        }
        .boxed()
    })
    .await
}

/// The same for a tenant's own stream; `pool` acts as the API.
pub async fn cancel_own(
    pool: &PgPool,
    scope: TenantScope,
    stream: String,
    order: Order,
) -> Result<i64, TargetError> {
    let target = Target { tenant: Some(scope), stream: Some(stream), ..Target::default() };
    let asked: Result<i64, TargetError> = scope
        .run(pool, move |conn| {
            async move {
                match target.selector(&mut *conn).await {
                    Ok(selector) => ask(conn, &selector, &order).await.map(Ok),
                    Err(TargetError::Database(error)) => Err(error),
                    Err(other) => Ok(Err(other)),
                }
            }
            .boxed()
        })
        .await?;
    asked
}

/// Lanes whose mail is called back, as long as some of it may come again; some of them when
/// they are very many.
pub async fn open(
    pool: &PgPool,
    scope: Option<TenantScope>,
) -> Result<Vec<Cancellation>, sqlx::Error> {
    within(pool, scope, move |conn| {
        sqlx::query_as(include_str!("sql/cancellations.sql"))
            .bind(scope.map(|scope| scope.tenant().get()))
            .bind(SHOWN)
            .fetch_all(conn)
            .boxed()
    })
    .await
}

async fn ask(
    conn: &mut PgConnection,
    selector: &Selector,
    order: &Order,
) -> Result<i64, sqlx::Error> {
    let lanes: i64 = sqlx::query_scalar(include_str!("sql/cancel.sql"))
        .bind(selector.tenant.map(TenantId::get))
        .bind(selector.stream.map(StreamId::get))
        .bind(selector.pool.map(PoolId::get))
        .bind(selector.lane.map(LaneId::get))
        .bind(&order.reason)
        .bind(&order.actor)
        .fetch_one(&mut *conn)
        .await?;
    order.record(conn).await?;
    Ok(lanes)
}
