//! A large recipient list as NDJSON to the real API: seconds, and the most memory of each
//! process.

use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::memory::Watch;
use crate::ndjson::{Caller, campaign};
use crate::program::Program;
use crate::stand::{CONNECTIONS, Stand, Wanted, free_address, relay};
use crate::table::{Cell, Table};
use crate::{say, usage, verdict};

/// Time in which a million must be stored.
const WITHIN: f64 = 20.0;

/// Memory that no process may pass.
const MOST_MEMORY: f64 = 200e6;

/// Processes that are told.
const SHOWN: usize = 8;

/// How much is uploaded.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Recipients.
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    recipients: u64,
    /// Uploads at the same time, each of a part of the list.
    #[arg(long, default_value_t = 4, value_name = "N")]
    parallel: u64,
}

/// Measures, prints, judges.
pub(crate) async fn run(stand: &Stand, args: &Args) -> anyhow::Result<()> {
    let database = stand.database("upload").await?;
    let scope = database.tenant("shop").await?;
    let key = database.key(scope).await?;
    let api = free_address()?;
    let wanted = Wanted {
        database: &database,
        route: relay("127.0.0.1:9".parse()?, CONNECTIONS),
        api,
        metrics: free_address()?,
        queue: "",
        more: "",
    };
    let config = stand.configure("upload", &wanted)?;
    let program = Program::api(&config, api).await?;
    let caller = Caller::new(api, key)?;
    let message = caller.submit(&campaign("shop")).await?;

    let postmaster = stand.postmaster()?;
    let watch = Watch::start("postrider-api", program.pid(), postmaster);
    let before = (usage::cpu(program.pid()), usage::cpu_of_family(postmaster));
    let started = Instant::now();
    let accepted = caller.upload(&message, args.recipients, args.parallel.max(1)).await?;
    let took = started.elapsed();
    let after = (usage::cpu(program.pid()), usage::cpu_of_family(postmaster));
    let peaks = watch.peaks();
    drop(watch);

    let waiting: i64 = sqlx::query_scalar(
        "select (select count(*) from postrider.ready) + (select count(*) from postrider.deferred)",
    )
    .fetch_one(&database.pool)
    .await?;
    ensure!(
        accepted == args.recipients && waiting == args.recipients as i64,
        "expected {} recipients, found {accepted} accepted and {waiting} waiting",
        args.recipients
    );
    let micros = |now: Duration, then: Duration| {
        now.saturating_sub(then).as_secs_f64() * 1e6 / accepted as f64
    };
    let api_memory = usage::peak_memory(program.pid()) as f64;
    let most = peaks.iter().map(|(_, bytes)| *bytes as f64).fold(api_memory, f64::max);
    let backend = peaks
        .iter()
        .filter(|(name, _)| name.starts_with("backend"))
        .map(|(_, bytes)| *bytes as f64)
        .fold(0.0, f64::max);
    let mut table = Table::new(
        "upload",
        &[
            "recipients",
            "uploads",
            "seconds",
            "recipients/s",
            "API us/recipient",
            "Postgres us/recipient",
            "API peak MB",
            "largest backend MB",
            "largest process MB",
        ],
    );
    table.row(vec![
        Cell::whole(accepted as f64),
        Cell::whole(args.parallel as f64),
        Cell::tenth(took.as_secs_f64()),
        Cell::whole(accepted as f64 / took.as_secs_f64()),
        Cell::tenth(micros(after.0, before.0)),
        Cell::tenth(micros(after.1, before.1)),
        Cell::whole(api_memory / 1e6),
        Cell::whole(backend / 1e6),
        Cell::whole(most / 1e6),
    ]);
    say(&table.to_string());
    for (name, bytes) in peaks.iter().take(SHOWN) {
        say(&format!("{:>8.1} MB  {name}", *bytes as f64 / 1e6));
    }
    let million = took.as_secs_f64() * 1e6 / accepted as f64;
    verdict(million <= WITHIN, &format!("{million:.1} s for a million (target: at most 20 s)"));
    verdict(
        most < MOST_MEMORY,
        &format!("{:.0} MB in the largest process (target: below 200 MB)", most / 1e6),
    );
    program.stop().await?;
    database.pool.close().await;
    stand.drop("upload").await
}
