//! `postrider migrate`: the database schema.

use clap::Subcommand;

use super::context::Context;
use super::error::CliError;
use super::print::{Answer, Verdict};
use crate::queue::migrate::{self, SchemaState};

/// Bring the database schema up to date (`up`, also without a word), or show its `status`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Connects as the login itself, which must own the database or be a superuser. Several
may run at once. The schema works for this version and the one before it, so migrate
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
    let pool = context.owner().await?;
    match args.verb.unwrap_or(Verb::Up) {
        Verb::Up => {
            let (before, after) = migrate::up(&pool).await.map_err(refused)?;
            let words = if before == after {
                format!("the schema is at version {after}; there was nothing to do")
            } else {
                format!("the schema is at version {after} (was {before})")
            };
            Answer::new(words, &serde_json::json!({"before": before, "after": after}))
        }
        Verb::Status => {
            let wanted = migrate::wanted();
            let (found, fits, words) = match migrate::state(&pool).await? {
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
            let facts = serde_json::json!({"found": found, "wanted": wanted, "fits": fits});
            let verdict = if fits { Verdict::Fine } else { Verdict::Bad };
            let text = format!("database {found}, this program {wanted}: {words}");
            Ok(Answer::new(text, &facts)?.with_verdict(verdict))
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
