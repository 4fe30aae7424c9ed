//! One mail to each of many destinations: a name to look up, a connection to open and a
//! mail, again and again.

use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::exchanger::Exchangers;
use crate::letters;
use crate::program::Program;
use crate::sink::Sink;
use crate::stand::{Stand, Wanted, exchangers, free_address};
use crate::table::{Cell, Table};
use crate::{say, usage, verdict};

/// Mails a second that must be reached.
const TARGET: f64 = 2_000.0;

/// Longest time without a mail.
const STUCK_AFTER: Duration = Duration::from_secs(30);

/// How many.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Destinations; each gets one mail.
    #[arg(long, default_value_t = 20_000, value_name = "N")]
    destinations: u64,
}

/// Measures, prints, judges.
pub(crate) async fn run(stand: &Stand, args: &Args) -> anyhow::Result<()> {
    let database = stand.database("destinations").await?;
    let scope = database.tenant("shop").await?;
    let address = |n| format!("reader@d{n}.example");
    letters::send(&database, scope, "shop", args.destinations, address).await?;
    // Every address of the loopback network is one of the exchangers'.
    let (sink, names) =
        (Sink::far_away("0.0.0.0", Duration::ZERO).await?, Exchangers::serve().await?);
    let metrics = free_address()?;
    let wanted = Wanted {
        database: &database,
        route: exchangers(sink.address().port(), names.address),
        api: free_address()?,
        metrics,
        queue: "",
        more: "",
    };
    let config = stand.configure("destinations", &wanted)?;
    let postmaster = stand.postmaster()?;
    let before = usage::cpu_of_family(postmaster);
    let mut daemon = Program::daemon(&config, metrics).await?;
    let began = Instant::now();
    let (mut seen, mut moved) = (0, Instant::now());
    while sink.taken() < args.destinations {
        daemon.check()?;
        if sink.taken() > seen {
            (seen, moved) = (sink.taken(), Instant::now());
        }
        ensure!(moved.elapsed() < STUCK_AFTER, "stuck at {seen} of {} mails", args.destinations);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let took = began.elapsed();
    let micros = |time: Duration| time.as_secs_f64() * 1e6 / args.destinations as f64;
    let rate = args.destinations as f64 / took.as_secs_f64();
    let memory = usage::peak_memory(daemon.pid()) as f64;
    let ((domains, most), (hosts, most_host)) = (names.asked("MX"), names.asked("A "));
    let mut table = Table::new(
        "destinations",
        &[
            "destinations",
            "mails/s",
            "connections opened",
            "open at once",
            "MX asked",
            "most for one",
            "daemon us/mail",
            "Postgres us/mail",
            "peak MB",
        ],
    );
    table.row(vec![
        Cell::whole(args.destinations as f64),
        Cell::whole(rate),
        Cell::whole(sink.opened() as f64),
        Cell::whole(sink.most_open() as f64),
        Cell::whole(domains as f64),
        Cell::whole(f64::from(most.max(most_host))),
        Cell::tenth(micros(usage::cpu(daemon.pid()))),
        Cell::tenth(micros(usage::cpu_of_family(postmaster).saturating_sub(before))),
        Cell::tenth(memory / 1e6),
    ]);
    say(&table.to_string());
    verdict(rate >= TARGET, &format!("{rate:.0} mails/s (target: at least 2000)"));
    verdict(
        domains as u64 == args.destinations && hosts == domains && most == 1 && most_host == 1,
        &format!(
            "{domains} domains and {hosts} hosts were asked about, at most {} times each (target: once)",
            most.max(most_host)
        ),
    );
    daemon.stop().await?;
    database.pool.close().await;
    stand.drop("destinations").await
}
