//! What a long list of suppressions costs: the check of a batch right behind its claim, and the
//! one inside a submission, by the product's own functions as its own roles; and how fast a file
//! comes in.

use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use chrono::{DateTime, Utc};
use postrider::config::Suppression;
use postrider::config::secret::Secret;
use postrider::domain::clock::Clock;
use postrider::domain::ids::{DeliveryId, Hold, LaneId, MessageId};
use postrider::queue::Generation;
use postrider::queue::job::{Bar, Job};
use postrider::queue::screening::bar_suppressed;
use postrider::tenant::isolation::TenantScope;
use postrider::tenant::suppression::{
    Decoder, Format, Importer, Keeper, List, Mode, Probes, Whose,
};
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Executor, PgPool};

use crate::stand::{Database, Stand};
use crate::table::{Cell, Table};
use crate::times::Times;
use crate::{say, verdict};

/// Entries written by one statement.
const PART: u64 = 50_000;

/// Domains of the recipients.
const DOMAINS: u64 = 1_000;

/// Of so many recipients one is on the list.
const LISTED_OF: u64 = 10;

/// Milliseconds that a check may take.
const LIMIT: f64 = 10.0;

/// A key of hashes: worth nothing, the database is thrown away.
const KEY: &str = "YmVuY2ggYmVuY2ggYmVuY2ggYmVuY2ggYmVuY2ggYiE=";

/// How long the list is.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Entries on the list of one tenant; a tenth as many on others' lists.
    #[arg(long, default_value_t = 200_000, value_name = "N")]
    entries: u64,
    /// Recipients of a check.
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    batch: u64,
    /// Checks of each kind.
    #[arg(long, default_value_t = 200, value_name = "N")]
    rounds: u32,
    /// Lines that are imported.
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    lines: u64,
}

/// One form of the list.
struct Stocked {
    keeper: Keeper,
    tenant: TenantScope,
    worker: PgPool,
    api: PgPool,
    database: Database,
}

/// Measures, prints, judges.
pub(crate) async fn run(stand: &Stand, args: &Args) -> anyhow::Result<()> {
    ensure!(args.entries >= DOMAINS && args.batch > 0 && args.rounds > 0, "expected more");
    let mut table = Table::new(
        "suppressions",
        &[
            "entries",
            "form",
            "check",
            "batch",
            "first ms",
            "p50 ms",
            "p99 ms",
            "max ms",
            "index MB",
            "import lines/s",
        ],
    );
    let mut slowest: f64 = 0.0;
    for (form, hashed) in [("clear", false), ("hashed", true)] {
        let stocked = Stocked::new(stand, hashed, args).await?;
        let index = stocked.index_megabytes().await?;
        let lines = stocked.import(args.lines).await?;
        for check in ["claim", "submission"] {
            let mut times = Vec::new();
            for _ in 0..=args.rounds {
                times.push(match check {
                    "claim" => stocked.check_claimed(args).await?,
                    _ => stocked.check_submitted(args).await?,
                });
            }
            let first = times.remove(0);
            let times: Times = times.into_iter().collect();
            let p99 = times.percentile(99.0);
            slowest = slowest.max(p99);
            table.row(vec![
                Cell::whole(args.entries as f64),
                form.into(),
                check.into(),
                Cell::whole(args.batch as f64),
                Cell::hundredth(first.as_secs_f64() * 1e3),
                Cell::hundredth(times.percentile(50.0)),
                Cell::hundredth(p99),
                Cell::hundredth(times.percentile(100.0)),
                Cell::whole(index),
                Cell::whole(lines),
            ]);
        }
        drop(stocked);
        stand.drop("suppressions").await?;
    }
    say(&table.to_string());
    let what = format!("a check of {} in {slowest:.2} ms (p99), {LIMIT} ms allowed", args.batch);
    verdict(slowest < LIMIT, &what);
    Ok(())
}

