//! Promise: `/scale` counts apart what could be sent, what waits for a limit, for an operator
//! and for its time; it suggests replicas for the first alone, and every replica says the same.

use crate::support::builders;
use crate::support::command::postrider;
use crate::support::installation::Installation;
use crate::support::postgres::{Role, TestDb};
use postrider::config::Scale;
use postrider::maintenance::scale::report::Report;
use postrider::queue::backlog;
use serde_json::Value;
use sqlx::PgPool;
use std::time::Duration;

/// One tenant's mail is limited, and replicas are counted quickly.
const CONFIG: &str = r#"
[[mailbox_provider]]
name = "slow"
domains = ["slow.example"]

[[throttle]]
scope = "mailbox_provider"
mailbox_provider = "slow"
rate = "1/s"
burst = 1

[scale]
target_drain = "2s"
max_replicas = 7
hold = "1s"
"#;

async fn submit(home: &Installation, tenant: i64, stream: &str, n: usize, domain: &str) {
    home.submit(tenant, stream, &builders::recipients(n, domain)).await;
}

/// Mail of `tenant` that waits for its time.
async fn schedule(owner: &PgPool, tenant: i64, n: usize) {
    sqlx::query(
        "select postrider.submit($1, 'acme.example', 'bulk', '{}', now() + interval '1 hour', null, $2, $3)",
    )
    .bind(tenant)
    .bind(builders::recipients(n, "later.example"))
    .bind(vec![None::<String>; n])
    .execute(owner)
    .await
    .expect("schedule");
}

