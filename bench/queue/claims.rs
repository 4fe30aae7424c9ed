//! Claims and settlements a second, by the library's own functions and several replicas, with
//! little waiting and with much of which most is blocked. Both databases take turns in one
//! run, so that whatever else the machine does meets both.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use postrider::domain::ids::LaneId;
use postrider::queue::Generation;
use sqlx::PgPool;
use tokio::task::JoinSet;

use crate::fill::{Filled, Layout, check_room, fill};
use crate::plan::{self, Buffers};
use crate::replica::Replica;
use crate::stand::{Database, Stand};
use crate::table::{Cell, Table};
use crate::{say, usage, verdict};

/// Tenants; one in ten is not blocked.
pub(crate) const TENANTS: usize = 100;

/// Tenants that are not blocked.
pub(crate) const OPEN: usize = TENANTS / 10;

/// Streams of each tenant.
pub(crate) const STREAMS: usize = 5;

/// Deliveries that wait in the shallow database.
const SHALLOW: u64 = 100_000;

/// Claims that are explained at each depth.
const EXPLAINED: usize = 10;

/// Share of the rate that must be kept at the greater depth.
const KEPT: f64 = 0.95;

/// What may grow in buffers before we say that they grow.
const BUFFER_GROWTH: f64 = 1.05;

/// How many claims.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Deliveries that wait in the deep database; nine in ten are in blocked lanes.
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    pub(crate) waiting: u64,
    /// Deliveries that wait in the shallow database, none of them blocked; left out: 100,000,
    /// or as many as the deep one has in open lanes, if these are fewer.
    #[arg(long, value_name = "N")]
    shallow: Option<u64>,
    /// Rounds; in each both databases take their turn.
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub(crate) rounds: u32,
    /// Deliveries claimed and settled in a turn.
    #[arg(long, default_value_t = 20_000, value_name = "N")]
    jobs: u64,
    /// Sessions that claim at the same time.
    #[arg(long, default_value_t = 2, value_name = "N")]
    replicas: u32,
    /// Lanes of a claim.
    #[arg(long, default_value_t = 20, value_name = "N")]
    lanes: usize,
    /// Deliveries taken from each of them.
    #[arg(long, default_value_t = 25, value_name = "N")]
    per_lane: u32,
    /// Measure postriderd instead: mails a second with the blocked rest and without it.
    #[arg(long)]
    pub(crate) daemon: bool,
    /// Seconds of each turn of the daemon.
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub(crate) seconds: u64,
}

/// One of the two.
struct Side {
    name: &'static str,
    waiting: u64,
    tenants: usize,
    database: Database,
    filled: Filled,
    lanes: Vec<LaneId>,
    /// Place in `lanes` where the next turn begins.
    next: usize,
    turns: Vec<Turn>,
}

/// What one turn reached.
#[derive(Debug, Clone, Copy)]
struct Turn {
    claims: f64,
    settled: f64,
    postgres: Duration,
}

/// Measures, prints, judges.
pub(crate) async fn run(stand: &Stand, args: &Args) -> anyhow::Result<()> {
    ensure!(args.rounds > 0 && args.lanes > 0 && args.per_lane > 0, "expected counts above 0");
    let shallow = args.shallow.unwrap_or_else(|| SHALLOW.min(args.waiting / 10));
    check_room(stand, args.waiting + shallow)?;
    let mut sides = [
        Side::new(stand, "shallow", OPEN, shallow).await?,
        Side::new(stand, "deep", TENANTS, args.waiting).await?,
    ];
    for round in 0..=args.rounds as usize {
        for n in 0..2 {
            // The other one begins in each round.
            let side = &mut sides[(n + round) % 2];
            let turn = side.turn(stand, args).await?;
            if round > 0 {
                say(&format!("round {round}: {}: {:.0} settled/s", side.name, turn.settled));
                side.turns.push(turn);
            }
        }
    }
    let mut table = Table::new(
        "claims",
        &[
            "waiting",
            "blocked %",
            "lanes",
            "replicas",
            "claims/s",
            "claim+settle/s",
            "Postgres us/job",
            "buffers to find",
            "buffers/claim",
            "blocks read/claim",
        ],
    );
    let mut buffers = Vec::new();
    for side in &mut sides {
        let measured = side.buffers(args).await?;
        let [claims, settled, micros] = side.medians();
        let blocked = if side.tenants == OPEN { 0.0 } else { 90.0 };
        table.row(vec![
            Cell::whole(side.waiting as f64),
            Cell::whole(blocked),
            Cell::whole(side.lanes.len() as f64 * side.tenants as f64 / OPEN as f64),
            Cell::whole(f64::from(args.replicas)),
            Cell::tenth(claims),
            Cell::whole(settled),
            Cell::tenth(micros),
            Cell::whole(measured.finding),
            Cell::whole(measured.all),
            Cell::whole(measured.read),
        ]);
        buffers.push(measured);
    }
    say(&table.to_string());
    let kept = sides[1].medians()[1] / sides[0].medians()[1];
    verdict(
        kept >= KEPT,
        &format!("deep / shallow = {:.1} % of the rate (target: at least 95 %)", kept * 100.0),
    );
    let grown = buffers[1].all / buffers[0].all;
    verdict(
        grown <= BUFFER_GROWTH,
        &format!("buffers of a claim, deep / shallow = {grown:.2} (target: no growth)"),
    );
    for side in sides {
        side.database.pool.close().await;
        stand.drop(side.name).await?;
    }
    Ok(())
}

