//! Promise: a database that was restored from a backup sends nothing again that may have been
//! sent since the backup was made, before somebody decides; and nothing of the backup is lost.

use std::process::{Command, Stdio};

use crate::support::builders;
use crate::support::command;
use crate::support::installation::Installation;
use postrider::cli::dev::binaries::Binaries;
use serde_json::Value;
use sqlx::{Connection, PgConnection, PgPool};

const JOBS: usize = 300;

fn tool(url: &str, args: &[&str]) -> Value {
    let output = command::command(url, &[args, &["--json"]].concat()).output().expect("run");
    let ran = command::ran(&output);
    assert_eq!(ran.code, 0, "{args:?}: {}", ran.err);
    serde_json::from_str(&ran.out).expect("JSON")
}

/// A dump of `from`, restored as `to`.
fn copy(from: &str, to: &str) {
    let binaries = Binaries::find(None).expect("Postgres");
    let mut dump = Command::new(binaries.program("pg_dump"))
        .args(["--format=plain", from])
        .stdout(Stdio::piped())
        .spawn()
        .expect("start pg_dump");
    let restored = Command::new(binaries.program("psql"))
        .args(["--quiet", "--no-psqlrc", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", to])
        .stdin(dump.stdout.take().expect("a pipe"))
        .status()
        .expect("run psql");
    assert!(restored.success() && dump.wait().expect("reap").success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_database_sends_nothing_again_unasked() {
    let home = Installation::new(None).await;
    let tenant = builders::tenant(&home.owner, "acme").await;
    home.submit(tenant, "bulk", &builders::recipients(JOBS, "example.org")).await;
    // The backup is of a moment at which a third has gone.
    let slow = home.configure("[[throttle]]\nscope = \"tenant\"\nrate = \"100/s\"\nburst = 1\n");
    let daemon = home.daemon(&slow).await;
    home.sink_has(JOBS as u64 / 3).await;
    daemon.kill();

    let url = home.database().url();
    let name = url.strip_prefix("postgres:///").and_then(|rest| rest.split('?').next());
    let name = name.expect("a name");
    let restored = format!("{name}_restored");
    let mut admin = PgConnection::connect(&url).await.expect("connect");
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("create database {restored}")))
        .execute(&mut admin)
        .await
        .expect("create");
    let restored_url = url.replacen(name, &restored, 1);
    copy(&url, &restored_url);

    // Life goes on after the backup, and its record is lost.
    let daemon = home.daemon(&home.configure("")).await;
    home.drained(&daemon).await;
    assert_eq!(daemon.terminate().await, Some(0));
    let sent = home.sink.stats().accepted;
    assert!(sent >= JOBS as u64);

    let reason = ["--reason", "test"];
    let would = tool(&restored_url, &[&["recover", "--dry-run"][..], &reason].concat());
    let held = tool(&restored_url, &[&["recover"][..], &reason].concat());
    assert_eq!(would["held"], held["held"], "a dry run counts what is done");
    let count = |key: &str| held["held"][key].as_u64().expect("a number");
    let all = count("ready") + count("in_hand") + count("deferred");
    assert!(all > 0 && count("sessions") > 0, "{held}");

    // A daemon on it sends nothing of that, and everything new.
    let pool = PgPool::connect(&restored_url).await.expect("connect");
    let place = Installation::on(restored_url.clone()).await;
    let config = place.configure("");
    let daemon = place.daemon(&config).await;
    builders::submit(&pool, tenant, "acme", "bulk", &["new@example.net".to_owned()]).await;
    place.sink_has(1).await;
    place.drained(&daemon).await;
    assert_eq!(place.sink.stats().accepted, 1, "only what is new");

    let listed = tool(&restored_url, &["doubt", "list", "--held", "--limit", "1000"]);
    assert_eq!(listed.as_array().expect("a list").len() as u64, all, "all are shown");
    let ended = builders::rows(&pool, "attempt where kind = 1").await as u64;
    assert_eq!(ended - 1 + all, JOBS as u64, "nothing of the backup is lost");

    // Somebody decides: sent again, flagged, and the books add up.
    let decide = ["doubt", "resolve", "--all-before", "2100-01-01T00:00:00Z", "--resend"];
    tool(&restored_url, &[&decide[..], &reason].concat());
    place.sink_has(1 + all).await;
    place.drained(&daemon).await;
    let flagged = builders::rows(&pool, "attempt where kind = 1 and in_doubt").await as u64;
    assert_eq!(flagged, all, "every mail that may have come twice says so");
    tool(&restored_url, &["audit"]);
    assert_eq!(daemon.terminate().await, Some(0));
    pool.close().await;
    drop(place);
    let gone = sqlx::AssertSqlSafe(format!("drop database if exists {restored} with (force)"));
    sqlx::raw_sql(gone).execute(&mut admin).await.expect("drop");
}
