//! Promise: days are made ahead and dropped when their time is over, never while needed.

use std::time::Duration;

use crate::support::builders;
use crate::support::command::{facts, postrider};
use crate::support::postgres::{Role, TestDb};
use postrider::queue::upkeep;
use sqlx::PgPool;

const DAY: Duration = Duration::from_secs(86_400);

/// Days of `kind` that there are before yesterday.
async fn old_days(owner: &PgPool, kind: &str) -> i64 {
    sqlx::query_scalar(
        "select count(*) from pg_class where relkind = 'r' and relname ~ ('^' || $1 || '_[0-9]{8}$')
           and right(relname, 8) < to_char(now() at time zone 'UTC' - interval '1 day', 'YYYYMMDD')",
    )
    .bind(kind)
    .fetch_one(owner)
    .await
    .expect("count days")
}

/// Makes the partitions of the day `days` ago.
async fn make_day(owner: &PgPool, days: i32) {
    sqlx::query(sqlx::AssertSqlSafe(format!(
        "do $$
         declare d date := (now() at time zone 'UTC')::date - {days}; p text;
         begin
           set local timezone = 'UTC';
           foreach p in array array['message', 'job'] loop
             execute format('create table postrider.%1$s_%2$s partition of postrider.%1$s for values from (%3$s) to (%4$s)',
               p, to_char(d, 'YYYYMMDD'), postrider.id_floor(d), postrider.id_floor(d + 1));
           end loop;
           execute format('create table postrider.attempt_%1$s partition of postrider.attempt for values from (%2$L) to (%3$L)',
             to_char(d, 'YYYYMMDD'), d::timestamptz, (d + 1)::timestamptz);
         end $$"
    )))
    .execute(owner)
    .await
    .expect("make a day");
}

#[tokio::test]
async fn old_days_go_unless_something_of_them_still_waits() {
    let db = TestDb::new().await;
    let (owner, worker) = (db.pool(Role::Owner).await, db.pool(Role::Worker).await);
    for days in [40, 20, 10] {
        make_day(&owner, days).await;
    }
    // Scheduled long ago for much later: parked, and its job row must stay.
    sqlx::query(
        "insert into postrider.ready(gen, lane_id, run_at, job_id, tenant_id, expires_at)
         select 4, 1, now() + interval '1 day', postrider.id_floor(now() - interval '20 days'), 1, now() + interval '2 days'",
    )
    .execute(&owner)
    .await
    .expect("a row that waits");
    upkeep::roll_partitions(&worker, 5 * DAY, 15 * DAY).await.expect("roll");
    let left = [
        old_days(&owner, "message").await,
        old_days(&owner, "job").await,
        old_days(&owner, "attempt").await,
    ];
    assert_eq!(left, [2, 2, 2], "the day that is needed, and all after it");

    sqlx::query("delete from postrider.ready").execute(&owner).await.expect("end it");
    upkeep::roll_partitions(&worker, 5 * DAY, 15 * DAY).await.expect("roll");
    let left = [
        old_days(&owner, "message").await,
        old_days(&owner, "job").await,
        old_days(&owner, "attempt").await,
    ];
    assert_eq!(left, [0, 0, 1], "attempts are kept longer");
}

