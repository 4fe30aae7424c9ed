//! What a verb would touch: the lanes of a target with what waits in them. Changes nothing.
//!
//! The counts are bounded, so that asking costs the same however much waits.

use futures_util::FutureExt;
use serde::Serialize;
use sqlx::{FromRow, PgPool};

use super::overview::MOST;
use super::target::{Target, TargetError};
use super::within;
use crate::domain::ids::{LaneId, PoolId, StreamId, TenantId};

/// What waits in one lane.
#[derive(Debug, Clone, PartialEq, Serialize, FromRow)]
pub struct Touched {
    /// Its number.
    pub lane: i32,
    /// Whose.
    pub tenant: String,
    /// For whom.
    pub mailbox_provider: String,
    /// Of which stream.
    pub stream: String,
    /// 0 goes first.
    pub priority: i16,
    /// Due now.
    pub ready: i64,
    /// Whether there are more ready ones than were counted.
    pub more_ready: bool,
    /// Waiting for their time.
    pub deferred: i64,
    /// Whether there are more deferred ones than were counted.
    pub more_deferred: bool,
    /// In a worker's hands: not touched.
    pub leased: i64,
}

/// The lanes of a target in which something waits. A route is not looked at: which lanes
/// leave by one is a matter of the configuration.
pub async fn preview(pool: &PgPool, target: &Target) -> Result<Vec<Touched>, TargetError> {
    let selector = target.selector(&mut *pool.acquire().await?).await?;
    let lanes = within(pool, target.tenant, move |conn| {
        sqlx::query_as(include_str!("sql/preview.sql"))
            .bind(selector.tenant.map(TenantId::get))
            .bind(selector.stream.map(StreamId::get))
            .bind(selector.pool.map(PoolId::get))
            .bind(selector.lane.map(LaneId::get))
            .bind(MOST)
            .fetch_all(conn)
            .boxed()
    })
    .await?;
    Ok(lanes)
}
