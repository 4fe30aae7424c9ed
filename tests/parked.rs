//! Promise: what an old generation still holds is moved once, whatever waits, and goes out.

use std::time::Duration;

use crate::support::builders;
use crate::support::installation::Installation;
use crate::support::postgres::{Role, TestDb};
use postrider::domain::outcome::Outcome;
use postrider::domain::receipt::Trail;
use postrider::queue::Generation;
use postrider::queue::admin::audit::{Extent, audit};
use postrider::queue::settle::{Ending, Settlement, settle};
use postrider::queue::upkeep;
use sqlx::PgPool;

/// Turns the ring so often, each time parking and truncating all but the current generation.
async fn turn(worker: &PgPool, times: usize) {
    for _ in 0..times {
        assert!(upkeep::switch_generation(worker, Duration::ZERO).await.expect("switch"));
        let live = upkeep::live_generations(worker).await.expect("live");
        for old in &live[..live.len() - 1] {
            upkeep::park(worker, *old, 3).await.expect("park");
            while !upkeep::retire_generation(worker, *old).await.expect("retire") {}
        }
    }
}

async fn places(owner: &PgPool) -> Vec<String> {
    sqlx::query_scalar(
        "select tableoid::regclass || ' ' || ctid || ' ' || job_id from postrider.ready order by job_id",
    )
    .fetch_all(owner)
    .await
    .expect("places")
}

#[tokio::test]
async fn what_is_left_behind_is_copied_once_and_claimed_before_what_came_later() {
    let db = TestDb::new().await;
    let (owner, api, worker) =
        (db.pool(Role::Owner).await, db.pool(Role::Api).await, db.pool(Role::Worker).await);
    let tenant = builders::tenant(&owner, "acme").await;
    let to = builders::recipients(10, "a.org");
    let old = builders::submit(&api, tenant, "acme", "bulk", &to).await;

    turn(&worker, 1).await;
    let parked = places(&owner).await;
    assert!(
        parked.len() == 10 && parked.iter().all(|place| place.starts_with("postrider.ready_g4")),
        "{parked:?}"
    );
    turn(&worker, 5).await;
    assert_eq!(places(&owner).await, parked, "nothing was copied again");

    builders::submit(&api, tenant, "acme", "bulk", &builders::recipients(10, "b.org")).await;
    let session = builders::session(&worker, Duration::from_secs(20)).await;
    let first = builders::claim_all(&worker, session.id(), 4).await;
    assert!(first[..4].iter().all(|job| job.message == old), "the oldest of the lane first");
    let ring: Vec<Generation> = Generation::ring().collect();
    assert!(first.iter().all(|job| ring.contains(&job.generation)), "leases are in the ring");

    // Settled, rescued and given back like any other.
    let done = Settlement::new(&first[0], Ending::Delivered, &Outcome::Expired, &Trail::default());
    let settled = settle(&worker, session.id(), first[0].generation, &[&done]).await;
    assert_eq!(settled.expect("settle").len(), 1);
    session.close(&worker).await.expect("close");
    let rescued = upkeep::rescue(&worker, 100, Duration::ZERO, 100).await.expect("rescue");
    assert_eq!(rescued.all(), 7, "four of each table were claimed, one is settled");
    let operator = db.pool(Role::Operator).await;
    let sums = audit(&operator, Extent { most: 9, ..Extent::default() }).await.expect("audit");
    assert!(sums.adds_up() && sums.ended == 1 && sums.waiting == 19, "{sums:?}");
}

#[tokio::test]
async fn what_has_expired_when_it_would_be_parked_ends_instead() {
    let db = TestDb::new().await;
    let (owner, api, worker) =
        (db.pool(Role::Owner).await, db.pool(Role::Api).await, db.pool(Role::Worker).await);
    let tenant = builders::tenant(&owner, "acme").await;
    builders::submit(&api, tenant, "acme", "bulk", &builders::recipients(8, "a.org")).await;
    sqlx::query(
        "update postrider.ready set expires_at = now() - interval '1 second'
         where job_id in (select job_id from postrider.ready order by job_id limit 3)",
    )
    .execute(&owner)
    .await
    .expect("age");
    turn(&worker, 1).await;
    assert_eq!(builders::attempts(&owner, 3).await, 3);
    assert_eq!(builders::rows(&owner, "ready_g4").await, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_delivers_what_was_parked() {
    let all = Installation::new(None).await;
    let tenant = builders::tenant(&all.owner, "acme").await;
    let to = builders::recipients(30, "example.org");
    builders::submit(&all.api, tenant, "acme", "bulk", &to).await;
    turn(&all.owner, 2).await;
    assert_eq!(builders::rows(&all.owner, "ready_g4").await, 30);
    let daemon = all.daemon(&all.configure("")).await;
    all.drained(&daemon).await;
    assert_eq!(builders::attempts(&all.owner, 1).await, 30);
    drop(daemon);
}