fn count(scale: &Value, path: &str) -> u64 {
    scale.pointer(path).and_then(Value::as_u64).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_is_counted_by_what_it_waits_for_and_two_daemons_agree() {
    let home = Installation::new(None).await;
    let tenant = builders::tenant(&home.owner, "acme").await;
    let paused = ["queue", "pause", "--tenant", "acme", "--stream", "held", "--reason", "test"];
    submit(&home, tenant, "held", 70, "example.org").await;
    let ran = postrider(home.database(), &paused);
    assert_eq!(ran.code, 0, "{}", ran.err);
    schedule(&home.api, tenant, 30).await;
    let config = home.configure(CONFIG);
    let (one, two) = (home.daemon(&config).await, home.daemon(&config).await);
    submit(&home, tenant, "bulk", 300, "slow.example").await;
    submit(&home, tenant, "transactional", 200, "slow.example").await;

    let told = |scale: &Value| {
        count(scale, "/bulk/blocked/rate/count") > 200
            && count(scale, "/transactional/blocked/rate/count") > 150
            && count(scale, "/replicas/living") == 2
            && count(scale, "/all/sendable/count") == 0
            // One that was put back for a moment is among them until it is due.
            && count(scale, "/bulk/scheduled/count") == 30
            && count(scale, "/transactional/scheduled/count") == 0
    };
    for daemon in [&one, &two] {
        let scale = daemon.scale_becomes("limited", told).await;
        assert_eq!(count(&scale, "/bulk/blocked/paused/count"), 70, "{scale:#}");
        assert_eq!(count(&scale, "/bulk/scheduled/count"), 30, "{scale:#}");
        assert_eq!(count(&scale, "/transactional/scheduled/count"), 0);
        let parts =
            ["/all/blocked/rate/count", "/all/blocked/paused/count", "/all/scheduled/count"];
        let sum: u64 = parts.iter().map(|part| count(&scale, part)).sum();
        assert_eq!(count(&scale, "/all/depth/count"), sum, "{scale:#}");
        let limit = &scale["limits"][0];
        assert_eq!(limit["limit"], "mailbox provider slow", "{scale:#}");
        assert_eq!(limit["allows"], "1/s");
        let seconds = limit["seconds"].as_f64().expect("a time");
        assert!((300.0..=500.0).contains(&seconds), "about one for each: {scale:#}");
        assert!(count(&scale, "/replicas/suggested") <= 2, "limits ask for nobody: {scale:#}");
    }
    one.metric_reaches(
        "postrider_backlog_blocked{cell=\"main\",class=\"bulk\",reason=\"rate\"}",
        200.0,
    )
    .await;
    assert_eq!(
        two.metric("postrider_replicas{cell=\"main\",kind=\"living\"}").await.max(1.0) as u32,
        2
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suggestion_follows_what_can_be_sent() {
    let slow = "slow=100,delay=20".parse().expect("a fault mix");
    let home = Installation::new(Some(slow)).await;
    let tenant = builders::tenant(&home.owner, "acme").await;
    // So small and slow a daemon has a backlog that it cannot drain in time.
    let config = home.configure_worker("concurrency = 2\ntenant_concurrency = 2", CONFIG);
    let daemon = home.daemon(&config).await;
    daemon.scale_becomes("idle", |scale| count(scale, "/replicas/suggested") == 1).await;
    submit(&home, tenant, "bulk", 3_000, "example.org").await;
    let scale =
        daemon.scale_becomes("hungry", |scale| count(scale, "/replicas/suggested") > 1).await;
    assert!(count(&scale, "/bulk/sendable/count") > 0, "{scale:#}");
    assert!(scale["replicas"]["capacity_per_second"].as_f64().is_some_and(|n| n > 0.0));
    assert!(count(&scale, "/replicas/suggested") <= 7, "{scale:#}");

    let pause = ["queue", "pause", "--tenant", "acme", "--reason", "enough"];
    assert_eq!(postrider(home.database(), &pause).code, 0);
    let scale = daemon
        .scale_becomes("small again", |scale| {
            count(scale, "/replicas/suggested") == 1 && count(scale, "/all/sendable/count") == 0
        })
        .await;
    assert!(count(&scale, "/bulk/blocked/paused/count") > 0, "{scale:#}");
}

#[tokio::test]
async fn fewer_are_suggested_only_after_they_would_have_done_for_a_while() {
    let db = TestDb::new().await;
    let worker = db.pool(Role::Worker).await;
    let (long, none) = (Duration::from_secs(3_600), Duration::ZERO);
    let ask = async |needed, hold| backlog::suggest(&worker, needed, hold).await.expect("ask");
    assert_eq!(ask(2, long).await, 2);
    assert_eq!(ask(5, long).await, 5, "more at once");
    assert_eq!(ask(1, long).await, 5, "fewer later");
    assert_eq!(ask(3, long).await, 5);
    assert_eq!(ask(1, none).await, 3, "the most that was needed meanwhile");
    assert_eq!(ask(4, long).await, 4);
}

#[tokio::test]
async fn counts_are_bounded_and_say_so() {
    let db = TestDb::new().await;
    let (owner, worker) = (db.pool(Role::Owner).await, db.pool(Role::Worker).await);
    let tenant = builders::tenant(&owner, "acme").await;
    builders::submit(
        &db.pool(Role::Api).await,
        tenant,
        "acme",
        "bulk",
        &builders::recipients(1, "x.org"),
    )
    .await;
    sqlx::query(
        "insert into postrider.ready(gen, lane_id, run_at, job_id, tenant_id, expires_at)
         select gen, lane_id, run_at + n * interval '1 microsecond', job_id + n, tenant_id, expires_at
         from postrider.ready, generate_series(1, 49999) n",
    )
    .execute(&owner)
    .await
    .expect("fill");
    let ttl = Duration::from_secs(20);
    let count = async || {
        let read = backlog::read(&worker, ttl).await.expect("read");
        Report::of(&read, &Scale::default()).all.sendable
    };
    let before = count().await;
    assert!(before.count >= 2_000 && (before.at_least || before.estimated), "{before:?}");
    sqlx::raw_sql("analyze postrider.ready").execute(&owner).await.expect("analyze");
    let after = count().await;
    assert!(after.estimated && (40_000..=60_000).contains(&after.count), "{after:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tool_starts_and_stops_as_many_instances_as_are_suggested() {
    let home = Installation::new(None).await;
    let config = home.configure("[scale]\nmin_replicas = 3\n");
    let daemon = home.daemon(&config).await;
    daemon.scale_becomes("three", |scale| count(scale, "/replicas/suggested") == 3).await;
    let folder = tempfile::tempdir().expect("folder");
    let (program, log) = (folder.path().join("systemctl"), folder.path().join("log"));
    let script = format!("#!/bin/sh\necho \"$*\" >> {}\n", log.display());
    std::fs::write(&program, script).expect("write");
    let runnable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&program, runnable).expect("allow");
    let at = daemon.probes().to_string();
    let fake = program.to_str().expect("UTF-8");
    let args = ["scale", "--at", &at, "--systemctl", fake, "--most", "4"];
    let ran =
        crate::support::command::ran(&crate::support::command::bare(&args).output().expect("run"));
    assert!(ran.out.starts_with("3 daemons are suggested") && !log.exists(), "{}", ran.out);
    let apply = [&args[..], &["--apply"]].concat();
    let ran =
        crate::support::command::ran(&crate::support::command::bare(&apply).output().expect("run"));
    assert_eq!(ran.code, 0, "{}", ran.err);
    let orders = std::fs::read_to_string(&log).expect("read");
    let expected = "start --no-block postriderd@1.service\nstart --no-block postriderd@2.service\n\
                    stop --no-block postriderd@3.service\nstop --no-block postriderd@4.service\n";
    assert_eq!(orders, expected);
}
