//! Promise: calling lanes back costs a row, holds at once, ends everything that was accepted
//! before and nothing that comes after, and everything still adds up.

use std::time::Duration;

use crate::support::builders;
use crate::support::command::{facts, postrider};
use crate::support::postgres::{Role, TestDb};
use postrider::domain::outcome::Outcome;
use postrider::domain::receipt::Trail;
use postrider::queue::admin::audit::{Extent, audit};
use postrider::queue::job::Bar;
use postrider::queue::recall;
use postrider::queue::settle::{Ending, Settlement, settle};
use postrider::tenant::suppression::Keeper;
use sqlx::PgPool;

/// As the maintenance does, until it finds nothing more.
async fn sweep(worker: &PgPool) -> (u64, bool) {
    let (mut ended, mut open) = (0, false);
    for lane in recall::open(worker).await.expect("open") {
        loop {
            let some = recall::sweep(worker, lane, 5_000).await.expect("sweep");
            ended += some;
            if some == 0 {
                break;
            }
        }
        open |= !recall::close(worker, lane).await.expect("close");
    }
    (ended, open)
}

#[tokio::test]
async fn two_hundred_thousand_end_as_cancelled_and_later_mail_is_not_touched() {
    let db = TestDb::new().await;
    let (owner, api, worker) =
        (db.pool(Role::Owner).await, db.pool(Role::Api).await, db.pool(Role::Worker).await);
    let shop = builders::tenant(&owner, "shop").await;
    let many = builders::recipients(10_000, "example.org");
    for _ in 0..20 {
        builders::submit(&api, shop, "shop", "spring", &many).await;
    }
    builders::submit(&api, shop, "shop", "bulk", &many[..100]).await;
    // Some are deferred, and five are in hand.
    sqlx::query(
        "with gone as (delete from postrider.ready where ctid in (
           select ctid from postrider.ready_g0 where lane_id = (select min(lane_id) from postrider.lane)
           order by run_at, job_id limit 1000) returning *)
         insert into postrider.deferred(due_at, job_id, lane_id, tenant_id, expires_at)
         select now() + interval '1 hour', job_id, lane_id, tenant_id, expires_at from gone",
    )
    .execute(&owner)
    .await
    .expect("defer");
    let deferred = builders::rows(&owner, "deferred").await;
    assert!(deferred > 0);
    let session = builders::session(&worker, Duration::from_secs(60)).await;
    let spring = builders::lanes(&worker).await;
    let lane = spring.iter().min_by_key(|lane| lane.get()).copied().expect("a lane");
    let claim = async |take| {
        let want = postrider::queue::claim::Want { lane, after: None, take };
        let generation = postrider::queue::Generation::try_new(0).expect("zero");
        postrider::queue::claim::claim(
            &worker,
            &Keeper::default(),
            session.id(),
            generation,
            &[want],
        )
        .await
        .expect("claim")
        .jobs
    };
    let in_hand = claim(5).await;
    assert!(in_hand.iter().all(|job| job.bar.is_none()));

    let told = facts(
        &db,
        &["queue", "cancel", "--tenant", "shop", "--stream", "spring", "--reason", "wrong prices"],
    );
    assert_eq!(told["lanes"], 1);
    assert_eq!(builders::rows(&owner, "lane_cancellation").await, 1, "a row, however much waits");
    let barred = claim(7).await;
    assert!(barred.iter().all(|job| job.bar == Some(Bar::Cancelled)), "claims honour it at once");
    builders::submit(&api, shop, "shop", "spring", &many[..300]).await;

    let (ended, open) = sweep(&worker).await;
    assert_eq!(ended, 200_000 - 5 - 7);
    assert!(open, "it stands while some of it is in hand");
    // One in hand is put back: it ends too.
    let mut settled: Vec<Settlement> = barred
        .iter()
        .chain(&in_hand[1..])
        .map(|job| Settlement::new(job, Ending::Cancelled, &Outcome::Cancelled, &Trail::default()))
        .collect();
    settled.push(Settlement::new(
        &in_hand[0],
        Ending::Released { delay: Duration::ZERO },
        &Outcome::Cancelled,
        &Trail::default(),
    ));
    let refs: Vec<&Settlement> = settled.iter().collect();
    settle(&worker, session.id(), in_hand[0].generation, &refs).await.expect("settle");
    sqlx::query("update postrider.lane_cancellation set look_at = now()")
        .execute(&owner)
        .await
        .expect("time passes");
    assert_eq!(sweep(&worker).await, (1, false));
    assert_eq!(builders::rows(&owner, "lane_cancellation").await, 0, "forgotten");

    assert_eq!(builders::attempts(&owner, 5).await, 200_000);
    assert_eq!(builders::rows(&owner, "ready").await, 400, "later mail and other streams");
    assert_eq!(builders::rows(&owner, "deferred").await, 0);
    assert!(claim(10).await.iter().all(|job| job.bar.is_none()));
    let operator = db.pool(Role::Operator).await;
    let sums = audit(&operator, Extent { most: 10, ..Extent::default() }).await.expect("audit");
    assert!(sums.adds_up(), "{sums:?}");
}

#[tokio::test]
async fn a_reason_is_asked_for_and_a_route_refused() {
    let db = TestDb::new().await;
    builders::tenant(&db.pool(Role::Owner).await, "shop").await;
    for args in [
        &["queue", "cancel", "--tenant", "shop"][..],
        &["queue", "cancel", "--reason", "x"],
        &["queue", "cancel", "--route", "direct", "--reason", "x"],
    ] {
        let ran = postrider(&db, args);
        assert_eq!(ran.code, 2, "{args:?}: {}", ran.err);
    }
}
