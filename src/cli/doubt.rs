//! `postrider doubt`: deliveries that may have been sent without an outcome.

use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::Subcommand;
use serde_json::json;

use super::context::{Context, scope_of};
use super::error::CliError;
use super::print::{self, Answer, Table};
use crate::cell::Cell;
use crate::domain::ids::DeliveryId;
use crate::queue::admin::doubt::{self, Doubt, Listing, Run};
use crate::queue::doubt::{Doubts, Resolution};
use crate::tenant::isolation::TenantScope;

/// Deliveries that may have been sent although no outcome is recorded: list, resolve
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  postrider doubt list --tenant shop")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List deliveries in doubt with their evidence: those held, and those sent again
    #[command(after_help = "\
Examples:
  postrider doubt list --held
  postrider doubt list --tenant shop --stream otp --json")]
    List {
        /// One tenant's only
        #[arg(long)]
        tenant: Option<String>,
        /// Those of streams of this name
        #[arg(long)]
        stream: Option<String>,
        /// Only those that wait for a decision
        #[arg(long)]
        held: bool,
        /// Most rows
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=100_000))]
        limit: i64,
        /// Only those after this delivery: the last one of the page before
        #[arg(long)]
        after: Option<DeliveryId>,
    },
    /// Decide about deliveries in doubt
    #[command(after_help = "\
What is held is a dead letter; what waits to be sent again can be named too. What is
in a worker's hands, or has ended, is left alone.

Examples:
  postrider doubt resolve dlv_0R8KQW3YD4X1M --delivered --reason 'seen in the log of the receiver'
  postrider doubt resolve --all-before 2026-11-24T12:00:00Z --tenant shop --resend --reason 'outage' --dry-run")]
    Resolve(Box<Resolve>),
}

#[derive(Debug, clap::Args)]
struct Resolve {
    /// These deliveries
    #[arg(required_unless_present = "all_before")]
    deliveries: Vec<DeliveryId>,
    /// All that have been held since before this moment (RFC 3339)
    #[arg(long, value_name = "TIME", conflicts_with = "deliveries")]
    all_before: Option<DateTime<Utc>>,
    /// Only if they are this tenant's
    #[arg(long)]
    tenant: Option<String>,
    /// Only those of streams of this name
    #[arg(long)]
    stream: Option<String>,
    #[command(flatten)]
    how: How,
    /// Why: written into the history and the record of actions
    #[arg(long)]
    reason: String,
    /// Say how many it would be and change nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct How {
    /// They were delivered
    #[arg(long)]
    delivered: bool,
    /// Send them again: the same Message-ID, a duplicate is possible
    #[arg(long)]
    resend: bool,
    /// Give them up: they end as cancelled
    #[arg(long)]
    discard: bool,
}

/// Deliveries decided about in one transaction, and the rest after it.
const BATCH: i64 = 1_000;
const PAUSE: Duration = Duration::from_millis(50);

/// Runs the command.
pub async fn run(args: Args, context: &Context) -> Result<Answer, CliError> {
    match args.verb {
        Verb::List { tenant, stream, held, limit, after } => {
            let mut doubts = Vec::new();
            for Cell { pool, .. } in context.cells_of(tenant.as_deref()).await? {
                let scope = scope_of(&pool, tenant.as_deref()).await?;
                let stream = stream.clone();
                let listing = Listing { scope, stream, held_only: held, after, most: limit };
                doubts.extend(doubt::list(&pool, &listing).await?);
            }
            // Of every cell the first; of all together those that come first.
            doubts.sort_by_key(|doubt| doubt.delivery);
            doubts.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
            Answer::new(table(&doubts).text(), &doubts)
        }
        Verb::Resolve(what) => resolve(*what, context).await,
    }
}

