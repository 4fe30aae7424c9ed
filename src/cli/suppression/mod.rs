//! `postrider suppression`: whom not to write to, for one tenant or for all.

mod entries;
mod file;
mod which;

use clap::Subcommand;

use super::context::Context;
use super::error::CliError;
use super::print::{self, Answer};
use crate::tenant::suppression::{Keeper, Listed, rehash};

/// Whom not to write to: add, remove, show, list, import, export, rehash
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  postrider suppression add --tenant shop ann@example.org")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Put addresses or domains on the list; those already there keep their first reason
    #[command(after_help = "\
Examples:
  postrider suppression add --tenant shop ann@example.org --reason 'asked by phone'
  postrider suppression add --tenant shop --stream news --for 90d ann@example.org
  postrider suppression add --everyone @example.org --reason 'no mail there'
  postrider suppression add --tenant shop --file addresses.txt")]
    Add(entries::Add),
    /// Take an address or a domain off the list; the past keeps who did it and why
    #[command(after_help = "\
Examples:
  postrider suppression remove --tenant shop ann@example.org --reason 'asked for it back'
  postrider suppression remove --tenant shop ann@example.org --forget")]
    Remove(entries::Remove),
    /// What is known of an address or a domain: entries now and before
    #[command(after_help = "Example:\n  postrider suppression show --tenant shop ann@example.org")]
    Show(entries::Show),
    /// List the entries by address
    #[command(after_help = "\
Example:
  postrider suppression list --tenant shop --limit 100 --after m@example.org")]
    List(entries::Page),
    /// Put the lines of a file on the list: CSV with a header, or JSON lines
    #[command(after_help = "\
The column with the address is called email, address or recipient; reason, stream and expires_at are
read where they are there, other columns are passed over. Exit code 1 where lines were refused.

Examples:
  postrider suppression import --tenant shop suppressions.csv
  postrider suppression import --tenant shop --whole - <suppressions.ndjson")]
    Import(file::Import),
    /// Write the list to a file, or to standard output
    #[command(after_help = "\
Example:
  postrider suppression export --tenant shop --out suppressions.csv")]
    Export(file::Export),
    /// Bring what is stored into the form that the configuration says now, in all lists
    #[command(after_help = "\
To be run once after suppression.hashed was turned on and every process was restarted. It may be broken
off and repeated; mail goes on meanwhile, and is checked against both forms.

Example:
  postrider suppression rehash")]
    Rehash,
}

/// Runs the command.
pub async fn run(args: Args, context: &Context) -> Result<Answer, CliError> {
    match args.verb {
        Verb::Add(add) => entries::add(add, context).await,
        Verb::Remove(remove) => entries::remove(&remove, context).await,
        Verb::Show(show) => entries::show(&show, context).await,
        Verb::List(page) => entries::list(&page, context).await,
        Verb::Import(import) => file::import(&import, context).await,
        Verb::Export(export) => file::export(export, context).await,
        Verb::Rehash => rehash_all(context).await,
    }
}

async fn rehash_all(context: &Context) -> Result<Answer, CliError> {
    let keeper = Keeper::new(&context.settings()?.suppression);
    let (mut seen, mut changed) = (0, 0);
    for cell in context.cells().await? {
        prove(&keeper, &cell.pool).await?;
        let name = cell.name.clone();
        let done = rehash(&cell.pool, &keeper, |so_far| {
            print::progress(&format!(
                "cell {name}: {} looked at, {} changed",
                so_far.seen, so_far.changed
            ));
        })
        .await?;
        seen += done.seen;
        changed += done.changed;
    }
    let facts = serde_json::json!({"seen": seen, "changed": changed});
    Answer::new(format!("{seen} looked at, {changed} changed"), &facts)
}

/// With another key than the list's nothing would be found, and what is added would not be.
async fn prove(keeper: &Keeper, pool: &sqlx::PgPool) -> Result<(), CliError> {
    keeper.prove(pool).await.map_err(|error| CliError::failed(error.to_string()))
}

/// A row of a table of entries.
fn row(one: &Listed) -> [String; 6] {
    [
        one.address.clone(),
        one.stream.clone().unwrap_or_else(|| "all".to_owned()),
        one.source.clone(),
        print::time(one.created_at),
        one.expires_at.map_or_else(|| "for ever".to_owned(), print::time),
        one.reason.clone(),
    ]
}

const TITLES: [&str; 6] = ["address", "stream", "source", "since", "until", "reason"];
