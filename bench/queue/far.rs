//! A receiver that is far away: each reply comes so much later than its command. What counts
//! then is how few times a mail waits for an answer, and what a connection costs in memory.

use std::time::Duration;

use anyhow::ensure;

use crate::letters;
use crate::program::Program;
use crate::sink::Sink;
use crate::stand::{Stand, Wanted, free_address, relay};
use crate::table::{Cell, Table};
use crate::turn::Turn;
use crate::{say, usage, verdict};

/// Share of what pipelining permits that must be reached.
const REACHED: f64 = 0.90;

/// Memory that the daemon may hold.
const MOST_MEMORY: f64 = 150e6;

/// How far away, and over how many connections.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Connections that the route allows.
    #[arg(long, default_value_t = 200, value_name = "N")]
    connections: u32,
    /// Time from a command to its reply.
    #[arg(long, default_value_t = 100, value_name = "MS")]
    delay_ms: u64,
    /// Seconds to measure.
    #[arg(long, default_value_t = 15, value_name = "N")]
    seconds: u64,
}

/// Measures, prints, judges.
pub(crate) async fn run(stand: &Stand, args: &Args) -> anyhow::Result<()> {
    let delay = Duration::from_millis(args.delay_ms.max(1));
    // MAIL, RCPT and DATA wait together, the body once more; with the next envelope behind
    // the body a mail waits once.
    let once = f64::from(args.connections) / delay.as_secs_f64();
    let twice = once / 2.0;
    let mails = (once * (args.seconds + 6) as f64 * 1.1) as u64;

    let database = stand.database("far").await?;
    let scope = database.tenant("shop").await?;
    letters::send(&database, scope, "shop", mails, |n| format!("reader{n}@far.example")).await?;
    let (sink, metrics) = (Sink::far_away("127.0.0.1", delay).await?, free_address()?);
    let in_hand = args.connections.saturating_mul(4).max(512);
    let wanted = Wanted {
        database: &database,
        route: relay(sink.address(), args.connections),
        api: free_address()?,
        metrics,
        queue: "",
        more: &format!("[worker]\nconcurrency = {in_hand}\ntenant_concurrency = {in_hand}\n"),
    };
    let mut daemon = Program::daemon(&stand.configure("far", &wanted)?, metrics).await?;
    let turn = Turn::measure(stand, &mut daemon, &sink, delay * 20, args.seconds).await?;
    let memory = usage::peak_memory(daemon.pid()) as f64;
    ensure!(sink.taken() < mails, "the queue ran empty: ask for fewer --seconds");

    let mut table = Table::new(
        "far",
        &[
            "connections",
            "delay ms",
            "mails/s",
            "of one wait a mail %",
            "of two waits a mail %",
            "open at once",
            "daemon us/mail",
            "peak MB",
        ],
    );
    table.row(vec![
        Cell::whole(f64::from(args.connections)),
        Cell::whole(args.delay_ms as f64),
        Cell::whole(turn.rate),
        Cell::tenth(100.0 * turn.rate / once),
        Cell::tenth(100.0 * turn.rate / twice),
        Cell::whole(sink.most_open() as f64),
        Cell::tenth(turn.daemon),
        Cell::tenth(memory / 1e6),
    ]);
    say(&table.to_string());
    verdict(
        turn.rate >= REACHED * twice,
        &format!(
            "{:.0} mails/s where pipelined envelopes permit {twice:.0}, and {once:.0} with the \
             next envelope behind the body (target: at least 90 %)",
            turn.rate
        ),
    );
    verdict(
        memory < MOST_MEMORY,
        &format!(
            "{:.0} MB with {} connections at once (target: below 150 MB)",
            memory / 1e6,
            sink.most_open()
        ),
    );
    daemon.stop().await?;
    database.pool.close().await;
    stand.drop("far").await
}
