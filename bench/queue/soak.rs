//! Steady load for a long time, with a snapshot held open for the middle third of it: what an
//! analyst's forgotten transaction, a replica's feedback or a dump does to a queue in Postgres.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use postrider::domain::ids::MessageId;
use postrider::queue::enqueue::{Chunk, Enqueue, Recipients, sha256};
use postrider::tenant::isolation::TenantScope;
use serde_json::json;
use sqlx::{Connection, PgConnection};
use tokio::time::MissedTickBehavior;

use crate::fill::submission;
use crate::histogram::{Histogram, counter, scrape};
use crate::memory::resident;
use crate::program::Program;
use crate::sink::Sink;
use crate::stand::{CONNECTIONS, Database, Stand, Wanted, free_address, relay};
use crate::store_size::StoreSize;
use crate::table::{Cell, Table};
use crate::{say, verdict};

/// Submissions a second, of equal size.
const TICKS: u32 = 10;

/// How far the end may be from the start.
const WITHIN: f64 = 0.10;

/// Bytes by which sizes may differ before a share of them counts.
const SLACK: f64 = 2e6;

/// How much load, for how long.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Minutes; the snapshot is held in the middle third.
    #[arg(long, default_value_t = 3, value_name = "N")]
    minutes: usize,
    /// Deliveries offered a second.
    #[arg(long, default_value_t = 2_000, value_name = "N")]
    rate: u32,
    /// Tenants who share them.
    #[arg(long, default_value_t = 10, value_name = "N")]
    tenants: usize,
    /// Seconds between switches of the hot tables' generation; left out: 300, or a sixth of a
    /// short run.
    #[arg(long, value_name = "N")]
    switch: Option<u64>,
    /// Seconds of a "minute", to try the measurement itself.
    #[arg(long, default_value_t = 60, value_name = "N", hide = true)]
    minute: u64,
}

/// One minute.
struct Minute {
    snapshot: bool,
    offered: f64,
    mails: f64,
    claims: Histogram,
    settlements: Histogram,
    size: StoreSize,
    log_per_job: f64,
    kept_per_job: f64,
    resident: f64,
    behind: f64,
}

impl Minute {
    fn hot(&self) -> f64 {
        self.size.hot_tables + self.size.hot_indexes
    }
}

/// Measures, prints, judges.
pub(crate) async fn run(stand: &Stand, args: &Args) -> anyhow::Result<()> {
    ensure!(args.minutes >= 3, "expected at least 3 minutes, found {}", args.minutes);
    let minute = Duration::from_secs(args.minute.max(1));
    let switch =
        args.switch.unwrap_or_else(|| (args.minutes as u64 * minute.as_secs() / 6).clamp(5, 300));
    let database = stand.database("soak").await?;
    let enqueue = Enqueue::new(database.pool.clone());
    let mut senders = Vec::new();
    for n in 0..args.tenants.max(1) {
        let name = format!("t{n}");
        let scope = database.tenant(&name).await?;
        senders.push((scope, enqueue.submit(&scope, &submission(&name, "bulk")).await?.id));
    }
    let (sink, metrics) = (Sink::start().await?, free_address()?);
    let queue = format!("generation_switch = \"{switch}s\"");
    let wanted = Wanted {
        database: &database,
        route: relay(sink.address(), CONNECTIONS),
        api: free_address()?,
        metrics,
        queue: &queue,
        more: "",
    };
    let mut daemon = Program::daemon(&stand.configure("soak", &wanted)?, metrics).await?;
    say(&format!(
        "{}/s offered for {} minutes, generations switch every {switch} s",
        args.rate, args.minutes
    ));

    let offered = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let offering =
        tokio::spawn(offer(enqueue, senders, args.rate, Arc::clone(&offered), Arc::clone(&stop)));
    let minutes = watch(args, minute, &database, &mut daemon, metrics, &sink, &offered).await?;
    stop.store(true, Ordering::Relaxed);
    offering.await.context("the submissions' task")??;
    report(args, &minutes);
    daemon.stop().await?;
    database.pool.close().await;
    stand.drop("soak").await
}

/// Looks once a minute, and holds the snapshot in between.
async fn watch(
    args: &Args,
    minute: Duration,
    database: &Database,
    daemon: &mut Program,
    metrics: std::net::SocketAddr,
    sink: &Sink,
    offered: &AtomicU64,
) -> anyhow::Result<Vec<Minute>> {
    let third = args.minutes / 3;
    let mut observer = PgConnection::connect(&database.url).await?;
    let mut snapshot: Option<PgConnection> = None;
    let mut page = scrape(metrics).await?;
    let mut size = StoreSize::read(&mut observer).await?;
    let mut counted = (Instant::now(), offered.load(Ordering::Relaxed), sink.taken());
    let began = Instant::now();
    let mut minutes = Vec::new();
    for n in 0..args.minutes {
        if n == third {
            snapshot = Some(hold_snapshot(database).await?);
        } else if n == 2 * third {
            snapshot = None;
        }
        tokio::time::sleep_until((began + minute * (n as u32 + 1)).into()).await;
        daemon.check()?;
        let now_page = scrape(metrics).await?;
        let now_size = StoreSize::read(&mut observer).await?;
        let now = (Instant::now(), offered.load(Ordering::Relaxed), sink.taken());
        let seconds = (now.0 - counted.0).as_secs_f64();
        let settled = counter(&now_page, "postrider_settled_total")
            - counter(&page, "postrider_settled_total");
        let histogram =
            |name| Histogram::read(&now_page, name).since(&Histogram::read(&page, name));
        let one = Minute {
            snapshot: snapshot.is_some(),
            offered: (now.1 - counted.1) as f64 / seconds,
            mails: (now.2 - counted.2) as f64 / seconds,
            claims: histogram("postrider_claim_seconds"),
            settlements: histogram("postrider_settlement_seconds"),
            log_per_job: (now_size.wal - size.wal) / settled.max(1.0),
            kept_per_job: (now_size.kept - size.kept) / settled.max(1.0),
            size: now_size,
            resident: resident(daemon.pid()) as f64,
            behind: now.1.saturating_sub(now.2) as f64,
        };
        say(&format!(
            "minute {}: {:.0} mails/s, claim p99 {:.1} ms, hot {:.1} MB, {:.0} dead{}",
            n + 1,
            one.mails,
            one.claims.percentile(99.0),
            one.hot() / 1e6,
            one.size.dead,
            if one.snapshot { ", snapshot held" } else { "" }
        ));
        minutes.push(one);
        (page, size, counted) = (now_page, now_size, now);
    }
    Ok(minutes)
}