impl Side {
    async fn new(
        stand: &Stand,
        name: &'static str,
        tenants: usize,
        waiting: u64,
    ) -> anyhow::Result<Self> {
        let database = stand.database(name).await?;
        let (filled, took) =
            fill(stand, &database, Layout { tenants, streams: STREAMS, rows: waiting }).await?;
        database.settle_down().await?;
        say(&format!("{name}: {waiting} rows in {took:.1?}"));
        let lanes = filled.lanes(&database, OPEN).await?;
        Ok(Self { name, waiting, tenants, database, filled, lanes, next: 0, turns: Vec::new() })
    }

    /// Claims and settles, then fills up again what was taken.
    async fn turn(&mut self, stand: &Stand, args: &Args) -> anyhow::Result<Turn> {
        let current = Generation::try_new(0).context("the first generation")?;
        let postmaster = stand.postmaster()?;
        let share = args.jobs.div_ceil(u64::from(args.replicas));
        let mut replicas = Vec::new();
        for n in 0..args.replicas as usize {
            let begin = self.next + n * self.lanes.len() / args.replicas as usize;
            let replica = Replica::open(&self.database.pool, current).await?;
            replicas.push((replica, begin));
        }
        let before = usage::cpu_of_family(postmaster);
        let started = Instant::now();
        let mut running = JoinSet::new();
        for (mut replica, mut at) in replicas {
            let (lanes, wanted, per_lane) = (self.lanes.clone(), args.lanes, args.per_lane);
            running.spawn(async move {
                let (mut claims, mut settled, mut empty) = (0_u32, 0_u64, 0);
                while settled < share && empty < lanes.len() {
                    let some: Vec<LaneId> =
                        (at..at + wanted).map(|n| lanes[n % lanes.len()]).collect();
                    at += wanted;
                    let got = replica.turn(&some, per_lane).await?;
                    empty = if got == 0 { empty + wanted } else { 0 };
                    claims += 1;
                    settled += got as u64;
                }
                replica.close().await?;
                anyhow::Ok((claims, settled))
            });
        }
        let (mut claims, mut settled) = (0, 0);
        while let Some(ended) = running.join_next().await {
            let (some_claims, some_settled) = ended??;
            claims += some_claims;
            settled += some_settled;
        }
        let took = started.elapsed().as_secs_f64();
        let postgres = usage::cpu_of_family(postmaster).saturating_sub(before);
        ensure!(
            settled >= args.jobs,
            "expected {} jobs in {}, found {settled}",
            args.jobs,
            self.name
        );
        self.next +=
            args.lanes * (args.jobs / u64::from(args.per_lane) / args.lanes as u64) as usize;
        self.filled.top_up(&self.database, OPEN, settled).await?;
        Ok(Turn {
            claims: f64::from(claims) / took,
            settled: settled as f64 / took,
            postgres: postgres / u32::try_from(settled)?,
        })
    }

    /// Claims a second, jobs a second, microseconds of Postgres per job.
    fn medians(&self) -> [f64; 3] {
        let of = |take: fn(&Turn) -> f64| {
            let mut all: Vec<f64> = self.turns.iter().map(take).collect();
            all.sort_by(f64::total_cmp);
            all[all.len() / 2]
        };
        [
            of(|turn| turn.claims),
            of(|turn| turn.settled),
            of(|turn| turn.postgres.as_secs_f64() * 1e6),
        ]
    }

    /// What claims of the same shape touch, on average.
    async fn buffers(&mut self, args: &Args) -> anyhow::Result<Buffers> {
        let pool: &PgPool = &self.database.pool;
        let mut sum = Buffers::default();
        for n in 0..EXPLAINED {
            let lanes: Vec<LaneId> = (0..args.lanes)
                .map(|lane| self.lanes[(self.next + n * args.lanes + lane) % self.lanes.len()])
                .collect();
            sum = sum + plan::of_claim(pool, &lanes, args.per_lane).await?;
        }
        Ok(sum / EXPLAINED as f64)
    }
}
