//! The private Postgres and the databases that tests get from it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use crate::support::postgres::{Role, TestDb};
use postrider::cli::dev::binaries::Binaries;
use postrider::cli::dev::cluster::{Cluster, Durability, Stop};
use sqlx::{Connection, PgConnection};

#[tokio::test]
async fn every_test_has_a_database_of_its_own_with_the_roles() {
    let (one, two) = (TestDb::new().await, TestDb::new().await);
    assert_ne!(one.url(), two.url());
    let worker = one.pool(Role::Worker).await;
    sqlx::query("insert into postrider.block values ('T', 1, now(), 'x')")
        .execute(&worker)
        .await
        .unwrap();
    let other = two.pool(Role::Operator).await;
    let rows: i64 =
        sqlx::query_scalar("select count(*) from postrider.block").fetch_one(&other).await.unwrap();
    assert_eq!(rows, 0);
    let api = one.pool(Role::Api).await;
    assert!(sqlx::query("select * from postrider.cron_fire").execute(&api).await.is_err());
}

#[tokio::test]
async fn a_database_goes_with_its_value() {
    let db = TestDb::new().await;
    let url = db.url();
    drop(db);
    assert!(PgConnection::connect(&url).await.is_err());
}

#[tokio::test]
async fn a_cluster_starts_on_old_data_and_after_a_crash_and_ends_with_its_value() {
    let binaries = Binaries::find(None).unwrap();
    let home = tempfile::Builder::new().permissions(open_to_all()).tempdir().unwrap();
    let ask = async |cluster: &Cluster, statement: &'static str| {
        let mut connection = PgConnection::connect(&cluster.url("postgres")).await.unwrap();
        sqlx::query_scalar::<_, i32>(statement).fetch_one(&mut connection).await.unwrap()
    };
    let start = || Cluster::start(home.path(), Durability::Durable, &binaries).unwrap();

    let cluster = start();
    ask(&cluster, "select 1 from set_config('x.y', '1', false)").await;
    let mut connection = PgConnection::connect(&cluster.url("postgres")).await.unwrap();
    sqlx::query("create table kept as select 7 as n").execute(&mut connection).await.unwrap();
    cluster.restart(Stop::Immediate).unwrap();
    assert_eq!(ask(&cluster, "select n from kept").await, 7);

    // As if we had been killed: the server runs, its value is gone.
    let first = cluster.pid().unwrap();
    std::mem::forget(cluster);
    let cluster = start();
    assert_ne!(cluster.pid().unwrap(), first);
    assert_eq!(ask(&cluster, "select n from kept").await, 7);

    let url = cluster.url("postgres");
    drop(cluster);
    assert!(PgConnection::connect(&url).await.is_err());
}

fn open_to_all() -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o755)
}
