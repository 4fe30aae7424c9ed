//! `postrider queue`: what waits, what became of it, and holding it back.

use clap::Subcommand;
use sqlx::PgPool;

use super::context::Context;
use super::error::CliError;
use super::export;
use super::order;
use super::print::{self, Answer, Table, Verdict};
use super::show;
use crate::cell::Cell;
use crate::domain::ids::{DeliveryId, MessageId};
use crate::queue::admin::action::{self, Action};
use crate::queue::admin::cancel::{self, Cancellation};
use crate::queue::admin::detour::{self, Detour};
use crate::queue::admin::overview::{self, LaneDepth, MOST};
use crate::queue::admin::pause::{self, Block};
use crate::queue::enqueue::{Enqueue, EnqueueError};
use crate::tenant::isolation::TenantScope;

/// The queue: status, show, pause, resume, cancel, move, export
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  postrider queue status --tenant shop")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show what waits, by tenant, mailbox provider and stream, what is held back, and who works
    ///
    /// Counts are bounded so that asking stays cheap: at most 100000 ready deliveries per line
    /// (then marked +), and the first 100000 of what is deferred, in hand, or dead.
    #[command(
        after_help = "Example:\n  postrider queue status --json | jq '.lanes[] | select(.ready > 0)'"
    )]
    Status {
        /// One tenant's only
        #[arg(long)]
        tenant: Option<String>,
    },
    /// Show what became of a message or of one delivery, with every attempt
    #[command(after_help = "\
Examples:
  postrider queue show msg_0R8KQW3YD4X1M
  postrider queue show dlv_0R8KQW3YD4X2N --tenant shop")]
    Show {
        /// A message (msg_…) or a delivery (dlv_…)
        id: Subject,
        /// Only if it is this tenant's
        #[arg(long)]
        tenant: Option<String>,
    },
    /// Hold mail back: what is in hand goes on, nothing new starts
    #[command(after_help = "\
Examples:
  postrider queue pause --tenant shop --reason 'complaints rose' --for 2h
  postrider queue pause --tenant shop --stream spring-campaign --reason 'wrong prices'
  postrider queue pause --tenant shop --mailbox-provider google --reason 'warming up'
  postrider queue pause --mailbox-provider google --reason 'blocked us' --for 30m
  postrider queue pause --route smarthost --reason 'it is being repaired' --dry-run")]
    Pause(order::Pause),
    /// Let mail go again that was held back
    #[command(
        after_help = "Example:\n  postrider queue resume --tenant shop --stream spring-campaign"
    )]
    Resume(order::Resume),
    /// Call back a message, or all that waits in lanes: what is in hand may still go out, nothing
    /// new starts
    ///
    /// Of lanes everything is called back that was accepted until now; what is submitted after
    /// the command is not touched.
    #[command(after_help = "\
Examples:
  postrider queue cancel msg_0R8KQW3YD4X1M
  postrider queue cancel --tenant shop --stream spring-campaign --reason 'wrong prices' --dry-run
  postrider queue cancel --tenant shop --stream spring-campaign --reason 'wrong prices'")]
    Cancel {
        /// The message; with --tenant only if it is this tenant's
        message: Option<MessageId>,
        #[command(flatten)]
        what: order::Recall,
    },
    /// Take mail elsewhere: into another stream, or by another route for a while
    #[command(after_help = "\
Examples:
  postrider queue move --tenant shop --stream spring --to-stream bulk --reason 'not urgent'
  postrider queue move --route direct --to-route smarthost --for 2h --reason 'our address is listed'
  postrider queue move --route direct --back")]
    Move(order::Move),
    /// Write a day's attempts into a file, before they are dropped
    ///
    /// Days are kept for queue.history_retention.
    #[command(
        after_help = "Example:\n  postrider queue export --day 2026-11-24 --out attempts-2026-11-24.ndjson"
    )]
    Export(export::Args),
}

/// What `show` can show and `why` explain.
#[derive(Debug, Clone, Copy)]
pub(super) enum Subject {
    Message(MessageId),
    Delivery(DeliveryId),
}

