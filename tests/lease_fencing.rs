//! Promise: a stale worker can neither start nor settle a delivery.

use std::time::Duration;

use crate::support::builders;
use crate::support::postgres::{Role, TestDb};
use postrider::domain::outcome::Outcome;
use postrider::domain::receipt::{Receipt, Trail};
use postrider::domain::verdict::PeerReply;
use postrider::queue::job::Job;
use postrider::queue::session::Beat;
use postrider::queue::settle::{Ending, Settlement, settle};
use postrider::queue::upkeep;
use sqlx::PgPool;

const TTL: Duration = Duration::from_secs(20);

fn delivered(job: &Job) -> Settlement {
    let reply = PeerReply { code: 250, enhanced: None, text: "ok".into() };
    let outcome = Outcome::Delivered(Receipt { reply });
    Settlement::new(job, Ending::Delivered, &outcome, &Trail::default())
}

fn released(job: &Job) -> Settlement {
    let ending = Ending::Released { delay: Duration::ZERO };
    Settlement::new(job, ending, &Outcome::Expired, &Trail::default())
}

async fn silence(owner: &PgPool, session: i64) {
    sqlx::query("update postrider.worker_session set beat_at = now() - interval '1 minute' where session_id = $1")
        .bind(session)
        .execute(owner)
        .await
        .expect("make it silent");
}

/// Fences with a time to live that the freshly started test server allows.
async fn fence(worker: &PgPool) {
    upkeep::fence(worker, Duration::from_millis(1)).await.expect("fence");
}

#[tokio::test]
async fn a_fenced_session_claims_settles_and_beats_in_vain() {
    let db = TestDb::new().await;
    let (owner, api, worker) =
        (db.pool(Role::Owner).await, db.pool(Role::Api).await, db.pool(Role::Worker).await);
    let tenant = builders::tenant(&owner, "acme").await;
    builders::submit(&api, tenant, "acme", "bulk", &builders::recipients(6, "example.org")).await;

    let session = builders::session(&worker, TTL).await;
    let jobs = builders::claim_all(&worker, session.id(), 4).await;
    assert_eq!(jobs.len(), 4);
    assert!(matches!(session.beat(&worker).await, Ok(Beat::Alive)));

    silence(&owner, session.id().get()).await;
    fence(&worker).await;
    assert_eq!(session.beat(&worker).await.expect("beat"), Beat::Fenced);
    assert!(builders::claim_all(&worker, session.id(), 4).await.is_empty(), "claims nothing");

    let rescued = upkeep::rescue(&worker, 100, Duration::ZERO, 5).await.expect("rescue");
    assert_eq!(rescued.all(), 4);
    let late: Vec<Settlement> = jobs.iter().map(delivered).collect();
    let refs: Vec<&Settlement> = late.iter().collect();
    let settled = settle(&worker, session.id(), jobs[0].generation, &refs).await.expect("settle");
    assert!(settled.is_empty(), "settles nothing");
    assert_eq!(builders::attempts(&owner, 1).await, 0);
}

#[tokio::test]
async fn a_hold_of_an_earlier_claim_is_stale_even_in_the_same_session() {
    let db = TestDb::new().await;
    let (owner, api, worker) =
        (db.pool(Role::Owner).await, db.pool(Role::Api).await, db.pool(Role::Worker).await);
    let tenant = builders::tenant(&owner, "acme").await;
    builders::submit(&api, tenant, "acme", "bulk", &builders::recipients(1, "example.org")).await;
    let session = builders::session(&worker, TTL).await;

    let first = builders::claim_all(&worker, session.id(), 1).await.remove(0);
    settle(&worker, session.id(), first.generation, &[&released(&first)]).await.expect("release");
    let second = builders::claim_all(&worker, session.id(), 1).await.remove(0);
    assert_eq!(second.attempt, first.attempt, "a released attempt does not count");
    assert!(second.hold > first.hold);

    let stale = settle(&worker, session.id(), first.generation, &[&delivered(&first)]).await;
    assert!(stale.expect("settle").is_empty(), "the old hold settles nothing");
    let fresh = settle(&worker, session.id(), second.generation, &[&delivered(&second)]).await;
    assert_eq!(fresh.expect("settle"), [second.id]);
}

#[tokio::test]
async fn rescued_work_is_suspect_and_follows_its_streams_policy() {
    let db = TestDb::new().await;
    let (owner, api, worker) =
        (db.pool(Role::Owner).await, db.pool(Role::Api).await, db.pool(Role::Worker).await);
    sqlx::query(
        "insert into postrider.stream_policy values ('otp', false, 0, interval '1 hour', 'hold')",
    )
    .execute(&owner)
    .await
    .expect("a stream that holds");
    let tenant = builders::tenant(&owner, "acme").await;
    builders::submit(&api, tenant, "acme", "bulk", &builders::recipients(2, "example.org")).await;
    builders::submit(&api, tenant, "acme", "otp", &builders::recipients(3, "example.org")).await;

    let session = builders::session(&worker, TTL).await;
    let jobs = builders::claim_all(&worker, session.id(), 10).await;
    assert_eq!(jobs.len(), 5);
    builders::intend(&worker, session.id(), 1, &jobs).await;
    silence(&owner, session.id().get()).await;
    fence(&worker).await;
    upkeep::rescue(&worker, 100, Duration::ZERO, 5).await.expect("rescue");

    assert_eq!(builders::rows(&owner, "dead_letter where reason = 'doubt'").await, 3);
    assert_eq!(builders::rows(&owner, "deferred where suspect").await, 2);
    assert_eq!(builders::rows(&owner, "lease").await, 0);
    upkeep::promote(&worker, 100).await.expect("promote");
    let heir = builders::session(&worker, TTL).await;
    let again = builders::claim_all(&worker, heir.id(), 10).await;
    assert_eq!(again.len(), 2);
    assert!(again.iter().all(|job| job.suspect && job.attempt == 2 && job.hold.get() == 2));
}

#[tokio::test]
async fn a_delivery_that_kills_its_workers_ends_as_a_dead_letter() {
    let db = TestDb::new().await;
    let (owner, api, worker) =
        (db.pool(Role::Owner).await, db.pool(Role::Api).await, db.pool(Role::Worker).await);
    let tenant = builders::tenant(&owner, "acme").await;
    builders::submit(&api, tenant, "acme", "bulk", &builders::recipients(1, "example.org")).await;
    for death in 1..=3 {
        let session = builders::session(&worker, TTL).await;
        assert_eq!(builders::claim_all(&worker, session.id(), 1).await.len(), 1, "life {death}");
        silence(&owner, session.id().get()).await;
        fence(&worker).await;
        upkeep::rescue(&worker, 100, Duration::ZERO, 3).await.expect("rescue");
        upkeep::promote(&worker, 100).await.expect("promote");
    }
    assert_eq!(builders::rows(&owner, "dead_letter where reason = 'interrupted'").await, 1);
    assert_eq!(builders::rows(&owner, "ready").await, 0);
    assert_eq!(builders::rows(&owner, "deferred").await, 0);
}
