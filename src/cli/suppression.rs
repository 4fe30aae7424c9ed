//! `postrider suppression`: whom a tenant must not write to.

use std::path::PathBuf;

use clap::Subcommand;

use super::context::Context;
use super::error::CliError;
use super::file;
use super::print::{self, Answer, Table};
use crate::cell::Cell;
use crate::message::address::Address;
use crate::tenant::suppression::{self, Change};

/// Addresses that a tenant must not write to: add, list, remove
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  postrider suppression add --tenant shop ann@example.org")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Add addresses; those already listed keep their first reason
    #[command(after_help = "\
Examples:
  postrider suppression add --tenant shop ann@example.org --reason 'asked by phone'
  postrider suppression add --tenant shop --file addresses.txt")]
    Add {
        /// The tenant
        #[arg(long)]
        tenant: String,
        /// Addresses
        #[arg(required_unless_present = "file")]
        addresses: Vec<String>,
        /// A file with one address a line; - reads standard input
        #[arg(long)]
        file: Option<PathBuf>,
        /// Why
        #[arg(long, default_value = "added by an operator")]
        reason: String,
    },
    /// List a tenant's suppressed addresses by address
    #[command(after_help = "\
Example:
  postrider suppression list --tenant shop --limit 100 --after m@example.org")]
    List {
        /// The tenant
        #[arg(long)]
        tenant: String,
        /// Most rows
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..=100_000))]
        limit: i64,
        /// Only those after this address: the last one of the page before
        #[arg(long, default_value = "")]
        after: String,
    },
    /// Take an address off the list
    #[command(
        after_help = "Example:\n  postrider suppression remove --tenant shop ann@example.org"
    )]
    Remove {
        /// The tenant
        #[arg(long)]
        tenant: String,
        /// The address
        address: String,
    },
}

/// Runs the command.
pub async fn run(args: Args, context: &Context) -> Result<Answer, CliError> {
    match args.verb {
        Verb::Add { tenant, mut addresses, file, reason } => {
            if let Some(path) = file {
                addresses.extend(file::lines(&path)?);
            }
            let addresses = parse(&addresses)?;
            let (Cell { pool, .. }, scope) = context.scope_of_tenant(&tenant).await?;
            let mut added = 0;
            for part in addresses.chunks(ADDRESSES_A_STATEMENT) {
                added += suppression::add(&pool, scope, part, &reason).await?;
            }
            let facts = serde_json::json!({"given": addresses.len(), "added": added});
            Answer::new(format!("{added} added, {} given", addresses.len()), &facts)
        }
        Verb::List { tenant, limit, after } => {
            let (Cell { pool, .. }, scope) = context.scope_of_tenant(&tenant).await?;
            let rows = suppression::list(&pool, scope, &after, limit).await?;
            let mut table = Table::new(&["address", "source", "since", "reason"], "none");
            for row in &rows {
                table.row([
                    row.address.clone(),
                    row.source.clone(),
                    print::time(row.created_at),
                    row.reason.clone(),
                ]);
            }
            Answer::new(table.text(), &rows)
        }
        Verb::Remove { tenant, address } => {
            let address = read(&address)?;
            let (Cell { pool, .. }, scope) = context.scope_of_tenant(&tenant).await?;
            match suppression::remove(&pool, scope, &address).await? {
                Change::Made => {
                    let facts = serde_json::json!({"removed": address.as_str()});
                    Answer::new(format!("{address} may be written to again"), &facts)
                }
                Change::None => Err(CliError::failed(format!(
                    "{address} is not on the list: see `postrider suppression list`"
                ))),
            }
        }
    }
}

/// Bounds the size of one statement.
const ADDRESSES_A_STATEMENT: usize = 10_000;

fn parse(texts: &[String]) -> Result<Vec<Address>, CliError> {
    texts.iter().map(|text| read(text)).collect()
}

fn read(text: &str) -> Result<Address, CliError> {
    Address::try_new(text).map_err(|error| CliError::usage(error.to_string()))
}
