//! `postrider tenant move`: a tenant to another cell, with everything it has.

use std::ops::ControlFlow;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::context::Context;
use super::error::CliError;
use super::print::{self, Answer, Table};
use crate::cell::moving::{Event, Holdings, Move, MoveError, Plan, plan};
use crate::config::unit;

/// What is moved where.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The tenant
    name: String,
    /// The cell it shall live in; the one it is leaving undoes the move
    #[arg(long, value_name = "CELL")]
    to_cell: String,
    /// Show what would be moved, and whether it can be; change nothing
    #[arg(long)]
    dry_run: bool,
    /// Longest wait for what is in hand and for transactions that began before
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = wait)]
    wait: Duration,
}

/// Counts and statements on a whole tenant take longer than those of the service.
const STATEMENT: Duration = Duration::from_secs(3_600);

/// Runs the command.
pub async fn run(args: Args, context: &Context) -> Result<Answer, CliError> {
    let cells = context.cells_with(Some(STATEMENT)).await?;
    let to = cells.iter().find(|cell| *cell.name == *args.to_cell).ok_or_else(|| {
        let known: Vec<&str> = cells.iter().map(|cell| &*cell.name).collect();
        CliError::usage(format!(
            "--to-cell: expected one of {}, found {:?}",
            known.join(", "),
            args.to_cell
        ))
    })?;
    let planned = plan(&cells, &args.name, to, context.actor(), args.wait).await;
    let (one, undo) = match planned? {
        Plan::Go(one) => (one, false),
        Plan::Undo(one) => (one, true),
    };
    if args.dry_run {
        return dry_run(&one, undo).await;
    }
    // A first Ctrl-C stops between two steps, a second one at once; either can be gone on from.
    let stop = (context.shutdown())();
    let mut sums = Sums::default();
    let mut told = |event: &Event| sums.hear(event, &stop);
    if undo {
        one.undo(&mut told).await?;
        let facts = serde_json::json!({"tenant": one.name, "stays_in": &*one.from.name});
        return Answer::new(format!("tenant {} stays in cell {}", one.name, one.from.name), &facts);
    }
    one.run(&mut told).await?;
    let facts = serde_json::json!({
        "tenant": one.name, "from": &*one.from.name, "to": &*one.to.name,
        "rows_copied": sums.copied, "deliveries_settled": sums.settled,
    });
    let words = format!(
        "tenant {} lives in cell {} now: {} rows copied, {} deliveries back in its queue",
        one.name, one.to.name, sums.copied, sums.settled
    );
    Answer::new(words, &facts)
}

async fn dry_run(one: &Move, undo: bool) -> Result<Answer, CliError> {
    let holdings: Holdings = one.holdings().await?;
    let obstacle = match one.check().await {
        Ok(()) => None,
        Err(MoveError::Database(error)) => return Err(error.into()),
        Err(obstacle) => Some(obstacle.to_string()),
    };
    let mut table = Table::new(&["table", "rows"], "");
    for (name, rows) in &holdings.rows {
        table.row([(*name).to_owned(), rows.to_string()]);
    }
    let what = if undo {
        format!(
            "tenant {} would stay in cell {}; copied to {} meanwhile is removed",
            one.name, one.from.name, one.to.name
        )
    } else {
        format!("tenant {} would move from cell {} to {}", one.name, one.from.name, one.to.name)
    };
    let words = format!(
        "{what}\n{} deliveries wait and would move, {} are in hand and would be waited for\n\n{}\n\n{}",
        holdings.waiting,
        holdings.leased,
        table.text(),
        obstacle.as_deref().unwrap_or("nothing stands in the way; nothing was changed"),
    );
    let facts = serde_json::json!({
        "tenant": one.name, "from": &*one.from.name, "to": &*one.to.name, "undo": undo,
        "holdings": holdings, "obstacle": obstacle,
    });
    Answer::new(words, &facts)
}

/// What was done so far, in numbers.
#[derive(Debug, Default)]
struct Sums {
    taken: i64,
    copied: usize,
    settled: i64,
    removed: u64,
    shown: usize,
}

/// Rows between two lines about the same step.
const SHOWN_EVERY: usize = 50_000;

impl Sums {
    fn hear(&mut self, event: &Event, stop: &CancellationToken) -> ControlFlow<()> {
        let so_far = match event {
            Event::Taken(n) => {
                self.taken += n;
                (self.taken.unsigned_abs() as usize, "deliveries taken out of the queue")
            }
            Event::Copied(_, n) => {
                self.copied += n;
                (self.copied, "rows copied")
            }
            Event::Settled(n) => {
                self.settled += n;
                (self.settled.unsigned_abs() as usize, "deliveries back in the queue")
            }
            Event::Removed(_, n) => {
                self.removed += n;
                (self.removed as usize, "rows removed from the old cell")
            }
            step => {
                print::progress(&step.to_string());
                self.shown = 0;
                (0, "")
            }
        };
        if so_far.0 >= self.shown + SHOWN_EVERY {
            self.shown = so_far.0;
            print::progress(&format!("{} {} …", so_far.0, so_far.1));
        }
        // What is done is done.
        if stop.is_cancelled() && *event != Event::Done {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}

fn wait(text: &str) -> Result<Duration, String> {
    unit::duration(text)
        .ok_or_else(|| format!("expected a time like 30s, 5m or 1h, found {text:?}"))
}
