//! Taking what waits into another stream of the same tenant.
//!
//! Row by row, in bounded statements that each move a batch or nothing: broken off, it is
//! simply asked again. Only what was accepted before the command began is moved, so it ends
//! although mail goes on coming in. What is in hand stays; what is called back ends where it
//! is. Each delivery keeps its age, its attempts and its expiry.

use std::sync::LazyLock;

use futures_util::FutureExt;
use sqlx::PgPool;

use super::action::{self, Action};
use super::order::{Order, together};
use super::target::{Target, TargetError};
use crate::domain::ids::{LaneId, PoolId, StreamId};
use crate::queue::{Generation, PerGeneration};
use crate::tenant::isolation::TenantScope;

static MOVE: LazyLock<PerGeneration> =
    LazyLock::new(|| PerGeneration::new(include_str!("sql/move_ready.sql")));

/// Rows that one statement moves.
const BATCH: i64 = 5_000;

/// What was moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relocated {
    /// Lanes it was taken from.
    pub lanes: usize,
    /// Deliveries.
    pub deliveries: u64,
}

/// Why nothing was moved.
#[derive(Debug, thiserror::Error)]
pub enum RelocateError {
    /// There is nothing of this name.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// A stream of the destination is being called back.
    #[error(
        "the mail of stream {stream:?} was called back, and some of it is still in hand: what is moved \
         there would end with it; try again when `postrider queue status` no longer shows the \
         cancellation"
    )]
    CalledBack {
        /// The destination.
        stream: String,
    },
    /// The database did not do it.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Where to.
#[derive(Debug)]
struct Journey {
    /// From lane, to lane.
    lanes: Vec<(i32, i32)>,
    /// Nothing accepted later.
    before: i64,
}

/// Moves what waits of a tenant's target into its stream `to`, which is made if the
/// configuration names it.
pub async fn relocate(
    pool: &PgPool,
    scope: TenantScope,
    target: &Target,
    to: &str,
    configured: bool,
    order: Order,
) -> Result<Relocated, RelocateError> {
    let journey = prepare(pool, scope, target, to.to_owned(), configured, order.clone()).await?;
    let mut deliveries = 0;
    for (from, to) in &journey.lanes {
        for generation in Generation::all() {
            deliveries += batches(pool, MOVE.of(generation), *from, *to, journey.before).await?;
        }
        let deferred = sqlx::AssertSqlSafe(include_str!("sql/move_deferred.sql"));
        deliveries += batches(pool, deferred, *from, *to, journey.before).await?;
    }
    let done = Relocated { lanes: journey.lanes.len(), deliveries };
    together(pool, move |conn| {
        async move {
            let action = Action {
                actor: &order.actor,
                action: "queue move done",
                target: &order.target,
                reason: Some(&order.reason),
                detail: serde_json::json!({"deliveries": done.deliveries, "lanes": done.lanes}),
            };
            action::record(conn, &action).await
        }
        .boxed()
    })
    .await?;
    Ok(done)
}

/// Makes the lanes and records the order.
async fn prepare(
    pool: &PgPool,
    scope: TenantScope,
    target: &Target,
    to: String,
    configured: bool,
    order: Order,
) -> Result<Journey, RelocateError> {
    let target = target.clone();
    together(pool, move |conn| {
        async move {
            if configured {
                sqlx::query(
                    "insert into postrider.stream(tenant_id, name) values ($1, $2) on conflict do nothing",
                )
                .bind(scope.tenant().get())
                .bind(&to)
                .execute(&mut *conn)
                .await?;
            }
            let selector = target.selector(&mut *conn).await?;
            let there = Target { tenant: Some(scope), stream: Some(to.clone()), ..Target::default() };
            let stream: Option<StreamId> = there.selector(&mut *conn).await?.stream;
            let lanes: Vec<(i32, i32)> = sqlx::query_as(include_str!("sql/move_lanes.sql"))
                .bind(scope.tenant().get())
                .bind(selector.stream.map(StreamId::get))
                .bind(selector.pool.map(PoolId::get))
                .bind(selector.lane.map(LaneId::get))
                .bind(stream.map(StreamId::get))
                .fetch_all(&mut *conn)
                .await?;
            let into: Vec<i32> = lanes.iter().map(|(_, to)| *to).collect();
            let called_back: bool = sqlx::query_scalar(
                "select exists (select 1 from postrider.lane_cancellation where lane_id = any ($1))",
            )
            .bind(into)
            .fetch_one(&mut *conn)
            .await?;
            if called_back {
                return Err(RelocateError::CalledBack { stream: to });
            }
            let before =
                sqlx::query_scalar("select postrider.mint_id()").fetch_one(&mut *conn).await?;
            order.record(conn).await?;
            Ok(Journey { lanes, before })
        }
        .boxed()
    })
    .await
}

/// Repeats one statement until it finds nothing more.
async fn batches(
    pool: &PgPool,
    statement: sqlx::AssertSqlSafe<&str>,
    from: i32,
    to: i32,
    before: i64,
) -> Result<u64, sqlx::Error> {
    let statement = statement.0;
    let mut moved = 0;
    loop {
        let some: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(statement))
            .bind(from)
            .bind(to)
            .bind(before)
            .bind(BATCH)
            .fetch_one(pool)
            .await?;
        moved += some.max(0) as u64;
        if some == 0 {
            return Ok(moved);
        }
    }
}
