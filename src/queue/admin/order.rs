//! A change that an operator or a tenant orders, with what is recorded of it: both in one
//! transaction, which runs in a task of its own and is never aborted (docs/adr/0005), and
//! the claimers are told at once.

use futures_util::future::BoxFuture;
use sqlx::{PgConnection, PgPool};

use super::action::{self, Action};
use crate::queue::wake;

/// Who ordered what, of what, and why.
#[derive(Debug, Clone)]
pub struct Order {
    /// Who says so.
    pub actor: String,
    /// In the words of the command line: `queue pause`.
    pub action: &'static str,
    /// Of what, in words.
    pub target: String,
    /// Why; empty where nobody asked for a reason.
    pub reason: String,
    /// Whatever else was said.
    pub detail: serde_json::Value,
}

impl Order {
    /// Records the order within the transaction of `conn`, and wakes the claimers when it
    /// commits.
    pub async fn record(&self, conn: &mut PgConnection) -> Result<(), sqlx::Error> {
        let reason = Some(self.reason.as_str()).filter(|reason| !reason.is_empty());
        let action = Action {
            actor: &self.actor,
            action: self.action,
            target: &self.target,
            reason,
            detail: self.detail.clone(),
        };
        action::record(conn, &action).await?;
        wake::announce(conn).await
    }
}

/// Runs `work` in a transaction. Nothing is kept of it when it fails.
pub(super) async fn together<T, E, F>(pool: &PgPool, work: F) -> Result<T, E>
where
    T: Send + 'static,
    E: From<sqlx::Error> + Send + 'static,
    F: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, E>> + Send + 'static,
{
    let pool = pool.clone();
    let transaction = tokio::spawn(async move {
        let mut tx = pool.begin().await?;
        let value = work(&mut tx).await?;
        tx.commit().await?;
        Ok(value)
    });
    transaction.await.map_err(|error| sqlx::Error::Protocol(error.to_string()))?
}