/// Runs the command.
pub async fn run(args: Args, context: &Context) -> Result<Answer, CliError> {
    args.verb.check()?;
    match args.verb {
        Verb::Status { tenant: Some(name) } => {
            let (cell, scope) = context.scope_of_tenant(&name).await?;
            status(&cell.pool, Some(scope)).await
        }
        Verb::Status { tenant: None } => {
            let cells = context.cells().await?;
            match &cells[..] {
                [only] => status(&only.pool, None).await,
                several => status_of_all(several).await,
            }
        }
        Verb::Show { id: Subject::Message(id), tenant } => {
            let (cell, scope) = context.cell_of_message(id, tenant.as_deref()).await?;
            show::message(context, &cell.pool, scope, id).await
        }
        Verb::Show { id: Subject::Delivery(id), tenant } => {
            let (cell, scope) = context.cell_of_delivery(id, tenant.as_deref()).await?;
            show::delivery(context, &cell.pool, scope, id).await
        }
        Verb::Export(args) => export::run(&args, &context.cells().await?).await,
        Verb::Pause(args) => order::pause(args, context).await,
        Verb::Resume(args) => order::resume(args, context).await,
        Verb::Move(args) => order::relocate(args, context).await,
        Verb::Cancel { message: Some(message), what } => {
            let (cell, scope) = context.cell_of_message(message, what.lanes.tenant()).await?;
            if what.dry_run {
                return show::message(context, &cell.pool, scope, message).await;
            }
            cancel_message(&cell.pool, scope, message, context.actor(), what.reason).await
        }
        Verb::Cancel { message: None, what } => order::cancel(what, context).await,
    }
}

impl Verb {
    /// Whether the arguments make sense together; asked before anything else is.
    fn check(&self) -> Result<(), CliError> {
        match self {
            Self::Pause(args) => args.check(),
            Self::Resume(args) => args.check(),
            Self::Move(args) => args.check(),
            Self::Cancel { message: Some(_), what } if what.lanes.is_narrow() => {
                Err(CliError::usage("name a message or lanes, not both"))
            }
            Self::Cancel { message: None, what } => what.check(),
            Self::Status { .. } | Self::Show { .. } | Self::Export(_) | Self::Cancel { .. } => {
                Ok(())
            }
        }
    }
}

async fn cancel_message(
    pool: &PgPool,
    scope: TenantScope,
    message: MessageId,
    actor: &str,
    reason: Option<String>,
) -> Result<Answer, CliError> {
    match Enqueue::new(pool.clone()).cancel(&scope, message).await {
        Ok(()) => {
            let (target, reason) = (message.to_string(), reason.as_deref());
            let detail = serde_json::Value::Null;
            let action = Action { actor, action: "queue cancel", target: &target, reason, detail };
            action::record(&mut *pool.acquire().await?, &action).await?;
            let words = format!(
                "{message} is called back; see `postrider queue show {message}` for what had gone out"
            );
            Answer::new(words, &serde_json::json!({"cancelled": message}))
        }
        Err(EnqueueError::Storage(error)) => Err(error.into()),
        Err(other) => Err(CliError::failed(other.to_string())),
    }
}

async fn status(pool: &PgPool, scope: Option<TenantScope>) -> Result<Answer, CliError> {
    let (text, facts) = standing(pool, scope).await?;
    Answer::new(text, &facts)
}

/// Every cell below its name; one that does not answer does not hide the others.
async fn status_of_all(cells: &[Cell]) -> Result<Answer, CliError> {
    let (mut words, mut facts, mut verdict) = (Vec::new(), Vec::new(), Verdict::Fine);
    for cell in cells {
        let name = &*cell.name;
        match standing(&cell.pool, None).await {
            Ok((text, mut standing)) => {
                words.push(format!("cell {name}\n\n{text}"));
                standing["cell"] = name.into();
                facts.push(standing);
            }
            Err(error) => {
                words.push(format!("cell {name}\n\n{error}"));
                facts.push(serde_json::json!({"cell": name, "error": error.to_string()}));
                verdict = Verdict::Bad;
            }
        }
    }
    Ok(Answer::new(words.join("\n\n"), &facts)?.with_verdict(verdict))
}

