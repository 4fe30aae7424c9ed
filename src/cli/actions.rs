//! `postrider actions`: what operators did.

use super::context::Context;
use super::error::CliError;
use super::print::{self, Answer, Table};
use crate::queue::admin::action;

/// Show what operators did: pauses, limits, cancellations, and why
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  postrider actions --limit 20")]
pub struct Args {
    /// Most actions to show, newest first
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=10_000))]
    limit: i64,
}

/// Runs the command.
pub async fn run(args: Args, context: &Context) -> Result<Answer, CliError> {
    let mut actions = Vec::new();
    for cell in context.cells().await? {
        actions.extend(action::latest(&cell.pool, args.limit).await?);
    }
    // Times in RFC 3339 sort as they are written; within a cell the order was right already.
    actions.sort_by(|a, b| b.at.cmp(&a.at));
    actions.truncate(usize::try_from(args.limit).unwrap_or(usize::MAX));
    let mut table =
        Table::new(&["when", "who", "login", "what", "to what", "why"], "nothing was done yet");
    for one in &actions {
        table.row([
            one.at.clone(),
            one.actor.clone(),
            one.login.clone(),
            one.action.clone(),
            one.target.clone(),
            print::or_dash(one.reason.as_ref()),
        ]);
    }
    Answer::new(table.text(), &actions)
}
