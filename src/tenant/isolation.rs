//! [`TenantScope`]: the value that every query on a tenant's rows must be given.

use futures_util::future::BoxFuture;
use sqlx::{PgConnection, PgPool};

use crate::domain::ids::TenantId;

/// The right to read and write one tenant's rows, and nobody else's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TenantScope {
    tenant: TenantId,
}

impl TenantScope {
    pub(super) const fn new(tenant: TenantId) -> Self {
        Self { tenant }
    }

    /// Whose rows.
    pub const fn tenant(self) -> TenantId {
        self.tenant
    }

    /// Runs `work` in one transaction that sees this tenant's rows only, as the role
    /// `postrider_api` with `postrider.tenant` set for the transaction.
    ///
    /// The transaction runs in a task of its own that is never aborted: dropping
    /// the caller cannot leave a connection inside a transaction (sqlx 0.9.0 loses
    /// later writes on such a connection; docs/adr/0005).
    pub async fn run<T, F>(self, pool: &PgPool, work: F) -> Result<T, sqlx::Error>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, sqlx::Error>>
            + Send
            + 'static,
    {
        const ENTER: &str = "select set_config('postrider.tenant', $1, true), set_config('role', 'postrider_api', true)";
        transaction(pool, ENTER, self.tenant.get().to_string(), work).await
    }

    /// The same for what only an operator may do (keys, domains, dead letters): the
    /// connection keeps its role, which must be the operator's, and its policy
    /// shows it the rows of the named tenant only.
    pub async fn operate<T, F>(self, pool: &PgPool, work: F) -> Result<T, sqlx::Error>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, sqlx::Error>>
            + Send
            + 'static,
    {
        let tenant = self.tenant.get().to_string();
        transaction(pool, "select set_config('postrider.tenant', $1, true)", tenant, work).await
    }
}

/// The same for what is no single tenant's: the connection keeps its role and acts for nobody.
/// Tenants' rows are seen only by roles that may see all.
pub(super) async fn for_nobody<T, F>(pool: &PgPool, work: F) -> Result<T, sqlx::Error>
where
    T: Send + 'static,
    F: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, sqlx::Error>>
        + Send
        + 'static,
{
    let enter = "select set_config('postrider.tenant', $1, true)";
    transaction(pool, enter, String::new(), work).await
}

async fn transaction<T, F>(
    pool: &PgPool,
    enter: &'static str,
    tenant: String,
    work: F,
) -> Result<T, sqlx::Error>
where
    T: Send + 'static,
    F: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, sqlx::Error>>
        + Send
        + 'static,
{
    let pool = pool.clone();
    let transaction = tokio::spawn(async move {
        let mut tx = pool.begin().await?;
        sqlx::query(enter).bind(tenant).execute(&mut *tx).await?;
        let value = work(&mut tx).await?;
        tx.commit().await?;
        Ok(value)
    });
    transaction.await.map_err(|error| sqlx::Error::Protocol(error.to_string()))?
}
