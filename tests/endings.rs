//! Promise: what is expired or called back ends as such, wherever it waits.

use std::time::Duration;

use crate::support::builders;
use crate::support::postgres::{Role, TestDb};
use postrider::domain::outcome::Outcome;
use postrider::domain::receipt::Trail;
use postrider::queue::job::Bar;
use postrider::queue::settle::{Ending, Settlement, settle};
use postrider::queue::upkeep;
use sqlx::PgPool;

const TTL: Duration = Duration::from_secs(20);

async fn age(owner: &PgPool) {
    for table in ["ready", "lease", "deferred"] {
        let statement =
            format!("update postrider.{table} set expires_at = now() - interval '1 second'");
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(owner).await.expect("age");
    }
}

#[tokio::test]
async fn expiry_reaches_ready_and_deferred_work_without_any_claim() {
    let db = TestDb::new().await;
    let (owner, api, worker) =
        (db.pool(Role::Owner).await, db.pool(Role::Api).await, db.pool(Role::Worker).await);
    let tenant = builders::tenant(&owner, "acme").await;
    builders::submit(&api, tenant, "acme", "bulk", &builders::recipients(3, "example.org")).await;
    let session = builders::session(&worker, TTL).await;
    let job = builders::claim_all(&worker, session.id(), 1).await.remove(0);
    let deferred = Settlement::new(
        &job,
        Ending::Deferred { delay: Duration::from_secs(3600), in_doubt: false },
        &Outcome::Expired,
        &Trail::default(),
    );
    settle(&worker, session.id(), job.generation, &[&deferred]).await.expect("defer");

    assert_eq!(
        upkeep::expire(&worker, Duration::ZERO).await.expect("expire"),
        0,
        "nothing is too old yet"
    );
    age(&owner).await;
    sqlx::query("update postrider.deferred set due_at = now()").execute(&owner).await.expect("due");
    assert_eq!(upkeep::expire(&worker, Duration::ZERO).await.expect("expire"), 2);
    upkeep::promote(&worker, 100).await.expect("promote");
    assert_eq!(builders::attempts(&owner, 3).await, 3);
    assert_eq!(builders::rows(&owner, "ready").await + builders::rows(&owner, "deferred").await, 0);
}

#[tokio::test]
async fn a_retry_is_never_due_after_the_expiry() {
    let db = TestDb::new().await;
    let (owner, api, worker) =
        (db.pool(Role::Owner).await, db.pool(Role::Api).await, db.pool(Role::Worker).await);
    let tenant = builders::tenant(&owner, "acme").await;
    builders::submit(&api, tenant, "acme", "bulk", &builders::recipients(1, "example.org")).await;
    let session = builders::session(&worker, TTL).await;
    let job = builders::claim_all(&worker, session.id(), 1).await.remove(0);
    let far = Settlement::new(
        &job,
        Ending::Deferred { delay: Duration::from_secs(365 * 86_400), in_doubt: false },
        &Outcome::Expired,
        &Trail::default(),
    );
    settle(&worker, session.id(), job.generation, &[&far]).await.expect("defer");
    assert_eq!(builders::rows(&owner, "deferred where due_at = expires_at").await, 1);
}

#[tokio::test]
async fn a_cancelled_message_ends_where_it_waits_and_is_barred_where_it_is_in_hand() {
    let db = TestDb::new().await;
    let (owner, api, worker) =
        (db.pool(Role::Owner).await, db.pool(Role::Api).await, db.pool(Role::Worker).await);
    let tenant = builders::tenant(&owner, "acme").await;
    let message =
        builders::submit(&api, tenant, "acme", "bulk", &builders::recipients(5, "example.org"))
            .await;
    builders::submit(&api, tenant, "acme", "bulk", &builders::recipients(2, "example.org")).await;
    let session = builders::session(&worker, TTL).await;
    let job = builders::claim_all(&worker, session.id(), 1).await.remove(0);

    let cancelled: bool = sqlx::query_scalar("select postrider.cancel_message($1, $2)")
        .bind(tenant)
        .bind(message.get())
        .fetch_one(&api)
        .await
        .expect("cancel");
    assert!(cancelled);
    assert_eq!(upkeep::open_cancellations(&worker).await.expect("open"), [message]);
    assert_eq!(upkeep::cancel(&worker, message, 100).await.expect("cancel"), 4);
    upkeep::close_cancellation(&worker, message).await.expect("close");
    assert_eq!(builders::attempts(&owner, 5).await, 4);

    // The one in hand is given back (a shutdown, say): the next claim bars it.
    let back = Settlement::new(
        &job,
        Ending::Released { delay: Duration::ZERO },
        &Outcome::Expired,
        &Trail::default(),
    );
    settle(&worker, session.id(), job.generation, &[&back]).await.expect("release");
    let again = builders::claim_all(&worker, session.id(), 10).await;
    let barred: Vec<_> = again.iter().filter(|job| job.bar == Some(Bar::Cancelled)).collect();
    assert_eq!((again.len(), barred.len()), (3, 1), "the other message's two go on");
}

#[tokio::test]
async fn an_address_refused_as_dead_is_suppressed_for_its_tenant_only() {
    let db = TestDb::new().await;
    let (owner, api, worker) =
        (db.pool(Role::Owner).await, db.pool(Role::Api).await, db.pool(Role::Worker).await);
    let (a, b) = (builders::tenant(&owner, "a").await, builders::tenant(&owner, "b").await);
    let to = builders::recipients(1, "example.org");
    builders::submit(&api, a, "a", "bulk", &to).await;
    builders::submit(&api, a, "a", "bulk", &to).await;
    let session = builders::session(&worker, TTL).await;
    let job = builders::claim_all(&worker, session.id(), 1).await.remove(0);
    let bounced = Settlement::new(
        &job,
        Ending::Bounced { condemned: true },
        &Outcome::Expired,
        &Trail::default(),
    );
    settle(&worker, session.id(), job.generation, &[&bounced]).await.expect("bounce");
    let second = builders::claim_all(&worker, session.id(), 1).await.remove(0);
    assert_eq!(second.bar, Some(Bar::Suppressed), "what already waited is barred");
    builders::submit(&api, b, "b", "bulk", &to).await;
    let other = builders::claim_all(&worker, session.id(), 1).await.remove(0);
    assert_eq!(other.bar, None, "another tenant may write to it");
}
