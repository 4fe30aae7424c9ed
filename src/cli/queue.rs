//! `postrider queue`: what waits, what became of it, and holding it back.

use std::time::Duration;

use clap::Subcommand;
use sqlx::PgPool;

use super::context::Context;
use super::error::CliError;
use super::print::{self, Answer, Table, Verdict};
use super::show;
use crate::cell::Cell;
use crate::config::unit;
use crate::domain::ids::{DeliveryId, MessageId};
use crate::queue::admin::overview::{self, LaneDepth, MOST};
use crate::queue::admin::pause::{self, Block, Target};
use crate::queue::enqueue::{Enqueue, EnqueueError};
use crate::tenant::isolation::TenantScope;
use crate::tenant::store;

/// The queue: status, show, pause, resume, cancel
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
  postrider queue pause --mailbox-provider google --reason 'blocked us' --for 30m")]
    Pause {
        #[command(flatten)]
        what: What,
        /// Why: shown to whoever looks at the queue
        #[arg(long)]
        reason: String,
        /// How long, like 30m, 2h or 1d; without it until `queue resume`
        #[arg(long = "for", value_parser = duration)]
        time: Option<Duration>,
    },
    /// Let mail go again that was held back
    #[command(
        after_help = "Example:\n  postrider queue resume --tenant shop --stream spring-campaign"
    )]
    Resume {
        #[command(flatten)]
        what: What,
    },
    /// Call a message back: what is in hand may still go out, nothing new starts
    #[command(after_help = "Example:\n  postrider queue cancel msg_0R8KQW3YD4X1M")]
    Cancel {
        /// The message
        message: MessageId,
        /// Only if it is this tenant's
        #[arg(long)]
        tenant: Option<String>,
    },
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
struct What {
    /// Everything of a tenant, or of its --stream
    #[arg(long)]
    tenant: Option<String>,
    /// One stream of the tenant
    #[arg(long, requires = "tenant")]
    stream: Option<String>,
    /// All mail to a mailbox provider, of all tenants
    #[arg(long, conflicts_with_all = ["tenant", "stream"])]
    mailbox_provider: Option<String>,
}

/// What `show` can show.
#[derive(Debug, Clone, Copy)]
enum Subject {
    Message(MessageId),
    Delivery(DeliveryId),
}

/// Runs the command.
pub async fn run(args: Args, context: &Context) -> Result<Answer, CliError> {
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
            show::message(&cell.pool, scope, id).await
        }
        Verb::Show { id: Subject::Delivery(id), tenant } => {
            let (cell, scope) = context.cell_of_delivery(id, tenant.as_deref()).await?;
            show::delivery(&cell.pool, scope, id).await
        }
        Verb::Pause { what, reason, time } => {
            for cell in what.cells(context).await? {
                let target = what.target(&cell.pool).await?;
                let seconds = time.map(|time| time.as_secs_f64());
                pause::pause(&cell.pool, &target, &reason, seconds).await?;
            }
            let name = what.name();
            let until = time
                .map_or("until resumed".to_owned(), |time| format!("for {}", unit::written(time)));
            let facts = serde_json::json!({
                "paused": name, "reason": reason, "seconds": time.map(|time| time.as_secs()),
            });
            Answer::new(format!("{name} is held back {until}"), &facts)
        }
        Verb::Resume { what } => {
            let mut held = false;
            for cell in what.cells(context).await? {
                let target = what.target(&cell.pool).await?;
                held |= pause::resume(&cell.pool, &target).await?;
            }
            let name = what.name();
            let words = if held {
                format!("{name} goes on")
            } else {
                format!("{name} was not held back; see `postrider queue status`")
            };
            Answer::new(words, &serde_json::json!({"resumed": name, "was_paused": held}))
        }
        Verb::Cancel { message, tenant } => {
            let (cell, scope) = context.cell_of_message(message, tenant.as_deref()).await?;
            match Enqueue::new(cell.pool).cancel(&scope, message).await {
                Ok(()) => {
                    let words = format!(
                        "{message} is called back; see `postrider queue show {message}` for what \
                         had gone out"
                    );
                    Answer::new(words, &serde_json::json!({"cancelled": message}))
                }
                Err(EnqueueError::Storage(error)) => Err(error.into()),
                Err(other) => Err(CliError::failed(other.to_string())),
            }
        }
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
    let blocks = pause::blocks(pool).await?;
    let workers = overview::workers(pool).await?;
    let mut text = lane_table(&lanes).text();
    if !blocks.is_empty() {
        text.push_str("\n\n");
        text.push_str(&block_table(&blocks).text());
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
        "lanes": lanes, "held_back": blocks, "workers": workers, "counted_at_most": MOST,
    });
    Ok((text, facts))
}

fn lane_table(lanes: &[LaneDepth]) -> Table {
    let titles = [
        "tenant",
        "mailbox provider",
        "stream",
        "prio",
        "ready",
        "oldest",
        "in hand",
        "deferred",
        "next due",
        "dead",
        "held back",
    ];
    let mut table = Table::new(&titles, "nothing waits");
    for lane in lanes {
        table.row([
            lane.tenant.clone(),
            lane.mailbox_provider.clone(),
            lane.stream.clone(),
            lane.priority.to_string(),
            format!("{}{}", lane.ready, if lane.more_ready { "+" } else { "" }),
            print::or_dash(lane.oldest_seconds.map(print::seconds)),
            lane.leased.to_string(),
            lane.deferred.to_string(),
            print::or_dash(lane.next_due_seconds.map(print::seconds)),
            lane.dead_letters.to_string(),
            print::or_dash(lane.held_back.as_ref()),
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

impl What {
    /// The cells that it concerns: a tenant's own, or all for a mailbox provider.
    async fn cells(&self, context: &Context) -> Result<Vec<Cell>, CliError> {
        match &self.tenant {
            Some(tenant) => Ok(vec![context.cell_of_tenant(tenant).await?]),
            None => context.cells().await,
        }
    }

    async fn target(&self, pool: &PgPool) -> Result<Target, CliError> {
        match (&self.tenant, &self.stream, &self.mailbox_provider) {
            (Some(tenant), None, _) => Ok(Target::Tenant(store::scope(pool, tenant).await?)),
            (Some(tenant), Some(stream), _) => {
                Ok(Target::Stream(store::scope(pool, tenant).await?, stream.clone()))
            }
            (None, _, Some(name)) => Ok(Target::MailboxProvider(name.clone())),
            (None, _, None) => Err(CliError::usage(
                "say what: --tenant, --tenant with --stream, or --mailbox-provider",
            )),
        }
    }

    fn name(&self) -> String {
        match (&self.tenant, &self.stream, &self.mailbox_provider) {
            (Some(tenant), Some(stream), _) => format!("stream {tenant}/{stream}"),
            (Some(tenant), None, _) => format!("tenant {tenant}"),
            (None, _, provider) => format!("mail to {}", print::or_dash(provider.as_ref())),
        }
    }
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

fn duration(text: &str) -> Result<Duration, String> {
    unit::duration(text)
        .filter(|time| !time.is_zero())
        .ok_or_else(|| format!("expected a time like 30m, 2h or 1d, found {text:?}"))
}
