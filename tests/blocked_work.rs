//! Promise: blocked, paused or throttled work costs nothing.

use std::time::Duration;

use crate::support::builders;
use crate::support::postgres::{Role, TestDb};
use postrider::domain::outcome::Outcome;
use postrider::domain::receipt::Trail;
use postrider::queue::Generation;
use postrider::queue::claim::{Want, claim};
use postrider::queue::lane;
use postrider::queue::settle::{Ending, Settlement, settle};
use postrider::queue::upkeep;
use postrider::tenant::suppression::Keeper;
use sqlx::Row;

/// Shared buffers that claiming 20 rows of lane `lane` touches, by EXPLAIN.
async fn buffers(owner: &sqlx::PgPool, session: i64, lane: i32) -> i64 {
    let statement = include_str!("../src/queue/sql/claim.sql")
        .replace("{g}", "0")
        .replace("{lease_gen}", "0")
        .replace("{lease}", "lease_g0");
    let body: String = statement
        .lines()
        .filter(|line| !line.trim_start().starts_with("--"))
        .collect::<Vec<_>>()
        .join("\n")
        .replace("$1", &session.to_string())
        .replace("$2", &format!("array[{lane}]"))
        .replace("$3", "array[null]")
        .replace("$4", "array[20]");
    let mut tx = owner.begin().await.expect("begin");
    let plan: serde_json::Value =
        sqlx::query(sqlx::AssertSqlSafe(format!("explain (analyze, buffers, format json) {body}")))
            .fetch_one(&mut *tx)
            .await
            .expect("explain")
            .get(0);
    tx.rollback().await.expect("rollback");
    let top = &plan[0]["Plan"];
    top["Shared Hit Blocks"].as_i64().unwrap_or(0) + top["Shared Read Blocks"].as_i64().unwrap_or(0)
}

#[tokio::test]
async fn a_claim_costs_the_same_however_much_waits_in_other_lanes() {
    let db = TestDb::new().await;
    let (owner, api, worker) =
        (db.pool(Role::Owner).await, db.pool(Role::Api).await, db.pool(Role::Worker).await);
    let busy = builders::tenant(&owner, "busy").await;
    builders::submit(&api, busy, "busy", "bulk", &builders::recipients(100, "example.org")).await;
    let lane = builders::lanes(&worker).await[0].get();
    let session = builders::session(&worker, Duration::from_secs(20)).await.id().get();

    // From the first 10,000 on the indexes have the depth that they keep.
    let blocked = builders::tenant(&owner, "blocked").await;
    let many = builders::recipients(10_000, "example.org");
    let mut costs = Vec::new();
    for _ in 0..4 {
        builders::submit(&api, blocked, "blocked", "bulk", &many).await;
        sqlx::query("analyze postrider.ready_g0").execute(&owner).await.expect("analyze");
        costs.push(buffers(&owner, session, lane).await);
    }
    assert!(costs[3] <= costs[0] + 5, "buffers with 10, 20, 30, 40 thousand blocked: {costs:?}");
}

#[tokio::test]
async fn pauses_cover_tenant_pool_stream_route_and_lane() {
    let db = TestDb::new().await;
    let (owner, api, worker) =
        (db.pool(Role::Owner).await, db.pool(Role::Api).await, db.pool(Role::Worker).await);
    let tenant = builders::tenant(&owner, "acme").await;
    builders::submit(&api, tenant, "acme", "bulk", &builders::recipients(1, "example.org")).await;
    let lanes = lane::directory(&worker, &builders::lanes(&worker).await).await.expect("directory");
    let lane = &lanes[0];
    let (tenant, pool, stream) = (lane.tenant.get(), lane.pool.get(), lane.stream.get());
    let keys = [
        ("T", tenant.to_string()),
        ("P", pool.to_string()),
        ("TS", format!("{tenant}/{stream}")),
        ("TP", format!("{tenant}/{pool}")),
        ("R", "direct".to_owned()),
        ("L", lane.id.get().to_string()),
    ];
    let route = "direct".into();
    for (scope, key) in keys {
        let covers = async || {
            lane::look(&worker, 60.0).await.expect("look").orders.blocks.cover(lane, &route)
        };
        assert!(!covers().await, "{scope} before");
        sqlx::query(
            "insert into postrider.block values ($1, $2, now() + interval '1 hour', 'test')",
        )
        .bind(scope)
        .bind(key)
        .execute(&owner)
        .await
        .expect("pause");
        assert!(covers().await, "{scope} paused");
        sqlx::query("update postrider.block set until = now()")
            .execute(&owner)
            .await
            .expect("lapse");
        assert!(!covers().await, "{scope} lapsed");
        sqlx::query("delete from postrider.block").execute(&owner).await.expect("resume");
    }
}

#[tokio::test]
async fn an_applications_open_transaction_delays_nobody_else() {
    let db = TestDb::new().await;
    let (owner, api, worker) =
        (db.pool(Role::Owner).await, db.pool(Role::Api).await, db.pool(Role::Worker).await);
    let tenant = builders::tenant(&owner, "acme").await;
    builders::submit(&api, tenant, "acme", "bulk", &builders::recipients(1, "example.org")).await;
    sqlx::query("update postrider.lane_hint set hinted_at = now() - interval '1 hour'")
        .execute(&owner)
        .await
        .expect("let the hint grow old");

    // As `postrider.send` does inside an application's transaction, which stays open.
    let mut application = api.begin().await.expect("begin");
    let held: i32 = sqlx::query_scalar(
        "select accepted from postrider.submit($1, 'acme.example', 'bulk', '{}', null, null,
           array['slow@example.org'], array[null])",
    )
    .bind(tenant)
    .fetch_one(&mut *application)
    .await
    .expect("submit");
    assert_eq!(held, 1);

    // Everything else goes on: a submission to the same lane, a deferral and its promotion.
    sqlx::query("set lock_timeout = '2s'").execute(&worker).await.expect("set");
    builders::submit(&api, tenant, "acme", "bulk", &builders::recipients(1, "example.org")).await;
    let session = builders::session(&worker, Duration::from_secs(20)).await;
    let generation = Generation::try_new(0).expect("zero");
    let lanes = lane::waiting(&worker, generation).await.expect("waiting lanes").due;
    let wants: Vec<Want> =
        lanes.into_iter().map(|lane| Want { lane, after: None, take: 1 }).collect();
    let jobs = claim(&worker, &Keeper::default(), session.id(), generation, &wants)
        .await
        .expect("claim")
        .jobs;
    let deferred = Settlement::new(
        &jobs[0],
        Ending::Deferred { delay: Duration::ZERO, in_doubt: false },
        &Outcome::Expired,
        &Trail::default(),
    );
    settle(&worker, session.id(), generation, &[&deferred]).await.expect("settle");
    assert_eq!(upkeep::promote(&worker, 100).await.expect("promote"), 1);
    application.rollback().await.expect("rollback");
}
