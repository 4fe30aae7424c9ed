//! Promise: a database that crashes under load and comes back costs nothing but time: no
//! delivery is lost, none is doubled, and nobody has to help.

use crate::support::builders;
use crate::support::installation::Installation;
use postrider::cli::dev::binaries::Binaries;
use postrider::cli::dev::cluster::{Cluster, Durability, Stop};
use postrider::queue::migrate;
use sqlx::{Connection, PgConnection, PgPool};
use tempfile::TempDir;

const JOBS: usize = 2_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_crash_loses_and_doubles_nothing() {
    let folder = TempDir::new().expect("make a folder");
    let binaries = Binaries::find(None).unwrap_or_else(|error| panic!("{error}"));
    let cluster = Cluster::start(&folder.path().join("postgres"), Durability::Durable, &binaries)
        .unwrap_or_else(|error| panic!("{error}"));
    let mut admin = PgConnection::connect(&cluster.url("postgres")).await.expect("connect");
    sqlx::raw_sql("create database mail").execute(&mut admin).await.expect("create");
    let url = cluster.url("mail");
    let pool = PgPool::connect(&url).await.expect("connect");
    migrate::up(&pool).await.expect("migrate");
    pool.close().await;

    let home = Installation::on(url.clone()).await;
    let tenant = builders::tenant(&home.owner, "acme").await;
    home.submit(tenant, "bulk", &builders::recipients(JOBS, "example.org")).await;
    let daemon = home.daemon(&home.configure("")).await;
    for crash in 1..=2 {
        home.sink_has(crash * JOBS as u64 / 4).await;
        cluster.restart(Stop::Immediate).expect("crash and start again");
    }
    // The test's own connections broke as well.
    let owner = PgPool::connect(&url).await.expect("connect again");
    home.drained_as_seen_by(&owner, &daemon).await;

    let stats = home.sink.stats();
    assert_eq!(stats.distinct_recipients as usize, JOBS, "nothing was lost");
    assert_eq!(stats.duplicates, 0, "nothing was doubled");
    assert_eq!(builders::rows(&owner, "attempt where kind = 1").await as usize, JOBS);
    assert_eq!(daemon.terminate().await, Some(0));
}
