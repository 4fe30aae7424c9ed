//! Two tenants: one with a million waiting, the other sending a mail now and then through the
//! API. How long the second's mail takes from the request to the receiver's final dot, while
//! the million is being submitted and while it waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::json;
use tokio::task::JoinSet;

use crate::letters::{self, CHUNK};
use crate::ndjson::{Caller, campaign};
use crate::program::Program;
use crate::sink::{MARK, Sink};
use crate::stand::{CONNECTIONS, Stand, Wanted, free_address, relay};
use crate::table::{Cell, Table};
use crate::times::Times;
use crate::{say, verdict};

/// Longest time that the small tenant's mail may take, for 99 in a hundred.
const WITHIN_MS: f64 = 1_000.0;

/// Time for the last of the small tenant's mails to arrive.
const PATIENCE: Duration = Duration::from_secs(60);

/// Mails before anything waits, to fill caches and open connections.
const WARM_UP: u32 = 5;

/// How much waits, and for how long.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Deliveries of the large tenant that wait, all the time.
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    waiting: u64,
    /// Seconds to look, once they wait.
    #[arg(long, default_value_t = 20, value_name = "N")]
    seconds: u64,
    /// Mails a second of the small tenant.
    #[arg(long, default_value_t = 1, value_name = "N")]
    rate: u32,
    /// The small tenant's stream. In bulk, as the large one's, only fairness between tenants
    /// helps it; transactional mail goes first besides.
    #[arg(long, default_value = "bulk", value_name = "STREAM")]
    stream: String,
    /// Uploads of the large tenant at the same time.
    #[arg(long, default_value_t = 2, value_name = "N")]
    parallel: u64,
}

/// A mail of the small tenant.
#[derive(Debug, Clone)]
struct Probe {
    local: String,
    sent: Instant,
    answered: Duration,
}

/// Measures, prints, judges.
pub(crate) async fn run(stand: &Stand, args: &Args) -> anyhow::Result<()> {
    let database = stand.database("fairness").await?;
    let (large, small) = (database.tenant("large").await?, database.tenant("small").await?);
    let (large_key, small_key) = (database.key(large).await?, database.key(small).await?);
    let (sink, api, metrics) = (Sink::start().await?, free_address()?, free_address()?);
    let wanted = Wanted {
        database: &database,
        route: relay(sink.address(), CONNECTIONS),
        api,
        metrics,
        queue: "",
        more: "",
    };
    let config = stand.configure("fairness", &wanted)?;
    let mut daemon = Program::daemon(&config, metrics).await?;
    let mut server = Program::api(&config, api).await?;

    let prober = Caller::new(api, small_key)?;
    for n in 0..WARM_UP {
        probe(&prober, &args.stream, format!("warm{n}")).await?;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let probing = tokio::spawn(probes(prober, args.stream.clone(), args.rate, Arc::clone(&stop)));

    let caller = Caller::new(api, large_key)?;
    let message = caller.submit(&campaign("large")).await?;
    let submitting = Instant::now();
    let mut stored = caller.upload(&message, args.waiting, args.parallel.max(1)).await?;
    let waiting = Instant::now();
    say(&format!("the large tenant's {stored} submitted in {:.1?}", waiting - submitting));

    let least = AtomicU64::new(u64::MAX);
    while waiting.elapsed() < Duration::from_secs(args.seconds) {
        daemon.check()?;
        server.check()?;
        let left = stored.saturating_sub(sink.taken());
        if left < args.waiting {
            least.fetch_min(left, Ordering::Relaxed);
            let range = stored..stored + CHUNK;
            letters::append(&database, large, &message, range, reader).await?;
            stored += CHUNK;
        } else {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let ended = Instant::now();
    stop.store(true, Ordering::Relaxed);
    let all = probing.await.context("the probes' task")??;
    let taken = sink.taken();

    let mut table = Table::new(
        "fairness",
        &[
            "phase",
            "mails",
            "API p50 ms",
            "submit to sink p50 ms",
            "p99 ms",
            "max ms",
            "large tenant mails/s",
        ],
    );
    let mut worst = 0.0_f64;
    for (phase, from, to) in [("submitting", submitting, waiting), ("waiting", waiting, ended)] {
        let some: Vec<&Probe> =
            all.iter().filter(|probe| probe.sent >= from && probe.sent < to).collect();
        let times = arrivals(&sink, &some).await?;
        let api: Times = some.iter().map(|probe| probe.answered).collect();
        if times.count() > 0 {
            worst = worst.max(times.percentile(99.0));
        }
        table.row(vec![
            Cell::from(phase),
            Cell::whole(times.count() as f64),
            Cell::tenth(api.percentile(50.0)),
            Cell::tenth(times.percentile(50.0)),
            Cell::tenth(times.percentile(99.0)),
            Cell::tenth(times.percentile(100.0)),
            Cell::whole(taken as f64 / (ended - submitting).as_secs_f64()),
        ]);
    }
    say(&table.to_string());
    say(&format!(
        "the large tenant had never fewer than {} waiting after its submission",
        least.into_inner().min(stored.saturating_sub(taken))
    ));
    verdict(
        worst < WITHIN_MS,
        &format!(
            "p99 from submit to sink {worst:.0} ms in the worse phase (target: below 1000 ms)"
        ),
    );
    server.stop().await?;
    daemon.stop().await?;
    database.pool.close().await;
    stand.drop("fairness").await
}

fn reader(n: u64) -> String {
    format!("reader{n}@provider{}.example", n % 8)
}

/// Mails by the clock until `stop`, whether or not the ones before were answered.
async fn probes(
    caller: Caller,
    stream: String,
    rate: u32,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<Vec<Probe>> {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate.max(1));
    let mut running = JoinSet::new();
    let mut n = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        let (caller, stream, local) = (caller.clone(), stream.clone(), format!("probe{n}"));
        running.spawn(async move { probe(&caller, &stream, local).await });
        n += 1;
    }
    let mut all = Vec::new();
    while let Some(ended) = running.join_next().await {
        all.push(ended??);
    }
    Ok(all)
}

async fn probe(caller: &Caller, stream: &str, local: String) -> anyhow::Result<Probe> {
    let message = json!({
        "from": "Bench <orders@small.example>", "subject": "Your order", "text": "It is on its way.",
        "stream": stream, "recipients": [{"to": format!("{local}@{MARK}")}],
    });
    let sent = Instant::now();
    caller.submit(&message).await?;
    Ok(Probe { local, sent, answered: sent.elapsed() })
}

/// From the request to the final dot.
async fn arrivals(sink: &Sink, probes: &[&Probe]) -> anyhow::Result<Times> {
    let began = Instant::now();
    let mut all = Vec::with_capacity(probes.len());
    for probe in probes {
        let arrival = loop {
            if let Some(arrival) = sink.arrival(&probe.local) {
                break arrival;
            }
            ensure!(began.elapsed() < PATIENCE, "the mail to {} never came", probe.local);
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        all.push(arrival.saturating_duration_since(probe.sent));
    }
    Ok(all.into_iter().collect())
}
