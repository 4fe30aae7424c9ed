//! Where all are measured: one private Postgres, a fresh database for each round, and what
//! the database and the kernel count.

use std::time::{Duration, Instant};

use anyhow::Context;
use postrider::cli::dev::binaries::Binaries;
use postrider::cli::dev::cluster::{Cluster, Durability};
use sqlx::{Connection, PgConnection};

use crate::{Args, usage};

/// Time for the database's statistics of ended transactions to arrive.
const STATISTICS: Duration = Duration::from_millis(1_500);

/// Longest wait for the jobs of a round to be worked off.
pub(crate) const PATIENCE: Duration = Duration::from_mins(10);

/// The cluster.
pub(crate) struct Stand {
    cluster: Cluster,
    postmaster: u32,
    major: u32,
}

/// What one system reached in one round.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    /// Jobs stored per second.
    pub(crate) enqueued_per_second: f64,
    /// Jobs claimed, handled and settled per second.
    pub(crate) settled_per_second: f64,
    /// CPU of Postgres per job stored, in microseconds.
    pub(crate) enqueue_micros: f64,
    /// CPU of Postgres per job worked off, in microseconds.
    pub(crate) work_micros: f64,
    /// CPU of this process per job worked off, in microseconds.
    pub(crate) client_micros: f64,
    /// Row versions that died per job, over both.
    pub(crate) dead_made: f64,
    /// Dead rows that lie in the tables at the end.
    pub(crate) dead_left: f64,
    /// Log written per job, over both.
    pub(crate) wal_bytes: f64,
}

/// A point in time, as counted.
#[derive(Debug, Clone, Copy)]
struct Point {
    at: Instant,
    postgres: Duration,
    client: Duration,
    wal: f64,
}

/// A round in progress.
pub(crate) struct Round<'s> {
    stand: &'s Stand,
    database: PgConnection,
    /// Its address.
    pub(crate) url: String,
    points: Vec<Point>,
}

impl Stand {
    /// Starts Postgres.
    pub(crate) fn start(args: &Args) -> anyhow::Result<Self> {
        let folder = std::env::current_dir()?.join(&args.folder);
        let binaries = Binaries::find(args.pg_bin.as_deref())?;
        let cluster = Cluster::start(&folder, Durability::Durable, &binaries)?;
        let postmaster = cluster.pid()?;
        Ok(Self { cluster, postmaster, major: binaries.major() })
    }

    /// Its version.
    pub(crate) fn postgres(&self) -> u32 {
        self.major
    }

    /// A fresh database of this name; what the one before left to write is written first.
    pub(crate) async fn round(&self, name: &str) -> anyhow::Result<Round<'_>> {
        let mut admin = PgConnection::connect(&self.cluster.url("postgres")).await?;
        for statement in [
            format!("drop database if exists {name} with (force)"),
            format!("create database {name}"),
            "checkpoint".to_owned(),
        ] {
            sqlx::raw_sql(sqlx::AssertSqlSafe(statement.clone()))
                .execute(&mut admin)
                .await
                .context(statement)?;
        }
        let url = self.cluster.url(name);
        let database = PgConnection::connect(&url).await?;
        Ok(Round { stand: self, database, url, points: Vec::new() })
    }
}

impl Round<'_> {
    /// Marks the beginning of the storing, then its end, then the beginning of the work and its end.
    pub(crate) async fn mark(&mut self) -> anyhow::Result<()> {
        let wal: f64 = sqlx::query_scalar("select (pg_current_wal_insert_lsn() - '0/0')::float8")
            .fetch_one(&mut self.database)
            .await?;
        self.points.push(Point {
            at: Instant::now(),
            postgres: usage::cpu_of_family(self.stand.postmaster),
            client: usage::cpu(std::process::id()),
            wal,
        });
        Ok(())
    }

    /// What was measured between the four marks, for `jobs` jobs.
    pub(crate) async fn end(mut self, jobs: u32) -> anyhow::Result<Measured> {
        let [stored, full, begun, done] = self.points[..] else {
            anyhow::bail!("expected four marks, found {}", self.points.len());
        };
        tokio::time::sleep(STATISTICS).await;
        let (made, left): (f64, f64) = sqlx::query_as(
            "select sum(n_tup_upd + n_tup_del)::float8, sum(n_dead_tup)::float8 from pg_stat_user_tables",
        )
        .fetch_one(&mut self.database)
        .await?;
        let jobs = f64::from(jobs);
        let micros =
            |from: Duration, to: Duration| to.saturating_sub(from).as_secs_f64() * 1e6 / jobs;
        let rate = |from: Point, to: Point| jobs / (to.at - from.at).as_secs_f64();
        Ok(Measured {
            enqueued_per_second: rate(stored, full),
            settled_per_second: rate(begun, done),
            enqueue_micros: micros(stored.postgres, full.postgres),
            work_micros: micros(begun.postgres, done.postgres),
            client_micros: micros(begun.client, done.client),
            dead_made: made / jobs,
            dead_left: left,
            wal_bytes: (full.wal - stored.wal + done.wal - begun.wal) / jobs,
        })
    }
}

/// The payload of a job: the same bytes for every system.
pub(crate) fn payload(n: u32, bytes: usize) -> String {
    let mut text = format!("Dear reader {n}, ");
    while text.len() < bytes {
        text.push_str("lorem ipsum dolor sit amet ");
    }
    text.truncate(bytes);
    text
}

/// The first job of each statement that stores some, divided among workers.
pub(crate) fn batches(args: &Args, worker: u32) -> Vec<std::ops::Range<u32>> {
    (0..args.jobs)
        .step_by(args.enqueue_batch.max(1) as usize)
        .map(|first| first..args.jobs.min(first + args.enqueue_batch.max(1)))
        .enumerate()
        .filter(|(n, _)| *n as u32 % args.workers.max(1) == worker)
        .map(|(_, batch)| batch)
        .collect()
}
