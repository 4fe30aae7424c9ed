//! `postrider dead-letter`: deliveries that need an operator.

use std::time::Duration;

use clap::Subcommand;
use sqlx::PgPool;

use super::context::{Context, scope_of};
use super::error::CliError;
use super::print::{self, Answer, Table};
use crate::domain::ids::{DeliveryId, MessageId};
use crate::queue::admin::dead_letter::{self, Batch, DeadLetter, Selection};

/// Dead letters: list, show, replay, discard
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  postrider dead-letter list --tenant shop --reason malformed")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List dead letters, the oldest first
    #[command(after_help = "\
Examples:
  postrider dead-letter list --reason doubt
  postrider dead-letter list --limit 100 --after dlv_0R8KQW3YD4X1M")]
    List {
        #[command(flatten)]
        which: Which,
        /// Most rows
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=100_000))]
        limit: i64,
        /// Only those after this delivery: the last one of the page before
        #[arg(long)]
        after: Option<DeliveryId>,
    },
    /// Show one dead letter in full
    #[command(after_help = "Example:\n  postrider dead-letter show dlv_0R8KQW3YD4X1M")]
    Show {
        /// The delivery
        delivery: DeliveryId,
        /// Only if it is this tenant's
        #[arg(long)]
        tenant: Option<String>,
    },
    /// Put dead letters back into the queue for a first attempt, in paced batches
    #[command(after_help = "\
Their time to live starts anew. Those of a cancelled message, and those whose content
is no longer kept, stay where they are.

Examples:
  postrider dead-letter replay dlv_0R8KQW3YD4X1M
  postrider dead-letter replay --tenant shop --reason crashed --per-second 200
  postrider dead-letter replay --all")]
    Replay {
        #[command(flatten)]
        chosen: Chosen,
        /// Most deliveries a second
        #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        per_second: u32,
    },
    /// Give dead letters up for good: they end as cancelled
    #[command(after_help = "\
Example:
  postrider dead-letter discard --message msg_0R8KQW3YD4X1M --why 'template was wrong'")]
    Discard {
        #[command(flatten)]
        chosen: Chosen,
        /// Written into the history of each
        #[arg(long)]
        why: String,
    },
}

#[derive(Debug, clap::Args)]
struct Which {
    /// One tenant's only
    #[arg(long)]
    tenant: Option<String>,
    /// Those that are dead for this reason
    #[arg(long, value_parser = ["malformed", "crashed", "doubt", "interrupted"])]
    reason: Option<String>,
    /// Those of one message
    #[arg(long)]
    message: Option<MessageId>,
}

#[derive(Debug, clap::Args)]
struct Chosen {
    /// These deliveries only
    deliveries: Vec<DeliveryId>,
    #[command(flatten)]
    which: Which,
    /// Really all of them
    #[arg(long, conflicts_with_all = ["deliveries", "tenant", "reason", "message"])]
    all: bool,
}

/// Runs the command.
pub async fn run(args: Args, context: &Context) -> Result<Answer, CliError> {
    match args.verb {
        Verb::List { which, limit, after } => {
            let mut letters = Vec::new();
            for cell in context.cells_of(which.tenant.as_deref()).await? {
                let selection = which.selection(&cell.pool, None).await?;
                letters.extend(dead_letter::list(&cell.pool, &selection, after, limit).await?);
            }
            // Of every cell the first; of all together those that come first.
            letters.sort_by_key(|letter| letter.delivery);
            letters.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
            Answer::new(table(&letters).text(), &letters)
        }
        Verb::Show { delivery, tenant } => {
            let mut letters = Vec::new();
            for cell in context.cells_of(tenant.as_deref()).await? {
                let scope = scope_of(&cell.pool, tenant.as_deref()).await?;
                let deliveries = Some(vec![delivery]);
                let one = Selection { scope, deliveries, ..Selection::default() };
                letters.extend(dead_letter::list(&cell.pool, &one, None, 1).await?);
            }
            let letter = letters.first().ok_or_else(|| {
                CliError::failed(format!(
                    "{delivery} is not a dead letter: see `postrider queue show {delivery}`"
                ))
            })?;
            Answer::new(show(letter), letter)
        }
        Verb::Replay { chosen, per_second } => {
            let pace = Pace::new(per_second);
            work(chosen, context, pace, "replayed", async |pool, selection, after, most| {
                dead_letter::replay(pool, selection, after, most).await
            })
            .await
        }
        Verb::Discard { chosen, why } => {
            work(
                chosen,
                context,
                Pace::UNHURRIED,
                "discarded",
                async |pool, selection, after, most| {
                    dead_letter::discard(pool, selection, after, most, &why).await
                },
            )
            .await
        }
    }
}

