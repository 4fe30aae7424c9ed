//! What every command may need: the settings and a way to the database.

use std::path::PathBuf;

use futures_util::future::BoxFuture;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use super::error::CliError;
use crate::config::load::Loader;
use crate::config::secret::Secret;
use crate::config::{Database, Settings};
use crate::tenant::isolation::TenantScope;
use crate::tenant::store;

/// As whom a command connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// As the operator's role: may change everything but the schema.
    Operator,
    /// As the login itself, which owns the schema: to migrate.
    Owner,
}

/// What the binary lends the commands, which lie below `boot`.
#[derive(Debug, Clone, Copy)]
pub struct Lent {
    /// How to connect.
    pub connect: Connect,
    /// Cancelled when the process is told to stop.
    pub shutdown: fn() -> CancellationToken,
}

/// How to connect to a database.
pub type Connect = fn(Database, Access) -> BoxFuture<'static, Result<PgPool, sqlx::Error>>;

/// Settings and the way to the database.
#[derive(Debug, Clone)]
pub struct Context {
    config: Option<PathBuf>,
    database_url: Option<Secret>,
    actor: String,
    connect: Connect,
}

impl Context {
    /// `config`, `database_url` and `actor` as given on the command line.
    pub fn new(
        config: Option<PathBuf>,
        database_url: Option<String>,
        actor: String,
        connect: Connect,
    ) -> Self {
        Self { config, database_url: database_url.map(Secret::new), actor, connect }
    }

    /// Who acts, for the record.
    pub fn actor(&self) -> &str {
        &self.actor
    }

    /// Where the settings come from.
    pub fn loader(&self) -> Loader {
        Loader::from_process(self.config.as_deref())
    }

    /// The checked settings.
    pub fn settings(&self) -> Result<Settings, CliError> {
        let mut settings = self.loader().load()?.settings;
        if let Some(url) = &self.database_url {
            settings.database.url = url.clone();
        }
        Ok(settings)
    }

    /// A pool that acts as the operator.
    pub async fn operator(&self) -> Result<PgPool, CliError> {
        self.pool(Access::Operator).await
    }

    /// A pool that acts as the owner of the schema.
    pub async fn owner(&self) -> Result<PgPool, CliError> {
        self.pool(Access::Owner).await
    }

    async fn pool(&self, access: Access) -> Result<PgPool, CliError> {
        Ok((self.connect)(self.settings()?.database, access).await?)
    }
}

/// The scope of the tenant of this name, if one was named.
pub async fn scope_of(pool: &PgPool, name: Option<&str>) -> Result<Option<TenantScope>, CliError> {
    match name {
        Some(name) => Ok(Some(store::scope(pool, name).await?)),
        None => Ok(None),
    }
}
