//! What a queue costs: enqueue, claim and settle of postrider, apalis-postgres and awa, on
//! one private Postgres with every commit on disk, in turns within one run.
//!
//! Each system stores the same jobs (the same bytes of payload), by the way that its
//! documentation recommends for many, and then works them off with handlers that do
//! nothing, two workers at a time, in batches of the size asked for where it lets one
//! choose. It has a database of its own, made anew for each round. What each does and does
//! not do for that is printed with the numbers.

mod apalis;
mod awa;
mod ours;
#[path = "../../queue/replica.rs"]
mod replica;
mod stand;
#[path = "../../queue/table.rs"]
#[allow(dead_code, reason = "each program of the bench uses its part")]
mod table;
#[path = "../../usage.rs"]
#[allow(dead_code, reason = "each program of the bench uses its part")]
mod usage;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, ValueEnum};

use crate::stand::{Measured, Stand};
use crate::table::{Cell, Table};

/// Compares the queues.
#[derive(Debug, Parser)]
#[command(about, long_about = None)]
pub(crate) struct Args {
    /// Jobs of each round.
    #[arg(long, default_value_t = 20_000, value_name = "N")]
    jobs: u32,
    /// Rounds; in each every system takes its turn.
    #[arg(long, default_value_t = 2, value_name = "N")]
    rounds: u32,
    /// Bytes of a payload.
    #[arg(long, default_value_t = 200, value_name = "N")]
    payload: usize,
    /// Jobs stored by one statement.
    #[arg(long, default_value_t = 5_000, value_name = "N")]
    enqueue_batch: u32,
    /// Jobs claimed, and settled, together.
    #[arg(long, default_value_t = 500, value_name = "N")]
    claim_batch: u32,
    /// Workers (connections that store, and loops that claim).
    #[arg(long, default_value_t = 2, value_name = "N")]
    workers: u32,
    /// Whom to measure; may be repeated.
    #[arg(long, value_name = "SYSTEM")]
    only: Vec<System>,
    /// Where the private Postgres lives.
    #[arg(long, default_value = "target/bench/postgres", value_name = "FOLDER")]
    folder: PathBuf,
    /// Folder of Postgres's server programs.
    #[arg(long, env = "POSTRIDER_PG_BIN", value_name = "FOLDER")]
    pg_bin: Option<PathBuf>,
}

/// A queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum System {
    /// Ours.
    Postrider,
    /// apalis-postgres.
    Apalis,
    /// awa.
    Awa,
}

impl System {
    const ALL: [Self; 3] = [Self::Postrider, Self::Apalis, Self::Awa];

    const fn name(self) -> &'static str {
        match self {
            Self::Postrider => "postrider",
            Self::Apalis => "apalis-postgres 1.0.0",
            Self::Awa => "awa 0.6.9",
        }
    }

    /// What it does for what it costs, and what it leaves out.
    const fn about(self) -> &'static str {
        match self {
            Self::Postrider => {
                "fenced by session and hold; a row of history with its evidence for every attempt; \
                 suppression, expiry and cancellation are checked in the claim; payload and history stay \
                 until their day is dropped"
            }
            Self::Apalis => {
                "acknowledgements are fenced by the worker's name only; the row is updated in place and \
                 kept with its result, for ever; no history of attempts; lock_tasks off, as in its examples \
                 for throughput (else one more update per job)"
            }
            Self::Awa => {
                "fenced by a run lease; terminal rows are kept until retention; rotating partitions; deadline \
                 off, as in its own throughput benchmark (its receipts path); stored by COPY"
            }
        }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let ended = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start threads")
        .and_then(|runtime| {
            let ended = runtime.block_on(run(&args));
            // A worker that never heard of its end is not waited for.
            runtime.shutdown_background();
            ended
        });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "compare: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> anyhow::Result<()> {
    let stand = Stand::start(args)?;
    let systems = if args.only.is_empty() { System::ALL.to_vec() } else { args.only.clone() };
    say(&format!(
        "{} jobs of {} bytes, stored {} and claimed {} at a time, {} workers; Postgres {}, fsync and \
         synchronous_commit on; load {}",
        args.jobs,
        args.payload,
        args.enqueue_batch,
        args.claim_batch,
        args.workers,
        stand.postgres(),
        table::load(),
    ));
    let mut measured: Vec<(System, Measured)> = Vec::new();
    for round in 0..args.rounds.max(1) {
        for n in 0..systems.len() {
            // Another one begins in each round.
            let system = systems[(n + round as usize) % systems.len()];
            let one = match system {
                System::Postrider => ours::measure(&stand, args).await,
                System::Apalis => apalis::measure(&stand, args).await,
                System::Awa => awa::measure(&stand, args).await,
            }
            .with_context(|| format!("measuring {}", system.name()))?;
            say(&format!(
                "round {}: {}: {:.0} enqueued/s, {:.0} settled/s",
                round + 1,
                system.name(),
                one.enqueued_per_second,
                one.settled_per_second
            ));
            measured.push((system, one));
        }
    }
    let mut table = Table::new(
        "compare",
        &[
            "system",
            "enqueue/s",
            "claim+settle/s",
            "Postgres us/job, enqueue",
            "Postgres us/job, work",
            "client us/job, work",
            "dead rows made/job",
            "dead rows left",
            "WAL bytes/job",
        ],
    );
    for system in &systems {
        let rounds: Vec<&Measured> =
            measured.iter().filter(|(of, _)| of == system).map(|(_, one)| one).collect();
        let mean = |take: fn(&Measured) -> f64| {
            rounds.iter().map(|one| take(one)).sum::<f64>() / rounds.len() as f64
        };
        table.row(vec![
            Cell::from(system.name()),
            Cell::whole(mean(|one| one.enqueued_per_second)),
            Cell::whole(mean(|one| one.settled_per_second)),
            Cell::tenth(mean(|one| one.enqueue_micros)),
            Cell::tenth(mean(|one| one.work_micros)),
            Cell::tenth(mean(|one| one.client_micros)),
            Cell::tenth(mean(|one| one.dead_made)),
            Cell::whole(mean(|one| one.dead_left)),
            Cell::whole(mean(|one| one.wal_bytes)),
        ]);
    }
    say(&table.to_string());
    for system in systems {
        say(&format!("{}: {}", system.name(), system.about()));
    }
    Ok(())
}

fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