async fn standing(
    pool: &PgPool,
    scope: Option<TenantScope>,
) -> Result<(String, serde_json::Value), CliError> {
    let lanes = overview::lanes(pool, scope).await?;
    let blocks = pause::blocks_of(pool, scope).await?;
    let detours = detour::open(pool, scope).await?;
    let cancellations = cancel::open(pool, scope).await?;
    let workers = overview::workers(pool).await?;
    let mut text = lane_table(&lanes).text();
    if !blocks.is_empty() {
        text.push_str("\n\n");
        text.push_str(&block_table(&blocks).text());
    }
    if !detours.is_empty() {
        text.push_str("\n\n");
        text.push_str(&detour_table(&detours).text());
    }
    if !cancellations.is_empty() {
        text.push_str("\n\n");
        text.push_str(&cancellation_table(&cancellations).text());
    }
    text.push_str("\n\n");
    let mut table = Table::new(
        &["worker", "session", "state", "last seen"],
        "no worker is running: start postriderd",
    );
    for worker in &workers {
        table.row([
            worker.worker.clone(),
            worker.session.to_string(),
            worker.state.clone(),
            format!("{} ago", print::seconds(worker.silent_seconds)),
        ]);
    }
    text.push_str(&table.text());
    let facts = serde_json::json!({
        "lanes": lanes, "held_back": blocks, "moved": detours, "called_back": cancellations,
        "workers": workers, "counted_at_most": MOST,
    });
    Ok((text, facts))
}

fn lane_table(lanes: &[LaneDepth]) -> Table {
    let titles = [
        "lane",
        "tenant",
        "mailbox provider",
        "stream",
        "prio",
        "ready",
        "oldest",
        "scheduled",
        "in hand",
        "deferred",
        "next due",
        "dead",
        "held back",
        "waits for",
    ];
    let mut table = Table::new(&titles, "nothing waits");
    for lane in lanes {
        table.row([
            lane.lane.to_string(),
            lane.tenant.clone(),
            lane.mailbox_provider.clone(),
            lane.stream.clone(),
            lane.priority.to_string(),
            format!("{}{}", lane.ready, if lane.more_ready { "+" } else { "" }),
            print::or_dash(lane.oldest_seconds.map(print::seconds)),
            lane.scheduled.to_string(),
            lane.leased.to_string(),
            lane.deferred.to_string(),
            print::or_dash(lane.next_due_seconds.map(print::seconds)),
            lane.dead_letters.to_string(),
            print::or_dash(lane.held_back.as_ref()),
            print::or_dash(lane.waits_for.as_ref()),
        ]);
    }
    table
}

fn block_table(blocks: &[Block]) -> Table {
    let mut table = Table::new(&["held back", "name", "for", "reason"], "");
    for block in blocks {
        table.row([
            block.scope.clone(),
            block.name.clone(),
            block.seconds_left.map_or_else(|| "until resumed".to_owned(), print::seconds),
            block.reason.clone(),
        ]);
    }
    table
}

fn detour_table(detours: &[Detour]) -> Table {
    let mut table = Table::new(&["moved", "name", "to route", "for", "reason"], "");
    for detour in detours {
        table.row([
            detour.scope.clone(),
            detour.name.clone(),
            detour.route.clone(),
            print::seconds(detour.seconds_left),
            detour.reason.clone(),
        ]);
    }
    table
}

fn cancellation_table(cancellations: &[Cancellation]) -> Table {
    let titles = ["called back: lane", "tenant", "mailbox provider", "stream", "asked", "reason"];
    let mut table = Table::new(&titles, "");
    for lane in cancellations {
        table.row([
            lane.lane.to_string(),
            lane.tenant.clone(),
            lane.mailbox_provider.clone(),
            lane.stream.clone(),
            format!("{} ago", print::seconds(lane.asked_seconds)),
            lane.reason.clone(),
        ]);
    }
    table
}

impl std::str::FromStr for Subject {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(id) = text.parse() {
            return Ok(Self::Message(id));
        }
        text.parse().map(Self::Delivery).map_err(|_| {
            "expected a message (msg_ and 13 characters) or a delivery (dlv_ and 13 characters)"
                .to_owned()
        })
    }
}
