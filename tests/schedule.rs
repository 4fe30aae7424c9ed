//! Promise: what is scheduled costs nothing until its time, and goes out then.

use std::time::Duration;

use crate::support::builders;
use crate::support::installation::Installation;
use crate::support::postgres::{Role, TestDb};
use chrono::{DateTime, TimeDelta, Utc};
use postrider::domain::clock::Clock;
use postrider::domain::ids::MessageId;
use postrider::queue::Generation;
use postrider::queue::admin::overview;
use postrider::queue::lane;
use postrider::queue::upkeep;
use sqlx::PgPool;

fn soon(by: TimeDelta) -> DateTime<Utc> {
    DateTime::<Utc>::from(Clock::System.now()) + by
}

async fn submit(api: &PgPool, tenant: i64, to: &[String], at: DateTime<Utc>) -> MessageId {
    let id: i64 = sqlx::query_scalar(
        r#"select message_id from postrider.submit($1, 'acme.example', 'bulk',
             '{"from":"me@acme.example","subject":"Hi","text":"Hello"}', $2, null, $3, $4)"#,
    )
    .bind(tenant)
    .bind(at)
    .bind(to)
    .bind(vec![None::<String>; to.len()])
    .fetch_one(api)
    .await
    .expect("submit");
    MessageId::new(id)
}

/// Lets the time of everything that is scheduled come.
async fn let_time_pass(owner: &PgPool) {
    sqlx::raw_sql(
        "update postrider.ready set run_at = now();
         update postrider.message set send_at = now();
         update postrider.lane_wake set at = now();
         update postrider.lane_hint set hinted_at = now() - interval '1 hour'",
    )
    .execute(owner)
    .await
    .expect("let time pass");
}

#[tokio::test]
async fn what_is_scheduled_is_not_work_until_its_time_and_then_its_lane_is_woken() {
    let db = TestDb::new().await;
    let (owner, api, worker) =
        (db.pool(Role::Owner).await, db.pool(Role::Api).await, db.pool(Role::Worker).await);
    let tenant = builders::tenant(&owner, "acme").await;
    let to = builders::recipients(5, "example.org");
    submit(&api, tenant, &to, soon(TimeDelta::minutes(5))).await;
    submit(&api, tenant, &to, soon(TimeDelta::hours(5))).await;
    assert_eq!(builders::rows(&owner, "ready_g0").await, 5, "soon: where new work goes");
    assert_eq!(builders::rows(&owner, "ready_g4").await, 5, "much later: parked at once");
    assert_eq!(builders::rows(&owner, "deferred").await, 0);

    // Not claimed, not taken for waiting, and shown as what it is.
    let session = builders::session(&worker, Duration::from_secs(20)).await;
    assert_eq!(builders::claim_all(&worker, session.id(), 10).await.len(), 0);
    for generation in [Generation::PARKED, Generation::try_new(0).expect("zero")] {
        let holding = lane::waiting(&worker, generation).await.expect("waiting lanes");
        assert_eq!((holding.due.len(), holding.later.len()), (0, 1));
    }
    let depth = overview::lanes(&db.pool(Role::Operator).await, None).await.expect("overview");
    assert_eq!((depth[0].ready, depth[0].scheduled), (0, 10));
    assert_eq!(depth[0].oldest_seconds, None, "it has no age yet");
    assert!(depth[0].next_due_seconds.is_some_and(|due| (200.0..301.0).contains(&due)));
    assert_eq!(upkeep::wake_lanes(&worker, 100).await.expect("wake"), 0);

    let_time_pass(&owner).await;
    assert!(lane::look(&worker, 60.0).await.expect("look").hinted.is_empty());
    assert_eq!(upkeep::wake_lanes(&worker, 100).await.expect("wake"), 2);
    assert_eq!(upkeep::wake_lanes(&worker, 100).await.expect("wake"), 0, "once");
    assert_eq!(lane::look(&worker, 60.0).await.expect("look").hinted.len(), 1);
    assert_eq!(builders::claim_all(&worker, session.id(), 10).await.len(), 10);
}

#[tokio::test]
async fn a_campaign_for_one_moment_makes_one_row_to_wake_by() {
    let db = TestDb::new().await;
    let (owner, api) = (db.pool(Role::Owner).await, db.pool(Role::Api).await);
    let tenant = builders::tenant(&owner, "acme").await;
    let at = soon(TimeDelta::hours(1));
    for _ in 0..3 {
        submit(&api, tenant, &builders::recipients(1_000, "example.org"), at).await;
    }
    assert_eq!(builders::rows(&owner, "lane_wake").await, 1);
    let early: i64 =
        builders::rows(&owner, "lane_wake w, postrider.ready r where w.at < r.run_at").await;
    assert_eq!(early, 0, "not before it is due");
}

#[tokio::test]
async fn a_lane_whose_hint_is_being_written_is_woken_afterwards() {
    let db = TestDb::new().await;
    let (owner, api, worker) =
        (db.pool(Role::Owner).await, db.pool(Role::Api).await, db.pool(Role::Worker).await);
    let tenant = builders::tenant(&owner, "acme").await;
    let to = builders::recipients(1, "example.org");
    submit(&api, tenant, &to, soon(TimeDelta::hours(1))).await;
    let_time_pass(&owner).await;
    let mut other = worker.begin().await.expect("begin");
    sqlx::query("select 1 from postrider.lane_hint for update")
        .execute(&mut *other)
        .await
        .expect("hold the hint");
    assert_eq!(upkeep::wake_lanes(&worker, 100).await.expect("wake"), 0);
    other.rollback().await.expect("let go");
    assert_eq!(upkeep::wake_lanes(&worker, 100).await.expect("wake"), 1);
}

#[tokio::test]
async fn a_cancelled_message_that_is_scheduled_ends() {
    let db = TestDb::new().await;
    let (owner, api, worker) =
        (db.pool(Role::Owner).await, db.pool(Role::Api).await, db.pool(Role::Worker).await);
    let tenant = builders::tenant(&owner, "acme").await;
    let to = builders::recipients(4, "example.org");
    let message = submit(&api, tenant, &to, soon(TimeDelta::hours(1))).await;
    assert_eq!(upkeep::cancel(&worker, message, 100).await.expect("cancel"), 4);
    assert_eq!(builders::attempts(&owner, 5).await, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_sends_it_when_its_time_has_come_and_not_before() {
    let all = Installation::new(None).await;
    let tenant = builders::tenant(&all.owner, "acme").await;
    let daemon = all.daemon(&all.configure("")).await;
    let to = builders::recipients(20, "example.org");
    submit(&all.api, tenant, &to, soon(TimeDelta::seconds(3))).await;
    all.drained(&daemon).await;
    let early: i64 = sqlx::query_scalar(
        "select count(*) from postrider.attempt a join postrider.message m using (message_id)
         where a.kind <> 1 or a.at < m.send_at",
    )
    .fetch_one(&all.owner)
    .await
    .expect("count");
    assert_eq!((early, builders::attempts(&all.owner, 1).await), (0, 20));
}
