//! `postrider key`: the API keys of a tenant.

use clap::Subcommand;

use super::context::Context;
use super::error::CliError;
use super::print::{self, Answer, Table};
use crate::cell::Cell;
use crate::tenant::store;

/// API keys: make, list, revoke
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  postrider key create --tenant shop --name checkout")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a key; it is shown this once
    #[command(after_help = "\
Examples:
  postrider key create --tenant shop --name checkout
  KEY=$(postrider key create --tenant shop --json | jq -r .key)")]
    Create {
        /// The tenant
        #[arg(long)]
        tenant: String,
        /// What to call it in lists
        #[arg(long, default_value = "")]
        name: String,
    },
    /// List a tenant's keys by their prefix
    #[command(after_help = "Example:\n  postrider key list --tenant shop")]
    List {
        /// The tenant
        #[arg(long)]
        tenant: String,
    },
    /// Refuse a key from now on
    #[command(after_help = "Example:\n  postrider key revoke --tenant shop pr_4f8k2m9x")]
    Revoke {
        /// The tenant
        #[arg(long)]
        tenant: String,
        /// Its prefix, as `key list` shows it
        prefix: String,
    },
}

/// Runs the command.
pub async fn run(args: Args, context: &Context) -> Result<Answer, CliError> {
    match args.verb {
        Verb::Create { tenant, name } => {
            let (Cell { pool, .. }, scope) = context.scope_of_tenant(&tenant).await?;
            let key = store::create_key(&pool, scope, &name, context.actor()).await?;
            let words = format!(
                "{}\nKeep it now: it is stored as a hash and not shown again.",
                key.reveal()
            );
            let facts = serde_json::json!({
                "key": key.reveal(), "prefix": key.prefix(), "tenant": tenant, "name": name,
            });
            Answer::new(words, &facts)
        }
        Verb::List { tenant } => {
            let (Cell { pool, .. }, scope) = context.scope_of_tenant(&tenant).await?;
            let keys = store::keys(&pool, scope).await?;
            let mut table = Table::new(
                &["prefix", "name", "since", "revoked"],
                "the tenant has no keys: postrider key create --tenant NAME",
            );
            for key in &keys {
                table.row([
                    key.prefix.clone(),
                    key.name.clone(),
                    print::time(key.created_at),
                    print::or_dash(key.revoked_at.map(print::time)),
                ]);
            }
            Answer::new(table.text(), &keys)
        }
        Verb::Revoke { tenant, prefix } => {
            let (Cell { pool, .. }, scope) = context.scope_of_tenant(&tenant).await?;
            let key = store::revoke_key(&pool, scope, &prefix, context.actor()).await?;
            Answer::new(format!("key {prefix} is refused from now on"), &key)
        }
    }
}