async fn resolve(what: Resolve, context: &Context) -> Result<Answer, CliError> {
    let Resolve { mut deliveries, all_before, tenant, stream, how, reason, dry_run } = what;
    if reason.trim().is_empty() {
        return Err(CliError::usage("--reason: say why, for whoever asks later"));
    }
    deliveries.sort_unstable();
    deliveries.dedup();
    let named = deliveries.len() as i64;
    let (resolution, run) = (how.resolution(), if dry_run { Run::Dry } else { Run::Real });
    // Named ones are one batch; a command line holds only so many.
    let most = BATCH.max(named);
    let (mut done, mut kept) = (0, 0);
    for Cell { pool, .. } in context.cells_of(tenant.as_deref()).await? {
        let scope = scope_of(&pool, tenant.as_deref()).await?;
        let which = Doubts {
            tenant: scope.map(TenantScope::tenant),
            stream: stream.clone(),
            deliveries: (named > 0).then(|| deliveries.clone()),
            held_before: all_before,
        };
        let mut after = None;
        loop {
            let by = (context.actor(), reason.trim());
            let batch = doubt::decide(&pool, &which, after, most, resolution, by, run).await?;
            done += batch.done;
            kept += batch.picked - batch.done;
            if batch.picked < most || batch.last.is_none() {
                break;
            }
            after = batch.last;
            print::progress(&format!("{done} …"));
            tokio::time::sleep(PAUSE).await;
        }
    }
    if !dry_run && done < named {
        return Err(CliError::failed(format!(
            "{done} of {named} resolved as {}; the others are not in doubt, in a worker's hands, \
             or were called back (see `postrider doubt list`)",
            resolution.as_str()
        )));
    }
    let would = if dry_run { "would be " } else { "" };
    let stay = match kept {
        0 => String::new(),
        _ => format!(
            "; {kept} stay: their message was called back or is no longer kept (discard them)"
        ),
    };
    let words = format!("{done} {would}resolved as {}{stay}", resolution.as_str());
    let facts = json!({
        "resolution": resolution.as_str(), "resolved": done, "kept": kept, "dry_run": dry_run,
    });
    Answer::new(words, &facts)
}

impl How {
    const fn resolution(&self) -> Resolution {
        if self.delivered {
            Resolution::Delivered
        } else if self.resend {
            Resolution::Resend
        } else {
            Resolution::Discard
        }
    }
}

fn table(doubts: &[Doubt]) -> Table {
    let titles =
        ["delivery", "since", "tenant", "stream", "state", "recipient", "evidence", "learned late"];
    let mut table = Table::new(&titles, "nothing is in doubt");
    for doubt in doubts {
        table.row([
            doubt.delivery.to_string(),
            print::time(doubt.since),
            doubt.tenant.clone(),
            print::or_dash(doubt.stream.as_ref()),
            doubt.state.clone(),
            print::or_dash(doubt.recipient.as_ref()),
            summary(doubt),
            print::or_dash(
                doubt
                    .late
                    .as_ref()
                    .map(|late| format!("{} {}", late.outcome, print::time(late.at))),
            ),
        ]);
    }
    table
}

/// The evidence in a few words: what happened, by which worker, to which host.
fn summary(doubt: &Doubt) -> String {
    let said = |key: &str| {
        let value = doubt.evidence.as_ref()?.get(key)?;
        Some(value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned))
    };
    let parts = [
        said("cause").or_else(|| said("reply")),
        said("worker").map(|worker| format!("worker {worker}")),
        said("session").map(|session| format!("session {session}")),
        said("intended_at").map(|at| format!("intent {at}")),
        said("host").map(|host| format!("host {host}")),
        Some(format!("attempt {}", doubt.attempt)),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    use crate::domain::ids::MessageId;

    #[test]
    fn evidence_is_summed_up() {
        let mut doubt = Doubt {
            delivery: DeliveryId::new(1),
            message: MessageId::new(2),
            tenant: "shop".into(),
            stream: None,
            recipient: None,
            state: "held".into(),
            since: DateTime::UNIX_EPOCH,
            attempt: 2,
            evidence: Some(json!({"cause": "timed out", "worker": "a", "session": 7})),
            late: None,
        };
        assert_eq!(summary(&doubt), "timed out, worker a, session 7, attempt 2");
        doubt.evidence = Some(Value::Null);
        assert_eq!(summary(&doubt), "attempt 2");
    }
}