/// Batch by batch until there are no more, and says what came of it.
async fn work(
    chosen: Chosen,
    context: &Context,
    pace: Pace,
    verb: &str,
    step: impl AsyncFn(&PgPool, &Selection, Option<DeliveryId>, i64) -> Result<Batch, sqlx::Error>,
) -> Result<Answer, CliError> {
    let chosen = chosen.checked()?;
    let named = chosen.deliveries.len();
    let (mut done, mut kept) = (0, 0);
    for cell in context.cells_of(chosen.which.tenant.as_deref()).await? {
        let selection = chosen.selection(&cell.pool).await?;
        let mut after = None;
        loop {
            let batch = step(&cell.pool, &selection, after, pace.batch).await?;
            done += batch.done;
            kept += batch.picked - batch.done;
            if batch.picked < pace.batch {
                break;
            }
            after = batch.last;
            print::progress(&format!("{done} {verb} …"));
            tokio::time::sleep(pace.pause).await;
        }
    }
    if done < i64::try_from(named).unwrap_or(i64::MAX) && named > 0 {
        return Err(CliError::failed(format!(
            "{done} of {named} {verb}; the others are no dead letters (see `postrider dead-letter \
             list`), or their message was cancelled or is no longer kept"
        )));
    }
    let words = match kept {
        0 => format!("{done} {verb}"),
        _ => format!(
            "{done} {verb}; {kept} stay: their message was cancelled or is no longer kept \
             (discard them)"
        ),
    };
    Answer::new(words, &serde_json::json!({ verb: done, "kept": kept }))
}

/// How many at once, and how long to rest after.
#[derive(Debug, Clone, Copy)]
struct Pace {
    batch: i64,
    pause: Duration,
}

impl Pace {
    const MOST: u32 = 1_000;
    const UNHURRIED: Self = Self { batch: Self::MOST as i64, pause: Duration::from_millis(50) };

    fn new(per_second: u32) -> Self {
        let batch = per_second.min(Self::MOST);
        Self {
            batch: batch.into(),
            pause: Duration::from_secs_f64(f64::from(batch) / f64::from(per_second)),
        }
    }
}

impl Which {
    async fn selection(
        &self,
        pool: &PgPool,
        deliveries: Option<Vec<DeliveryId>>,
    ) -> Result<Selection, CliError> {
        let scope = scope_of(pool, self.tenant.as_deref()).await?;
        Ok(Selection { scope, reason: self.reason.clone(), message: self.message, deliveries })
    }

    const fn is_empty(&self) -> bool {
        self.tenant.is_none() && self.reason.is_none() && self.message.is_none()
    }
}

impl Chosen {
    fn checked(mut self) -> Result<Self, CliError> {
        if self.deliveries.is_empty() && self.which.is_empty() && !self.all {
            return Err(CliError::usage(
                "say which: deliveries, --tenant, --reason, --message, or --all for every one",
            ));
        }
        self.deliveries.sort_unstable();
        self.deliveries.dedup();
        Ok(self)
    }

    async fn selection(&self, pool: &PgPool) -> Result<Selection, CliError> {
        let deliveries = (!self.deliveries.is_empty()).then(|| self.deliveries.clone());
        self.which.selection(pool, deliveries).await
    }
}

fn table(letters: &[DeadLetter]) -> Table {
    let titles = ["delivery", "since", "tenant", "reason", "attempts", "recipient", "detail"];
    let mut table = Table::new(&titles, "there are no dead letters");
    for letter in letters {
        table.row([
            letter.delivery.to_string(),
            print::time(letter.dead_at),
            letter.tenant.clone(),
            letter.reason.clone(),
            letter.attempts.to_string(),
            letter.recipient.clone(),
            summary(letter.detail.as_deref().unwrap_or("-")),
        ]);
    }
    table
}

fn summary(text: &str) -> String {
    const WIDTH: usize = 60;
    if text.chars().count() <= WIDTH {
        return text.to_owned();
    }
    text.chars().take(WIDTH - 1).chain(['…']).collect()
}

fn show(letter: &DeadLetter) -> String {
    let mut lines = vec![
        format!("delivery          {}", letter.delivery),
        format!("message           {}", letter.message),
        format!("tenant            {}", letter.tenant),
        format!("stream            {}", print::or_dash(letter.stream.as_ref())),
        format!("recipient         {}", letter.recipient),
        format!("mailbox provider  {}", print::or_dash(letter.mailbox_provider.as_ref())),
        format!("dead since        {}", print::time(letter.dead_at)),
        format!("attempts          {}", letter.attempts),
        format!("reason            {}", letter.reason),
    ];
    lines.extend(letter.detail.as_ref().map(|detail| format!("detail            {detail}")));
    lines.extend(letter.payload.as_ref().map(|payload| format!("personal          {payload}")));
    lines.push(format!("\nTry again:  postrider dead-letter replay {}", letter.delivery));
    lines.join("\n")
}
