//! Promise: an operator sees what is in doubt with its evidence, and decides about it; what
//! was done is recorded, and a dry run does nothing.

use std::time::Duration;

use crate::support::builders;
use crate::support::command::{facts, postrider};
use crate::support::postgres::{Role, TestDb};
use postrider::queue::job::Job;
use postrider::queue::upkeep;
use serde_json::Value;
use sqlx::PgPool;

/// Deliveries of two streams whose worker died: four held, one to be sent again.
async fn dead_worker(db: &TestDb, owner: &PgPool) -> Vec<Job> {
    let (api, worker) = (db.pool(Role::Api).await, db.pool(Role::Worker).await);
    sqlx::query(
        "insert into postrider.stream_policy values ('otp', false, 0, interval '1 hour', 'hold')",
    )
    .execute(owner)
    .await
    .expect("a stream that holds");
    let tenant = builders::tenant(owner, "shop").await;
    builders::submit(&api, tenant, "shop", "otp", &builders::recipients(4, "example.org")).await;
    builders::submit(&api, tenant, "shop", "bulk", &builders::recipients(1, "example.net")).await;
    let session = builders::session(&worker, Duration::from_secs(20)).await;
    let jobs = builders::claim_all(&worker, session.id(), 10).await;
    builders::intend(&worker, session.id(), 1, &jobs).await;
    builders::fence_all(owner).await;
    let rescued = upkeep::rescue(&worker, 100, Duration::from_secs(60), 5).await.expect("rescue");
    assert_eq!((rescued.held, rescued.resent), (4, 1));
    jobs
}

fn of<'a>(listed: &'a Value, state: &str) -> Vec<&'a str> {
    let all = listed.as_array().expect("a list");
    all.iter()
        .filter(|one| one["state"] == state)
        .map(|one| one["delivery"].as_str().expect("an id"))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doubts_are_listed_and_resolved() {
    let db = TestDb::new().await;
    let owner = db.pool(Role::Owner).await;
    dead_worker(&db, &owner).await;

    let listed = facts(&db, &["doubt", "list", "--tenant", "shop"]);
    let (held, waiting) = (of(&listed, "held"), of(&listed, "waiting"));
    assert_eq!((held.len(), waiting.len()), (4, 1), "{listed}");
    let evidence = &listed[0]["evidence"];
    assert_eq!(evidence["worker"], "test", "{listed}");
    assert!(evidence["intended_at"].is_string() && evidence["session"].is_number(), "{listed}");
    let only = facts(&db, &["doubt", "list", "--held", "--stream", "otp", "--limit", "2"]);
    assert_eq!(only.as_array().map(Vec::len), Some(2));
    assert_eq!(facts(&db, &["doubt", "list", "--stream", "none"]), serde_json::json!([]));

    let resolve = |more: &[&str]| facts(&db, &[&["doubt", "resolve"], more].concat());
    let why = ["--reason", "asked the receiver"];
    let dry = resolve(&[&[held[0], "--delivered", "--dry-run"], &why[..]].concat());
    assert_eq!(dry["resolved"], 1);
    assert_eq!(builders::rows(&owner, "dead_letter").await, 4, "a dry run does nothing");
    assert_eq!(builders::rows(&owner, "operator_action").await, 0);

    assert_eq!(resolve(&[&[held[0], "--delivered"], &why[..]].concat())["resolved"], 1);
    let certain = "attempt where kind = 1 and not in_doubt and detail ->> 'by' = 'operator'
        and detail ->> 'reason' = 'asked the receiver'";
    assert_eq!(builders::rows(&owner, certain).await, 1);
    assert_eq!(resolve(&[&[held[1], "--resend"], &why[..]].concat())["resolved"], 1);
    assert_eq!(builders::rows(&owner, "ready where suspect").await, 1, "flagged");
    assert_eq!(resolve(&[&[waiting[0], "--discard"], &why[..]].concat())["resolved"], 1);
    assert_eq!(builders::rows(&owner, "attempt where kind = 5 and in_doubt").await, 1);
    assert_eq!(builders::rows(&owner, "deferred").await, 0);

    let before = |time: &str| {
        resolve(&[&["--all-before", time, "--tenant", "shop", "--discard"], &why[..]].concat())
    };
    assert_eq!(before("2020-01-01T00:00:00Z")["resolved"], 0);
    assert_eq!(before("2100-01-01T00:00:00Z")["resolved"], 2);
    assert_eq!(builders::rows(&owner, "dead_letter").await, 0);
    let recorded =
        "operator_action where action = 'doubt resolve' and reason = 'asked the receiver'";
    assert_eq!(builders::rows(&owner, recorded).await, 4, "one for each batch that did something");
    assert_eq!(postrider(&db, &["audit"]).code, 0, "everything adds up");

    let again = postrider(&db, &[&["doubt", "resolve", held[0], "--delivered"], &why[..]].concat());
    assert_eq!(again.code, 1, "it has ended");
    assert!(again.err.contains("0 of 1"), "{}", again.err);
    let unsaid = postrider(&db, &["doubt", "resolve", held[0], "--delivered"]);
    assert_eq!(unsaid.code, 2, "a reason is asked for");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_delivery_shows_what_its_worker_found_out_too_late() {
    let db = TestDb::new().await;
    let owner = db.pool(Role::Owner).await;
    let jobs = dead_worker(&db, &owner).await;
    let late: Vec<_> = jobs
        .iter()
        .map(|job| {
            let reply = postrider::domain::verdict::PeerReply {
                code: 250,
                enhanced: None,
                text: "queued as 7".into(),
            };
            postrider::queue::settle::Settlement::new(
                job,
                postrider::queue::settle::Ending::Delivered,
                &postrider::domain::outcome::Outcome::Delivered(
                    postrider::domain::receipt::Receipt { reply },
                ),
                &postrider::domain::receipt::Trail::default(),
            )
        })
        .collect();
    let worker = db.pool(Role::Worker).await;
    let refs: Vec<_> = late.iter().collect();
    let news = postrider::queue::doubt::leave_evidence(&worker, &refs).await.expect("evidence");
    assert_eq!(news, 5);
    let listed = facts(&db, &["doubt", "list", "--held"]);
    assert_eq!(listed.as_array().map(Vec::len), Some(4));
    assert_eq!(listed[0]["late"]["outcome"], "delivered", "{listed}");
    assert!(listed[0]["late"]["evidence"]["reply"].as_str().expect("it").contains("queued as 7"));
}
