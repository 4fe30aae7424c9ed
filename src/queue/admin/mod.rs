//! What operators ask of the queue: how it stands, what to hold back, what to do
//! with dead letters, and whether everything adds up.
//!
//! Every pool here acts as the operator's role. Where a tenant is named, its
//! [`TenantScope`] narrows the statement, and row-level security narrows it again.

pub mod audit;
pub mod cancel;
pub mod dead_letter;
pub mod detour;
pub mod doubt;
pub mod history;
pub mod order;
pub mod overview;
pub mod pause;
pub mod preview;
pub mod recover;
pub mod relocate;
pub mod target;

use futures_util::future::BoxFuture;
use sqlx::{PgConnection, PgPool};

pub use crate::tenant::action;
use crate::tenant::isolation::TenantScope;

/// Runs one statement in the scope of a tenant, or over all of them.
async fn within<T, F>(pool: &PgPool, scope: Option<TenantScope>, work: F) -> Result<T, sqlx::Error>
where
    T: Send + 'static,
    F: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, sqlx::Error>>
        + Send
        + 'static,
{
    match scope {
        Some(scope) => scope.operate(pool, work).await,
        None => work(&mut *pool.acquire().await?).await,
    }
}
