//! `postrider cell`: the databases of this installation.

use clap::Subcommand;
use serde::Serialize;

use super::context::Context;
use super::error::CliError;
use super::print::{self, Answer, Table, Verdict};
use crate::cell::identity::{self, Identity};
use crate::cell::{Cell, directory};
use crate::queue::migrate::{self, SchemaState};

/// Cells: the databases over which tenants are spread
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A cell is the whole schema in one database. [database] is the home cell, each [[cell]] another.

Example, for a new one after it was added to the configuration:
  postrider migrate --cell b
  postrider cell status
  postrider tenant create shop --cell b")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the configured cells and how many tenants live in each
    #[command(after_help = "Example:\n  postrider cell list --json")]
    List,
    /// Show whether each cell answers, its schema fits, and it is the one configured; code 1 if not
    #[command(after_help = "Example:\n  postrider cell status")]
    Status,
    /// Give a cell's database its number and name, once: ids carry the number
    #[command(after_help = "\
`postrider migrate` does the same from the configuration. Refused once ids were given out
under another number. Connects as the login itself, which must own the schema.

Examples:
  postrider cell init --cell b
  postrider cell init --number 3 --name b --database-url postgres:///postrider_b")]
    Init {
        /// The number, 0 to 63 (else as configured)
        #[arg(long, requires = "name", value_parser = clap::value_parser!(u8).range(0..=63))]
        number: Option<u8>,
        /// The name (else as configured)
        #[arg(long, requires = "number")]
        name: Option<String>,
    },
}

/// What is known of one cell.
#[derive(Debug, Serialize)]
struct Status {
    name: String,
    number: u8,
    fits: bool,
    said: String,
    #[serde(flatten)]
    identity: Option<Found>,
}

#[derive(Debug, Serialize)]
struct Found {
    database_number: i16,
    tenants: i64,
    moving: i64,
}

/// Runs the command.
pub async fn run(args: Args, context: &Context) -> Result<Answer, CliError> {
    match args.verb {
        Verb::List => list(context).await,
        Verb::Status => status(context).await,
        Verb::Init { number, name } => {
            let cell = context.owner_of_chosen_cell().await?;
            let number = number.unwrap_or_else(|| cell.number.get());
            let name = name.unwrap_or_else(|| cell.name.to_string());
            identity::init(&cell.pool, number, &name).await?;
            let facts = serde_json::json!({"number": number, "name": name});
            Answer::new(format!("this database is cell {name}, number {number}"), &facts)
        }
    }
}

async fn list(context: &Context) -> Result<Answer, CliError> {
    let cells = context.cells().await?;
    let names = match cells.first() {
        Some(home) => directory::counts(&home.pool).await.unwrap_or_default(),
        None => std::collections::BTreeMap::new(),
    };
    let mut table = Table::new(&["cell", "number", "tenants", "moving", "in directory"], "");
    let mut facts = Vec::new();
    for cell in &cells {
        let found = identity::of(&cell.pool).await.ok();
        let count = |of: fn(&Identity) -> i64| print::or_dash(found.as_ref().map(of));
        let listed = names.get(&cell.number.get()).copied().unwrap_or(0);
        table.row([
            cell.name.to_string(),
            cell.number.get().to_string(),
            count(|found| found.tenants),
            count(|found| found.moving),
            listed.to_string(),
        ]);
        facts.push(serde_json::json!({
            "name": &*cell.name, "number": cell.number, "in_directory": listed,
            "tenants": found.as_ref().map(|found| found.tenants),
            "moving": found.as_ref().map(|found| found.moving),
        }));
    }
    Answer::new(table.text(), &facts)
}

async fn status(context: &Context) -> Result<Answer, CliError> {
    let mut all = Vec::new();
    for cell in context.cells().await? {
        all.push(look(&cell).await);
    }
    let mut table = Table::new(&["cell", "number", "fits", "what"], "");
    for one in &all {
        let fits = if one.fits { "yes" } else { "no" };
        table.row([one.name.clone(), one.number.to_string(), fits.to_owned(), one.said.clone()]);
    }
    let verdict = if all.iter().all(|one| one.fits) { Verdict::Fine } else { Verdict::Bad };
    Ok(Answer::new(table.text(), &all)?.with_verdict(verdict))
}

async fn look(cell: &Cell) -> Status {
    let mut status = Status {
        name: cell.name.to_string(),
        number: cell.number.get(),
        fits: false,
        said: String::new(),
        identity: None,
    };
    match migrate::state(&cell.pool).await {
        Ok(SchemaState::Current | SchemaState::Newer { .. }) => {}
        Ok(SchemaState::Behind { found }) => {
            status.said =
                format!("schema version {found}: run: postrider migrate --cell {}", cell.name);
            return status;
        }
        Ok(SchemaState::TooNew { found }) => {
            status.said = format!("schema version {found}: install a newer postrider");
            return status;
        }
        Err(error) => {
            status.said = format!("does not answer: {error}");
            return status;
        }
    }
    match identity::of(&cell.pool).await {
        Ok(found) => {
            status.fits = found.number == i16::from(cell.number.get());
            status.said = if status.fits {
                format!("{} tenants, {} on the move", found.tenants, found.moving)
            } else {
                format!("its database is cell number {}: correct the configuration", found.number)
            };
            status.identity = Some(Found {
                database_number: found.number,
                tenants: found.tenants,
                moving: found.moving,
            });
        }
        Err(error) => status.said = format!("does not answer: {error}"),
    }
    status
}
