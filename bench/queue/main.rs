//! What the queue keeps under load, measured as a user would see it.
//!
//! Every measurement starts a private Postgres with every commit on disk, fills databases of
//! its own, runs the product's programs or its queue functions, prints a table and a line of
//! JSON for each row, says whether the target was met, and ends by itself.

mod claims;
mod consumer;
mod daemon_drain;
mod destinations;
mod events;
mod exchanger;
mod fairness;
mod far;
mod fill;
mod histogram;
#[path = "../../tests/support/http_peer.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the tests")]
mod http_peer;
mod letters;
mod memory;
mod ndjson;
mod pace;
mod plan;
mod postfix;
mod program;
#[path = "../../tests/support/quota.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the tests")]
mod quota;
mod replica;
mod reports;
mod returned;
mod sink;
mod soak;
mod stand;
mod store_size;
#[path = "../../tests/support/strict_peer.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the tests")]
mod strict_peer;
mod suppressions;
mod table;
mod times;
mod together;
mod turn;
mod upload;
#[path = "../usage.rs"]
#[allow(dead_code, reason = "each program of the bench uses its part")]
mod usage;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};

/// What the queue keeps under load.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    what: What,
    /// Folder of Postgres's server programs.
    #[arg(long, env = "POSTRIDER_PG_BIN", value_name = "FOLDER", global = true)]
    pg_bin: Option<PathBuf>,
    /// Given by `cargo bench`.
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Claims and settlements a second with much waiting, most of it blocked, beside little.
    Claims(claims::Args),
    /// Steady load for a long time, a snapshot held open for a third of it.
    Soak(soak::Args),
    /// A small tenant's mail while another has a million waiting.
    Fairness(fairness::Args),
    /// Many recipients as NDJSON over HTTP: seconds, and memory of each process.
    Upload(upload::Args),
    /// A receiver that answers late: what pipelining permits, and memory for each connection.
    Far(far::Args),
    /// One mail to each of many destinations.
    Destinations(destinations::Args),
    /// Submission over HTTP and delivery at the same time.
    Together(together::Args),
    /// A long list of suppressions: checks of a batch, and a file that comes in.
    Suppressions(suppressions::Args),
    /// Bounces and complaints that come back by mail: stored and worked off a second.
    Reports(reports::Args),
    /// What events to tenants cost, also beside a dead endpoint.
    Events(events::Args),
    /// Receivers that take so many a second: how the pace settles and follows.
    Pace(pace::Args),
    /// Postfix's queue to the same sink, for comparison (as root).
    Postfix(postfix::Args),
}

fn main() -> ExitCode {
    let args = Args::parse();
    let ended = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start threads")
        .and_then(|runtime| runtime.block_on(run(args)));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> anyhow::Result<()> {
    let stand = stand::Stand::start(args.pg_bin.as_deref())?;
    say(&format!(
        "{} cores, Postgres {}, fsync and synchronous_commit on; load {}",
        std::thread::available_parallelism().map_or(0, usize::from),
        stand.major(),
        table::load()
    ));
    match args.what {
        What::Claims(args) if args.daemon => daemon_drain::run(&stand, &args).await,
        What::Claims(args) => claims::run(&stand, &args).await,
        What::Soak(args) => soak::run(&stand, &args).await,
        What::Fairness(args) => fairness::run(&stand, &args).await,
        What::Upload(args) => upload::run(&stand, &args).await,
        What::Far(args) => far::run(&stand, &args).await,
        What::Destinations(args) => destinations::run(&stand, &args).await,
        What::Together(args) => together::run(&stand, &args).await,
        What::Suppressions(args) => suppressions::run(&stand, &args).await,
        What::Reports(args) => reports::run(&stand, &args).await,
        What::Events(args) => events::run(&stand, &args).await,
        What::Pace(args) => pace::run(&stand, &args).await,
        What::Postfix(args) => postfix::run(stand.folder(), &args).await,
    }
}

fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Says whether a target was met.
fn verdict(met: bool, what: &str) {
    say(&format!("{}: {what}", if met { "met" } else { "MISSED" }));
}
