//! Promise: the store ends what is past its limit, wherever it lies and whoever lives.

use std::time::Duration;

use crate::support::builders;
use crate::support::postgres::{Role, TestDb};
use postrider::api::timekeeper;
use postrider::queue::upkeep;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

/// A message to `n` recipients that is given up at once or in two hours.
async fn submit(api: &PgPool, tenant: i64, n: usize, expires: &'static str) {
    sqlx::query(sqlx::AssertSqlSafe(format!(
        "select postrider.submit($1, 'acme.example', 'bulk', '{{}}', null, now() + interval '{expires}', $2, $3)"
    )))
    .bind(tenant)
    .bind(builders::recipients(n, "example.org"))
    .bind(vec![None::<String>; n])
    .execute(api)
    .await
    .expect("submit");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_every_daemon_dead_the_api_ends_what_has_expired() {
    let db = TestDb::new().await;
    let (owner, api) = (db.pool(Role::Owner).await, db.pool(Role::Api).await);
    let tenant = builders::tenant(&owner, "acme").await;
    // One at the head of its lane, one behind others, and one that is deferred.
    submit(&api, tenant, 1, "1 second").await;
    submit(&api, tenant, 50, "2 hours").await;
    submit(&api, tenant, 1, "1 second").await;
    sqlx::raw_sql(
        "with one as (delete from postrider.ready where job_id = (select max(job_id) from postrider.ready) returning *)
         insert into postrider.deferred(due_at, job_id, lane_id, tenant_id, expires_at, attempt, hold)
         select expires_at, job_id, lane_id, tenant_id, expires_at, 1, 1 from one",
    )
    .execute(&owner)
    .await
    .expect("defer one");
    submit(&api, tenant, 1, "1 second").await;

    let stop = CancellationToken::new();
    let keeper = tokio::spawn(timekeeper::run(api.clone(), stop.clone()));
    let ended = async {
        while builders::attempts(&owner, 3).await < 3 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), ended).await.expect("ended as expired");
    stop.cancel();
    keeper.await.expect("the keeper");
    assert_eq!(builders::rows(&owner, "ready").await, 50, "the others wait on");
    assert_eq!(builders::rows(&owner, "deferred").await, 0);
}

#[tokio::test]
async fn the_api_may_keep_time_but_not_see_what_it_ends() {
    let db = TestDb::new().await;
    let (owner, api) = (db.pool(Role::Owner).await, db.pool(Role::Api).await);
    let tenant = builders::tenant(&owner, "acme").await;
    submit(&api, tenant, 2, "-1 second").await;
    assert_eq!(upkeep::keep_time(&api, 100).await.expect("keep time"), 2);
    let seen: i64 = sqlx::query_scalar("select count(*) from postrider.attempt")
        .fetch_one(&api)
        .await
        .expect("look");
    assert_eq!(seen, 0);
    let direct = sqlx::query("select postrider.expire_waiting('0 s')").execute(&api).await;
    assert!(direct.is_err(), "only as part of keeping time");
}

#[tokio::test]
async fn rows_deep_in_a_lane_end_within_one_round_of_strides() {
    let db = TestDb::new().await;
    let (owner, api, worker) =
        (db.pool(Role::Owner).await, db.pool(Role::Api).await, db.pool(Role::Worker).await);
    let tenant = builders::tenant(&owner, "acme").await;
    for _ in 0..2 {
        submit(&api, tenant, 8_000, "2 hours").await;
    }
    sqlx::query(
        "update postrider.ready set expires_at = now() - interval '1 second'
         where job_id in (select job_id from postrider.ready order by job_id desc limit 7)",
    )
    .execute(&owner)
    .await
    .expect("age the last ones");
    let mut strides = 0;
    let mut ended = 0;
    while ended < 7 && strides < 10 {
        ended += upkeep::expire(&worker, Duration::ZERO).await.expect("expire");
        strides += 1;
    }
    assert_eq!(ended, 7);
    assert!((2..=4).contains(&strides), "16,000 rows in strides of 5,000: {strides}");
    assert_eq!(builders::rows(&owner, "ready").await, 16_000 - 7);
}

#[tokio::test]
async fn the_cluster_takes_one_stride_in_a_time_and_waits_for_nobody() {
    let db = TestDb::new().await;
    let (owner, api, worker) =
        (db.pool(Role::Owner).await, db.pool(Role::Api).await, db.pool(Role::Worker).await);
    let tenant = builders::tenant(&owner, "acme").await;
    upkeep::expire(&worker, Duration::from_secs(60)).await.expect("a first stride");
    submit(&api, tenant, 3, "-1 second").await;
    let early = upkeep::expire(&worker, Duration::from_secs(60)).await.expect("another process");
    assert_eq!(early, 0, "it is not time yet");

    // One row is in somebody else's hands, and stays there for now.
    let mut other = worker.begin().await.expect("begin");
    sqlx::query("select 1 from postrider.ready_g0 order by job_id limit 1 for update")
        .execute(&mut *other)
        .await
        .expect("hold a row");
    assert_eq!(upkeep::expire(&worker, Duration::ZERO).await.expect("expire"), 2);
    other.rollback().await.expect("let go");
    assert_eq!(upkeep::expire(&worker, Duration::ZERO).await.expect("expire"), 1);
}
