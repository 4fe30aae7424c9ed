//! Holding mail back, and letting it go again.
//!
//! A pause is a row that the claimers honour within a second, however much it covers: what
//! is in hand goes on, nothing new is claimed, and what waits costs nothing. It ends when its
//! time is over. A suspended tenant is held back by a row of its own kind, which only
//! `tenant activate` removes. A tenant may hold back its own streams; it cannot let go what
//! an operator holds back.

use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use serde::Serialize;
use sqlx::{FromRow, PgConnection, PgPool};

use super::order::{Order, together};
use super::target::{Target, TargetError};
use super::within;
use crate::domain::ids::{LaneId, PoolId, StreamId, TenantId};
use crate::queue::selector::Selector;
use crate::tenant::isolation::TenantScope;

/// Who holds back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// An operator, who may end any pause.
    Operator,
    /// The tenant itself.
    Tenant,
}

/// A row that claimers honour.
#[derive(Debug, Clone, PartialEq, Serialize, FromRow)]
pub struct Block {
    /// `tenant`, `stream`, `mailbox-provider`, `route`, `lane`, or several with `+` between.
    pub scope: String,
    /// Its name; a stream's with its tenant before it.
    pub name: String,
    /// Why.
    pub reason: String,
    /// `operator`, `tenant`, or `health`: too many bounces or complaints (docs/health.md).
    pub holder: String,
    /// Who did it, as they said.
    pub actor: Option<String>,
    /// Since when.
    pub since: DateTime<Utc>,
    /// Seconds until it ends by itself; absent: not before somebody ends it.
    pub seconds_left: Option<f64>,
}

impl Block {
    /// Whether it holds back the lane of these names. What is not known here by name is told
    /// by the daemons, which honour every row.
    pub fn holds(&self, tenant: &str, stream: &str, mailbox_provider: &str, lane: i32) -> bool {
        let of_stream = |name: &str| {
            name.strip_prefix(tenant).and_then(|rest| rest.strip_prefix('/')) == Some(stream)
        };
        // All that is named must fit.
        self.scope.split('+').zip(self.name.split(" + ")).all(|(kind, name)| match kind {
            "tenant" => name == tenant,
            "stream" => of_stream(name),
            "mailbox-provider" => name == mailbox_provider,
            "lane" => name == lane.to_string(),
            _ => false,
        })
    }
}

/// Why nothing was held back or let go.
#[derive(Debug, thiserror::Error)]
pub enum PauseError {
    /// There is nothing of this name.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The tenant is suspended.
    #[error(
        "the tenant is suspended, which holds back all its mail: see `postrider tenant activate`"
    )]
    Suspended,
    /// An operator holds it back, and a tenant asked.
    #[error("held back by the operator: {reason}")]
    HeldByOperator {
        /// Why, as the operator said.
        reason: String,
    },
    /// The database did not do it.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Holds back for `seconds`, or until [`resume`]. Pausing again replaces reason and time.
pub async fn pause(
    pool: &PgPool,
    target: &Target,
    seconds: Option<f64>,
    order: Order,
) -> Result<(), PauseError> {
    let target = target.clone();
    together(pool, move |conn| {
        async move {
            let selector = target.selector(conn).await?;
            set(conn, &selector, Holder::Operator, seconds, &order).await
        }
        .boxed()
    })
    .await
}

/// The same for a tenant's own stream; `pool` acts as the API.
pub async fn pause_own(
    pool: &PgPool,
    scope: TenantScope,
    stream: String,
    seconds: Option<f64>,
    order: Order,
) -> Result<(), PauseError> {
    own(pool, scope, stream, move |conn, selector| {
        async move { set(conn, &selector, Holder::Tenant, seconds, &order).await }.boxed()
    })
    .await
}

/// Lets go. Says whether anything was held back.
pub async fn resume(pool: &PgPool, target: &Target, order: Order) -> Result<bool, PauseError> {
    let target = target.clone();
    together(pool, move |conn| {
        async move {
            let selector = target.selector(conn).await?;
            end(conn, &selector, Holder::Operator, &order).await
        }
        .boxed()
    })
    .await
}

