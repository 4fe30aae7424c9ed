//! Which list a command is about.

use super::prove;
use crate::cli::context::Context;
use crate::cli::error::CliError;
use crate::tenant::suppression::{Keeper, List, Whose};

/// A tenant's list, or the one for all tenants.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct Which {
    /// The tenant
    #[arg(long)]
    tenant: Option<String>,
    /// The list that holds for every tenant
    #[arg(long, visible_alias = "global")]
    everyone: bool,
}

impl Which {
    /// The list; the one for everyone is in each cell, and all are to be the same.
    pub(super) async fn lists(&self, context: &Context) -> Result<Vec<List>, CliError> {
        let keeper = Keeper::new(&context.settings()?.suppression);
        let Some(tenant) = &self.tenant else {
            let mut lists = Vec::new();
            for cell in context.cells().await? {
                prove(&keeper, &cell.pool).await?;
                let whose = Whose::Everyone;
                lists.push(List { pool: cell.pool, whose, keeper: keeper.clone() });
            }
            return Ok(lists);
        };
        let (cell, scope) = context.scope_of_tenant(tenant).await?;
        prove(&keeper, &cell.pool).await?;
        Ok(vec![List { pool: cell.pool, whose: Whose::Tenant(scope), keeper }])
    }

    /// One that may be read in place of all.
    pub(super) async fn list(&self, context: &Context) -> Result<List, CliError> {
        let lists = self.lists(context).await?;
        lists.into_iter().next().ok_or_else(|| CliError::failed("there is no cell"))
    }
}