async fn hold_snapshot(database: &Database) -> anyhow::Result<PgConnection> {
    let mut connection = PgConnection::connect(&database.url).await?;
    sqlx::raw_sql("begin isolation level repeatable read; select count(*) from pg_class")
        .execute(&mut connection)
        .await?;
    Ok(connection)
}

/// Submits by the clock; what is late is made up for.
async fn offer(
    enqueue: Enqueue,
    senders: Vec<(TenantScope, MessageId)>,
    rate: u32,
    offered: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<()> {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / TICKS);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let each = u64::from(rate / TICKS).max(1);
    for number in 0_i32.. {
        ticks.tick().await;
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let mut recipients = Recipients::default();
        let first = number as u64 * each;
        for n in first..first + each {
            let payload = json!({"vars": {"name": format!("Reader {n}"), "n": n}}).to_string();
            recipients.push(format!("reader{n}@provider{}.example", n % 8), Some(payload));
        }
        let (scope, message) = &senders[number as usize % senders.len()];
        let digest = sha256(&number.to_be_bytes());
        enqueue
            .append(scope, *message, &Chunk { upload: None, number, digest, recipients })
            .await?;
        offered.fetch_add(each, Ordering::Relaxed);
    }
    Ok(())
}

fn report(args: &Args, minutes: &[Minute]) {
    let mut table = Table::new(
        "soak",
        &[
            "minute",
            "snapshot",
            "offered/s",
            "mails/s",
            "behind",
            "claim p50 ms",
            "claim p99 ms",
            "claim mean ms",
            "settlement p99 ms",
            "hot tables MB",
            "hot indexes MB",
            "dead rows",
            "WAL bytes/job",
            "kept bytes/job",
            "daemon MB",
        ],
    );
    for (n, one) in minutes.iter().enumerate() {
        table.row(vec![
            Cell::whole(n as f64 + 1.0),
            Cell::from(if one.snapshot { "held" } else { "-" }),
            Cell::whole(one.offered),
            Cell::whole(one.mails),
            Cell::whole(one.behind),
            Cell::tenth(one.claims.percentile(50.0)),
            Cell::tenth(one.claims.percentile(99.0)),
            Cell::hundredth(one.claims.mean()),
            Cell::tenth(one.settlements.percentile(99.0)),
            Cell::tenth(one.size.hot_tables / 1e6),
            Cell::tenth(one.size.hot_indexes / 1e6),
            Cell::whole(one.size.dead),
            Cell::whole(one.log_per_job),
            Cell::whole(one.kept_per_job),
            Cell::tenth(one.resident / 1e6),
        ]);
    }
    say(&table.to_string());
    // The first minute warms up; as many at the end as are left at the start.
    let third = args.minutes / 3;
    let start = if third > 1 { &minutes[1..third] } else { &minutes[..1] };
    let end = &minutes[minutes.len() - start.len()..];
    let rate = |some: &[Minute]| some.iter().map(|one| one.mails).sum::<f64>() / some.len() as f64;
    let p99 = |some: &[Minute]| {
        some.iter().fold(Histogram::default(), |sum, one| sum.and(&one.claims)).percentile(99.0)
    };
    let hot = |some: &[Minute]| some.iter().map(Minute::hot).fold(0.0, f64::max);
    let (rates, claims, sizes) =
        ((rate(start), rate(end)), (p99(start), p99(end)), (hot(start), hot(end)));
    verdict(
        rates.1 >= rates.0 * (1.0 - WITHIN),
        &format!(
            "mails/s at the start {:.0}, at the end {:.0} (target: within 10 %)",
            rates.0, rates.1
        ),
    );
    verdict(
        claims.1 <= claims.0 * (1.0 + WITHIN),
        &format!(
            "claim p99 at the start {:.2} ms, at the end {:.2} ms (target: within 10 %)",
            claims.0, claims.1
        ),
    );
    // The ring of generations must turn after the snapshot is gone, so the last minute counts.
    let last = minutes.last().map_or(0.0, Minute::hot);
    verdict(
        last <= sizes.0 * (1.0 + WITHIN) + SLACK,
        &format!(
            "hot tables and indexes at most {:.1} MB at the start, {:.1} MB after the snapshot, \
             {:.1} MB in the last minute (target: as at the start)",
            sizes.0 / 1e6,
            sizes.1 / 1e6,
            last / 1e6
        ),
    );
}
