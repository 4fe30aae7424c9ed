//! `postrider migrate`: the database schema.

use clap::Subcommand;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::context::Context;
use super::error::CliError;
use super::print::{Answer, Verdict};
use crate::cell::identity;
use crate::config::Database;
use crate::queue::migrate::{self, SchemaState};

/// Bring the database schema up to date (`up`, also without a word), or show its `status`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Connects as the login itself, which must own the database or be a superuser. Several
may run at once. Every configured cell is migrated and gets its number, or the one that
--cell names. The schema works for this version and the one before it, so migrate
first, then replace the processes one by one.

Examples:
  postrider migrate
  postrider migrate status --json")]
pub struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Apply what is missing
    #[command(after_help = "Example:\n  postrider migrate up --database-url postgres:///postrider")]
    Up,
    /// Show which version the database has; code 1 when it does not fit
    #[command(after_help = "Example:\n  postrider migrate status")]
    Status,
}

/// Runs the command.
pub async fn run(args: Args, context: &Context) -> Result<Answer, CliError> {
    let cells = context.owners()?;
    let verb = args.verb.unwrap_or(Verb::Up);
    if let [only] = &cells[..] {
        let pool = context.owner(only).await?;
        let (words, facts, verdict) = one(&verb, &pool, only, context).await?;
        return Ok(Answer::new(words, &facts)?.with_verdict(verdict));
    }
    let (mut words, mut facts, mut worst) = (Vec::new(), Vec::new(), Verdict::Fine);
    for cell in &cells {
        let (said, mut found, verdict) = match context.owner(cell).await {
            Ok(pool) => one(&verb, &pool, cell, context).await,
            Err(error) => Err(error),
        }
        // One that does not work does not keep the others from being migrated.
        .unwrap_or_else(|error| {
            (error.to_string(), json!({"error": error.to_string()}), Verdict::Bad)
        });
        words.push(format!("cell {}: {said}", cell.cell));
        found["cell"] = json!(cell.cell);
        facts.push(found);
        if verdict == Verdict::Bad {
            worst = Verdict::Bad;
        }
    }
    Ok(Answer::new(words.join("\n"), &facts)?.with_verdict(worst))
}

async fn one(
    verb: &Verb,
    pool: &PgPool,
    cell: &Database,
    context: &Context,
) -> Result<(String, Value, Verdict), CliError> {
    match verb {
        Verb::Up => {
            let (before, after) = migrate::up(pool).await.map_err(refused)?;
            if context.is_configured() {
                identity::init(pool, cell.number, &cell.cell).await?;
            }
            let words = if before == after {
                format!("the schema is at version {after}; there was nothing to do")
            } else {
                format!("the schema is at version {after} (was {before})")
            };
            Ok((words, json!({"before": before, "after": after}), Verdict::Fine))
        }
        Verb::Status => {
            let wanted = migrate::wanted();
            let (found, fits, words) = match migrate::state(pool).await? {
                SchemaState::Current => (wanted, true, "current".to_owned()),
                SchemaState::Newer { found } => {
                    (found, true, "one version newer: works".to_owned())
                }
                SchemaState::Behind { found } => {
                    (found, false, "run: postrider migrate".to_owned())
                }
                SchemaState::TooNew { found } => {
                    (found, false, "too new for this program: install a newer postrider".to_owned())
                }
            };
            let facts = json!({"found": found, "wanted": wanted, "fits": fits});
            let verdict = if fits { Verdict::Fine } else { Verdict::Bad };
            Ok((format!("database {found}, this program {wanted}: {words}"), facts, verdict))
        }
    }
}

fn refused(error: sqlx::migrate::MigrateError) -> CliError {
    use sqlx::migrate::MigrateError::{Execute, ExecuteMigration, VersionMismatch};
    match error {
        Execute(error) => error.into(),
        ExecuteMigration(error, version) => {
            CliError::failed(format!("migration {version}: {}", CliError::from(error)))
        }
        VersionMismatch(version) => CliError::failed(format!(
            "migration {version} was applied in another form: this database was migrated by \
             another build; expected the same text"
        )),
        other => CliError::failed(format!("cannot migrate: {other}")),
    }
}
