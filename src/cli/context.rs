//! What every command may need: the settings and a way to the database.

use std::path::PathBuf;

use futures_util::future::BoxFuture;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use super::error::CliError;
use crate::cell::{Cell, find};
use crate::config::load::Loader;
use crate::config::secret::Secret;
use crate::config::{Database, Settings};
use crate::domain::ids::{DeliveryId, MessageId};
use crate::tenant::isolation::TenantScope;
use crate::tenant::store;

/// As whom a command connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// As the operator's role: may change everything but the schema.
    Operator,
    /// The same, with the first connection when something is asked: for one of several cells.
    OperatorWhenAsked,
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
    cell: Option<String>,
    actor: String,
    lent: Lent,
}

impl Context {
    /// `config`, `database_url`, `cell` and `actor` as given on the command line.
    pub fn new(
        config: Option<PathBuf>,
        database_url: Option<String>,
        cell: Option<String>,
        actor: String,
        lent: Lent,
    ) -> Self {
        Self { config, database_url: database_url.map(Secret::new), cell, actor, lent }
    }

    /// Hears when the process is told to stop.
    pub fn shutdown(&self) -> fn() -> CancellationToken {
        self.lent.shutdown
    }

    /// Who acts, for the record.
    pub fn actor(&self) -> &str {
        &self.actor
    }

    /// Where the settings come from.
    pub fn loader(&self) -> Loader {
        Loader::from_process(self.config.as_deref())
    }

    /// The checked settings. A database named on the command line is the only cell.
    pub fn settings(&self) -> Result<Settings, CliError> {
        let mut settings = self.loader().load()?.settings;
        if let Some(url) = &self.database_url {
            settings.database.url = url.clone();
            settings.cells.clear();
        }
        Ok(settings)
    }

    /// A pool that acts as the operator: of the cell named by `--cell`, else the home cell.
    pub async fn operator(&self) -> Result<PgPool, CliError> {
        let settings = self.settings()?;
        let chosen = self.chosen(&settings)?.unwrap_or(&settings.database);
        Ok((self.lent.connect)(chosen.clone(), Access::Operator).await?)
    }

    /// A pool that acts as the operator in the home cell, whatever `--cell` says: what holds
    /// over all cells is kept there.
    pub async fn home(&self) -> Result<PgPool, CliError> {
        let home = self.settings()?.database;
        Ok((self.lent.connect)(home, Access::Operator).await?)
    }

    /// A pool that acts as the operator in the cell where the tenant lives, if one is named.
    pub async fn operator_for(&self, tenant: Option<&str>) -> Result<PgPool, CliError> {
        match tenant {
            Some(tenant) => Ok(self.cell_of_tenant(tenant).await?.pool),
            None => self.operator().await,
        }
    }

    /// A pool that acts as the owner of the schema: of the cell named by `--cell`, else the home
    /// cell.
    pub async fn owner_of_chosen_cell(&self) -> Result<Cell, CliError> {
        let settings = self.settings()?;
        let chosen = self.chosen(&settings)?.unwrap_or(&settings.database);
        let pool = (self.lent.connect)(chosen.clone(), Access::Owner).await?;
        Ok(Cell::new(chosen, pool))
    }

    /// Every cell as configured, or the one named by `--cell`.
    pub fn owners(&self) -> Result<Vec<Database>, CliError> {
        let settings = self.settings()?;
        Ok(match self.chosen(&settings)? {
            Some(one) => vec![one.clone()],
            None => settings.all_cells().cloned().collect(),
        })
    }

    /// Whether the configuration says which cell it is; a database named on the command line is
    /// whatever it says itself.
    pub const fn is_configured(&self) -> bool {
        self.database_url.is_none()
    }

    /// Connects as the owner of a cell's schema.
    pub async fn owner(&self, database: &Database) -> Result<PgPool, CliError> {
        Ok((self.lent.connect)(database.clone(), Access::Owner).await?)
    }

    /// Every cell, the home cell first, or only the one named by `--cell`. With several, one
    /// that does not answer shows itself when it is asked.
    pub async fn cells(&self) -> Result<Vec<Cell>, CliError> {
        let mut cells = self.cells_with(None).await?;
        if let Some(name) = &self.cell {
            cells.retain(|cell| *cell.name == **name);
        }
        Ok(cells)
    }