/// The same for a tenant's own stream; `pool` acts as the API.
pub async fn resume_own(
    pool: &PgPool,
    scope: TenantScope,
    stream: String,
    order: Order,
) -> Result<bool, PauseError> {
    own(pool, scope, stream, move |conn, selector| {
        async move { end(conn, &selector, Holder::Tenant, &order).await }.boxed()
    })
    .await
}

/// What is held back at present; of a tenant: what concerns it.
pub async fn blocks(pool: &PgPool) -> Result<Vec<Block>, sqlx::Error> {
    sqlx::query_as(include_str!("sql/blocks.sql")).fetch_all(pool).await
}

/// What is held back at present and is the tenant's or everybody's.
pub async fn blocks_of(
    pool: &PgPool,
    scope: Option<TenantScope>,
) -> Result<Vec<Block>, sqlx::Error> {
    within(pool, scope, |conn| {
        sqlx::query_as(include_str!("sql/blocks.sql")).fetch_all(conn).boxed()
    })
    .await
}

/// Runs `work` on a tenant's own stream, as the API's role in the tenant's scope.
async fn own<T, F>(
    pool: &PgPool,
    scope: TenantScope,
    stream: String,
    work: F,
) -> Result<T, PauseError>
where
    T: Send + 'static,
    F: for<'c> FnOnce(
            &'c mut PgConnection,
            Selector,
        ) -> futures_util::future::BoxFuture<'c, Result<T, PauseError>>
        + Send
        + 'static,
{
    let target = Target { tenant: Some(scope), stream: Some(stream), ..Target::default() };
    let done: Result<T, PauseError> = scope
        .run(pool, move |conn| {
            async move {
                let selector = match target.selector(&mut *conn).await {
                    Ok(selector) => selector,
                    Err(TargetError::Database(error)) => return Err(error),
                    Err(other) => return Ok(Err(other.into())),
                };
                match work(conn, selector).await {
                    Err(PauseError::Database(error)) => Err(error),
                    other => Ok(other),
                }
            }
            .boxed()
        })
        .await?;
    done
}

async fn set(
    conn: &mut PgConnection,
    selector: &Selector,
    holder: Holder,
    seconds: Option<f64>,
    order: &Order,
) -> Result<(), PauseError> {
    if holder == Holder::Tenant
        && let Some(reason) = held_by_operator(conn, selector).await?
    {
        return Err(PauseError::HeldByOperator { reason });
    }
    let done = sqlx::query(include_str!("sql/pause.sql"))
        .bind(selector.scope())
        .bind(selector.key())
        .bind(seconds)
        .bind(&order.reason)
        .bind(holder.as_str())
        .bind(&order.actor)
        .execute(&mut *conn)
        .await?;
    if done.rows_affected() == 0 {
        return Err(PauseError::Suspended);
    }
    Ok(order.record(conn).await?)
}

async fn end(
    conn: &mut PgConnection,
    selector: &Selector,
    holder: Holder,
    order: &Order,
) -> Result<bool, PauseError> {
    let (held, kept): (bool, Option<String>) = sqlx::query_as(include_str!("sql/resume.sql"))
        .bind(selector.scope())
        .bind(selector.key())
        .bind(holder.as_str())
        .bind(selector.tenant.map(TenantId::get))
        .bind(selector.stream.map(StreamId::get))
        .bind(selector.pool.map(PoolId::get))
        .bind(selector.lane.map(LaneId::get))
        .fetch_one(&mut *conn)
        .await?;
    match (kept, holder) {
        (Some(_), Holder::Operator) => Err(PauseError::Suspended),
        (Some(kept), Holder::Tenant) => {
            let reason = kept.split_once(' ').map_or("", |(_, reason)| reason).to_owned();
            Err(PauseError::HeldByOperator { reason })
        }
        (None, _) => {
            order.record(conn).await?;
            Ok(held)
        }
    }
}

/// Why an operator holds it back now, if one does.
async fn held_by_operator(
    conn: &mut PgConnection,
    selector: &Selector,
) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar(
        "select reason from postrider.block
         where scope = $1 and key = $2 and holder <> 'tenant' and until > now()",
    )
    .bind(selector.scope())
    .bind(selector.key())
    .fetch_optional(conn)
    .await
}

impl Holder {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Tenant => "tenant",
        }
    }
}