#[tokio::test]
async fn windows_of_deferred_work_are_made_ahead_and_dropped_when_empty() {
    let db = TestDb::new().await;
    let (owner, worker) = (db.pool(Role::Owner).await, db.pool(Role::Worker).await);
    // Databases of tests are copies of one that may have been made in an earlier window.
    sqlx::raw_sql("select postrider.roll_windows()").execute(&worker).await.expect("roll");
    let last = "(select postrider.window_start(now() + interval '3 days'))";
    let statement = format!(
        "do $$ begin execute format('drop table postrider.%I', postrider.window_name({last})); end $$;
         insert into postrider.deferred(due_at, job_id, lane_id, tenant_id, expires_at)
         select {last} + interval '1 minute', 1, 1, 1, now() + interval '9 days';
         do $$ declare low timestamptz := postrider.window_start(now() - interval '12 hours'); begin
           for i in 0..1 loop
             execute format('create table postrider.%I partition of postrider.deferred for values from (%L) to (%L)',
               postrider.window_name(low), low, low + interval '6 hours');
             execute format('grant select, insert, update, delete on postrider.%I to postrider_worker', postrider.window_name(low));
             low := low - interval '6 hours';
           end loop;
         end $$;
         insert into postrider.deferred(due_at, job_id, lane_id, tenant_id, expires_at)
         select postrider.window_start(now() - interval '12 hours'), 2, 1, 1, now() + interval '9 days'"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&owner).await.expect("arrange");
    assert_eq!(builders::rows(&owner, "deferred_default").await, 1);

    let (made, dropped): (i32, i32) =
        sqlx::query_as("select made, dropped from postrider.roll_windows()")
            .fetch_one(&worker)
            .await
            .expect("roll");
    assert_eq!((made, dropped), (1, 1), "the one with a row in it stays");
    assert_eq!(builders::rows(&owner, "deferred_default").await, 0, "moved into its window");
    assert_eq!(builders::rows(&owner, "deferred").await, 2);
    upkeep::promote(&worker, 10).await.expect("promote");
    assert_eq!(builders::rows(&owner, "ready where job_id = 2").await, 1);
    upkeep::roll_partitions(&worker, DAY, DAY).await.expect("roll");
    let past: i64 = sqlx::query_scalar(
        "select count(*) from pg_class where relname ~ '^deferred_[0-9]{10}$' and relkind = 'r'
           and relname < postrider.window_name(now())",
    )
    .fetch_one(&owner)
    .await
    .expect("count");
    assert_eq!(past, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_of_attempts_is_exported_whole_and_nothing_is_overwritten() {
    let db = TestDb::new().await;
    let (owner, api) = (db.pool(Role::Owner).await, db.pool(Role::Api).await);
    let tenant = builders::tenant(&owner, "acme").await;
    builders::submit(&api, tenant, "acme", "bulk", &builders::recipients(300, "a.org")).await;
    // Enough for several steps, and one of another day that must not come along.
    sqlx::raw_sql(
        "insert into postrider.attempt(tenant_id, message_id, job_id, attempt, kind, detail)
         select tenant_id, message_id, job_id, n, 7, json_build_object('reply', repeat('x', 400) || chr(10))
         from postrider.job, generate_series(1, 30) n;
         insert into postrider.attempt(at, tenant_id, message_id, job_id, attempt, kind)
         select now() - interval '1 day', tenant_id, message_id, job_id, 1, 1 from postrider.job limit 1",
    )
    .execute(&owner)
    .await
    .expect("history");
    let day: String = sqlx::query_scalar("select to_char(now() at time zone 'UTC', 'YYYY-MM-DD')")
        .fetch_one(&owner)
        .await
        .expect("today");
    let folder = tempfile::TempDir::new().expect("a folder");
    let file = folder.path().join("day.ndjson");
    let out = file.to_str().expect("a path");
    let told = facts(&db, &["queue", "export", "--day", &day, "--out", out]);
    assert_eq!(told["attempts"], 9_000);
    let text = std::fs::read_to_string(&file).expect("read");
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 9_000);
    assert!(lines.iter().all(|line| line["outcome"] == "deferred" && line["tenant"] == "acme"));
    assert!(lines[0]["delivery"].as_str().is_some_and(|id| id.starts_with("dlv_")));

    let again = postrider(&db, &["queue", "export", "--day", &day, "--out", out]);
    assert!(again.code == 1 && again.err.contains("is there already"), "{}", again.err);
    let none = folder.path().join("none.ndjson");
    let out = none.to_str().expect("a path");
    assert_eq!(
        facts(&db, &["queue", "export", "--day", "2026-01-01", "--out", out])["attempts"],
        0
    );
}