impl Stocked {
    async fn new(stand: &Stand, hashed: bool, args: &Args) -> anyhow::Result<Self> {
        let database = stand.database("suppressions").await?;
        let tenant = database.tenant("bench").await?;
        let settings =
            Suppression { hashed, key: hashed.then(|| Secret::new(KEY)), ..Suppression::default() };
        let stocked = Self {
            keeper: Keeper::new(&settings),
            tenant,
            worker: acting_as(&database.url, "postrider_worker").await?,
            api: acting_as(&database.url, "postrider_api").await?,
            database,
        };
        sqlx::raw_sql("insert into postrider.stream(tenant_id, name) select tenant_id, 'bulk' from postrider.tenant;
                       insert into postrider.lane(tenant_id, pool_id, prio, stream_id)
                       select tenant_id, 0, 3, stream_id from postrider.stream")
            .execute(&stocked.database.pool)
            .await?;
        let began = Instant::now();
        stocked.fill(tenant.tenant().get(), 0, args.entries).await?;
        stocked.fill(tenant.tenant().get() + 1, 0, args.entries / 10).await?;
        stocked.fill(0, args.entries, 1_000).await?;
        stocked.database.settle_down().await?;
        say(&format!("filled in {:.0} s", began.elapsed().as_secs_f64()));
        Ok(stocked)
    }

    async fn fill(&self, tenant: i64, first: u64, entries: u64) -> anyhow::Result<()> {
        let mut n = first;
        while n < first + entries {
            let until = (n + PART).min(first + entries);
            let addresses: Vec<String> =
                (n..until).map(|n| self.keeper.recipient(&listed(n))).collect();
            sqlx::query(
                "insert into postrider.suppression(tenant_id, address, reason, source)
                 select $1, a, 'complaint', 'report' from unnest($2::text[]) a",
            )
            .bind(tenant)
            .bind(addresses)
            .execute(&self.database.pool)
            .await?;
            n = until;
        }
        Ok(())
    }

    /// Recipients of a batch: one in ten is on the list.
    fn recipients(args: &Args) -> Vec<String> {
        (0..args.batch)
            .map(|n| (n, rand::random::<u64>()))
            .map(
                |(n, drawn)| {
                    if n % LISTED_OF == 0 { listed(drawn % args.entries) } else { free(drawn) }
                },
            )
            .collect()
    }

    async fn check_claimed(&self, args: &Args) -> anyhow::Result<Duration> {
        let mut jobs: Vec<Job> =
            Self::recipients(args).into_iter().map(|to| self.job(to)).collect();
        let began = Instant::now();
        bar_suppressed(&self.worker, &self.keeper, &mut jobs).await?;
        let took = began.elapsed();
        let barred = jobs.iter().filter(|job| job.bar == Some(Bar::Suppressed)).count() as u64;
        ensure!(barred == args.batch.div_ceil(LISTED_OF), "found {barred} of them");
        Ok(took)
    }

    async fn check_submitted(&self, args: &Args) -> anyhow::Result<Duration> {
        let recipients = Self::recipients(args);
        let (tenant, keeper) = (self.tenant, self.keeper.clone());
        let began = Instant::now();
        let held: Vec<i32> = tenant
            .run(&self.api, move |conn| {
                Box::pin(async move {
                    let probes = Probes::new(&keeper, &recipients);
                    sqlx::query_scalar("select postrider.held_recipients($1, 'bulk', $2, $3, $4)")
                        .bind(tenant.tenant().get())
                        .bind(&recipients)
                        .bind(&probes.of)
                        .bind(&probes.forms)
                        .fetch_one(conn)
                        .await
                })
            })
            .await?;
        let took = began.elapsed();
        ensure!(held.len() as u64 == args.batch.div_ceil(LISTED_OF), "found {}", held.len());
        Ok(took)
    }

    /// Lines a second of a file onto the tenant's list.
    async fn import(&self, lines: u64) -> anyhow::Result<f64> {
        let list = List {
            pool: self.api.clone(),
            whose: Whose::Tenant(self.tenant),
            keeper: self.keeper.clone(),
        };
        let now = DateTime::<Utc>::from(Clock::System.now());
        let mut importer = Importer::new(list, Mode::EachLine, None, "imported".into(), now);
        let mut decoder = Decoder::new(Format::Csv);
        let mut found = Vec::new();
        let mut text = String::from("email,created\r\n");
        let began = Instant::now();
        for n in 0..lines {
            write!(text, "new{n}@d{}.example,1\r\n", n % DOMAINS)?;
            if text.len() > 64 << 10 || n + 1 == lines {
                decoder.feed(text.as_bytes(), &mut found)?;
                importer.take(&mut found).await?;
                text.clear();
            }
        }
        decoder.finish(&mut found)?;
        importer.take(&mut found).await?;
        let summary = importer.finish().await?;
        ensure!(summary.added == lines, "added {} of {lines}", summary.added);
        Ok(lines as f64 / began.elapsed().as_secs_f64())
    }

    async fn index_megabytes(&self) -> anyhow::Result<f64> {
        let bytes: f64 =
            sqlx::query_scalar("select pg_relation_size('postrider.suppression_pkey')::float8")
                .fetch_one(&self.database.pool)
                .await?;
        Ok(bytes / f64::from(1 << 20))
    }

    fn job(&self, to: String) -> Job {
        Job {
            id: DeliveryId::new(1),
            message: MessageId::new(1),
            tenant: self.tenant.tenant(),
            lane: LaneId::new(1),
            generation: Generation::PARKED,
            hold: Hold::new(1),
            attempt: 1,
            suspect: false,
            doubt: None,
            bar: None,
            listed: self.keeper.recipient(&to),
            recipient: to,
            payload: None,
            waited: Duration::ZERO,
            claimed_at: Instant::now(),
        }
    }
}

async fn acting_as(url: &str, role: &'static str) -> anyhow::Result<PgPool> {
    PgPoolOptions::new()
        .max_connections(2)
        .after_connect(move |conn, _| {
            Box::pin(async move {
                conn.execute(AssertSqlSafe(format!("set role {role}"))).await.map(drop)
            })
        })
        .connect(url)
        .await
        .with_context(|| format!("cannot act as {role}"))
}

fn listed(n: u64) -> String {
    format!("recipient{n}@d{}.example", n % DOMAINS)
}

fn free(n: u64) -> String {
    format!("other{n}@d{}.example", n % DOMAINS)
}
