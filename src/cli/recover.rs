//! `postrider recover`: after the database was restored from a backup.

use chrono::{DateTime, Utc};
use serde_json::json;

use super::context::Context;
use super::error::CliError;
use super::print::Answer;
use crate::cell::Cell;
use crate::domain::clock::Clock;
use crate::queue::admin::doubt::Run;
use crate::queue::admin::order::Order;
use crate::queue::admin::recover::{self, Held};

/// Hold what may have been sent since a backup was made, before a restored database is used
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Run it after the restore and before any daemon can reach the database. What was due by
--lost-until becomes a dead letter in doubt; nothing of it is sent before somebody decides.

Example:
  postrider recover --lost-until 2026-11-24T12:10:00Z --reason 'disk lost, backup of 12:00'
  postrider doubt list --held
  postrider doubt resolve --all-before 2026-11-24T13:00:00Z --stream bulk --discard --reason …
  postrider doubt resolve --all-before 2026-11-24T13:00:00Z --resend --reason …

docs/runbooks/restore.md has the whole way.")]
pub struct Args {
    /// When the old database was lost: what was due later cannot have been sent [default: now]
    #[arg(long, value_name = "TIME")]
    lost_until: Option<DateTime<Utc>>,
    /// Why: written into the history and the record of actions
    #[arg(long)]
    reason: String,
    /// Say how many it would be and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// Runs the command.
pub async fn run(args: Args, context: &Context) -> Result<Answer, CliError> {
    let reason = args.reason.trim();
    if reason.is_empty() {
        return Err(CliError::usage("--reason: say why, for whoever asks later"));
    }
    let lost_until = args.lost_until.unwrap_or_else(|| Clock::System.now().into());
    let run = if args.dry_run { Run::Dry } else { Run::Real };
    let mut all = Held::default();
    for Cell { pool, name, .. } in context.cells().await? {
        let order = Order {
            actor: context.actor().to_owned(),
            action: "recover",
            target: format!("cell {name}"),
            reason: reason.to_owned(),
            detail: json!({"lost_until": lost_until}),
        };
        let held = recover::hold(&pool, lost_until, order, run).await?;
        all.sessions += held.sessions;
        all.in_hand += held.in_hand;
        all.ready += held.ready;
        all.deferred += held.deferred;
    }
    let would = if args.dry_run { "would be " } else { "" };
    let words = format!(
        "{} {would}held in doubt ({} in hand, {} due, {} due again); {} sessions {would}fenced",
        all.deliveries(),
        all.in_hand,
        all.ready,
        all.deferred,
        all.sessions
    );
    Answer::new(words, &json!({"held": all, "lost_until": lost_until, "dry_run": args.dry_run}))
}