    /// Every cell, whatever `--cell` says, with another bound for one statement.
    pub async fn cells_with(
        &self,
        longest: Option<std::time::Duration>,
    ) -> Result<Vec<Cell>, CliError> {
        let settings = self.settings()?;
        self.chosen(&settings)?;
        let several = !settings.cells.is_empty();
        let mut cells = Vec::new();
        for database in settings.all_cells() {
            let mut database = database.clone();
            if let Some(longest) = longest {
                database.statement_timeout = longest;
            }
            let access = if several { Access::OperatorWhenAsked } else { Access::Operator };
            let pool = (self.lent.connect)(database.clone(), access).await?;
            cells.push(Cell::new(&database, pool));
        }
        Ok(cells)
    }

    /// The cell of the tenant, or all.
    pub async fn cells_of(&self, tenant: Option<&str>) -> Result<Vec<Cell>, CliError> {
        match tenant {
            Some(tenant) => Ok(vec![self.cell_of_tenant(tenant).await?]),
            None => self.cells().await,
        }
    }

    /// The cell where the tenant of this name lives.
    pub async fn cell_of_tenant(&self, name: &str) -> Result<Cell, CliError> {
        let cells = self.cells().await?;
        let found = find::tenant(&cells, name).await?;
        found.cloned().ok_or_else(|| store::StoreError::NoTenant { name: name.to_owned() }.into())
    }

    /// The cell that has a message, and the scope of its tenant (of the named one, if one is).
    pub async fn cell_of_message(
        &self,
        id: MessageId,
        tenant: Option<&str>,
    ) -> Result<(Cell, TenantScope), CliError> {
        if let Some(name) = tenant {
            return self.scope_of_tenant(name).await;
        }
        let cells = self.cells().await?;
        Self::scoped(find::message(&cells, id).await?, &id.to_string()).await
    }

    /// The cell that has a delivery, and the scope of its tenant (of the named one, if one is).
    pub async fn cell_of_delivery(
        &self,
        id: DeliveryId,
        tenant: Option<&str>,
    ) -> Result<(Cell, TenantScope), CliError> {
        if let Some(name) = tenant {
            return self.scope_of_tenant(name).await;
        }
        let cells = self.cells().await?;
        Self::scoped(find::delivery(&cells, id).await?, &id.to_string()).await
    }

    /// The delivery that a provider took under this id.
    pub async fn delivery_taken_under(&self, id: &str) -> Result<DeliveryId, CliError> {
        let found = find::taken_under(&self.cells().await?, id).await?;
        found.ok_or_else(|| CliError::failed(format!("no provider took a mail under {id:?}")))
    }

    /// The cell and the scope of a tenant.
    pub async fn scope_of_tenant(&self, name: &str) -> Result<(Cell, TenantScope), CliError> {
        let cell = self.cell_of_tenant(name).await?;
        let scope = store::scope(&cell.pool, name).await?;
        Ok((cell, scope))
    }

    async fn scoped(
        found: Option<(&Cell, String)>,
        id: &str,
    ) -> Result<(Cell, TenantScope), CliError> {
        let (cell, tenant) = found.ok_or_else(|| CliError::failed(format!("there is no {id}")))?;
        Ok((cell.clone(), store::scope(&cell.pool, &tenant).await?))
    }

    /// The cell named by `--cell`.
    fn chosen<'s>(&self, settings: &'s Settings) -> Result<Option<&'s Database>, CliError> {
        let Some(name) = &self.cell else { return Ok(None) };
        let found = settings.all_cells().find(|cell| cell.cell == *name);
        found.map(Some).ok_or_else(|| {
            let known: Vec<&str> = settings.all_cells().map(|cell| &*cell.cell).collect();
            CliError::usage(format!("--cell: expected one of {}, found {name:?}", known.join(", ")))
        })
    }
}

/// The scope of the tenant of this name, if one was named.
pub async fn scope_of(pool: &PgPool, name: Option<&str>) -> Result<Option<TenantScope>, CliError> {
    match name {
        Some(name) => Ok(Some(store::scope(pool, name).await?)),
        None => Ok(None),
    }
}
