//! Taking mail by another route for a while, whatever the rules say.
//!
//! A detour is a row, however much it covers. The claimers take it over within a second; what
//! is in hand goes on as it began. It ends when its time is over.

use futures_util::FutureExt;
use serde::Serialize;
use sqlx::{FromRow, PgPool};

use super::order::{Order, together};
use super::target::{Target, TargetError};
use super::within;
use crate::tenant::isolation::TenantScope;

/// What takes another route now.
#[derive(Debug, Clone, PartialEq, Serialize, FromRow)]
pub struct Detour {
    /// `tenant`, `stream`, `mailbox-provider`, `route`, `lane`, or several with `+` between.
    pub scope: String,
    /// Its name; a stream's with its tenant before it.
    pub name: String,
    /// The route it takes.
    pub route: String,
    /// Why.
    pub reason: String,
    /// Who did it, as they said.
    pub actor: String,
    /// Seconds until it ends by itself.
    pub seconds_left: f64,
}

/// Sends everything of the target by `route` for `seconds`. Doing so again replaces all of it.
/// The caller has made sure that there is such a route.
pub async fn begin(
    pool: &PgPool,
    target: &Target,
    route: String,
    seconds: f64,
    order: Order,
) -> Result<(), TargetError> {
    let target = target.clone();
    together(pool, move |conn| {
        async move {
            let selector = target.selector(conn).await?;
            sqlx::query(include_str!("sql/detour.sql"))
                .bind(selector.scope())
                .bind(selector.key())
                .bind(route)
                .bind(seconds)
                .bind(&order.reason)
                .bind(&order.actor)
                .execute(&mut *conn)
                .await?;
            Ok(order.record(conn).await?)
        }
        .boxed()
    })
    .await
}

/// Ends it before its time. Says whether there was one.
pub async fn back(pool: &PgPool, target: &Target, order: Order) -> Result<bool, TargetError> {
    let target = target.clone();
    together(pool, move |conn| {
        async move {
            let selector = target.selector(conn).await?;
            let gone: Option<bool> = sqlx::query_scalar(
                "delete from postrider.route_override where scope = $1 and key = $2 returning until > now()",
            )
            .bind(selector.scope())
            .bind(selector.key())
            .fetch_optional(&mut *conn)
            .await?;
            order.record(conn).await?;
            Ok(gone.unwrap_or(false))
        }
        .boxed()
    })
    .await
}

/// What takes another route now and is the tenant's or everybody's.
pub async fn open(pool: &PgPool, scope: Option<TenantScope>) -> Result<Vec<Detour>, sqlx::Error> {
    within(pool, scope, |conn| {
        sqlx::query_as(include_str!("sql/detours.sql")).fetch_all(conn).boxed()
    })
    .await
}
