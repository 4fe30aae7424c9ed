//! `postrider audit`: silent while everything adds up, loud when a row is touched by hand.

use std::time::Duration;

use crate::support::builders;
use crate::support::command::postrider;
use crate::support::postgres::{Role, TestDb};
use postrider::domain::ids::MessageId;
use postrider::queue::admin::audit::{Audit, Extent, audit};
use postrider::queue::job::Job;
use serde_json::Value;
use sqlx::PgPool;

/// A tenant's message of ten recipients, spread over every place a delivery can be in.
struct Spread {
    db: TestDb,
    owner: PgPool,
    message: MessageId,
    jobs: Vec<Job>,
}

impl Spread {
    async fn new() -> Self {
        let db = TestDb::new().await;
        let owner = db.pool(Role::Owner).await;
        let (api, worker) = (db.pool(Role::Api).await, db.pool(Role::Worker).await);
        let shop = builders::tenant(&owner, "shop").await;
        builders::tenant(&owner, "bank").await;
        let to = builders::recipients(10, "example.org");
        let message = builders::submit(&api, shop, "shop", "transactional", &to).await;
        let session = builders::session(&worker, Duration::from_secs(60)).await;
        let jobs = builders::claim_all(&worker, session.id(), 7).await;
        assert_eq!(jobs.len(), 7);
        let spread = Self { db, owner, message, jobs };
        for (n, kind) in [(0, 1), (1, 2), (2, 5)] {
            spread.end(n, kind).await;
        }
        spread
            .change(
                "with l as (delete from postrider.lease where job_id = $1 returning *)
                 insert into postrider.deferred(due_at, job_id, lane_id, tenant_id, expires_at, attempt, hold)
                 select now() + interval '1 hour', job_id, lane_id, tenant_id, expires_at, attempt, hold from l",
                3,
            )
            .await;
        spread
            .change(
                "with l as (delete from postrider.lease where job_id = $1 returning *)
                 insert into postrider.dead_letter(tenant_id, job_id, message_id, lane_id, attempts, hold, reason, recipient)
                 select l.tenant_id, l.job_id, j.message_id, l.lane_id, l.attempt, l.hold, 'malformed', j.recipient
                 from l join postrider.job j using (job_id)",
                4,
            )
            .await;
        spread
    }

    async fn end(&self, n: usize, kind: i16) {
        self.change("delete from postrider.lease where job_id = $1", n).await;
        self.attempt(n, kind).await;
    }

    async fn attempt(&self, n: usize, kind: i16) {
        sqlx::query(
            "insert into postrider.attempt(tenant_id, message_id, job_id, attempt, kind)
             select tenant_id, message_id, job_id, 1, $2 from postrider.job where job_id = $1",
        )
        .bind(self.jobs[n].id.get())
        .bind(kind)
        .execute(&self.owner)
        .await
        .expect("write history");
    }

    async fn change(&self, statement: &'static str, n: usize) {
        let done = sqlx::query(statement)
            .bind(self.jobs[n].id.get())
            .execute(&self.owner)
            .await
            .expect(statement);
        assert_eq!(done.rows_affected(), 1, "{statement}");
    }

    async fn audit(&self) -> Audit {
        let operator = self.db.pool(Role::Operator).await;
        audit(&operator, Extent { most: 10, ..Extent::default() }).await.expect("an audit")
    }

    /// The tool agrees: code 1 and these words.
    async fn is_found(&self, fault: &str) {
        assert!(!self.audit().await.adds_up(), "{fault}");
        let ran = postrider(&self.db, &["audit"]);
        assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
        assert!(ran.out.contains(fault), "expected {fault:?} in\n{}", ran.out);
        let message = self.message.to_string();
        let narrowed = postrider(&self.db, &["audit", "--tenant", "shop"]);
        assert_eq!(narrowed.code, 1, "{}", narrowed.out);
        let elsewhere = postrider(&self.db, &["audit", "--tenant", "bank"]);
        assert_eq!(elsewhere.code, 0, "{}", elsewhere.out);
        let one = postrider(&self.db, &["audit", "--message", &message]);
        assert_eq!(one.code, 1, "{}", one.out);
    }
}

#[tokio::test]
async fn everything_adds_up_in_every_place() {
    let spread = Spread::new().await;
    let sums = spread.audit().await;
    assert!(sums.adds_up(), "{sums:?}");
    assert_eq!((sums.messages, sums.accepted), (1, 10));
    assert_eq!((sums.ended, sums.dead, sums.waiting), (3, 1, 6));
    let ran = postrider(&spread.db, &["audit", "--json"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let facts: Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!((&facts["accepted"], &facts["offenders"]), (&10.into(), &0.into()));
    let one = postrider(&spread.db, &["audit", "--message", &spread.message.to_string()]);
    assert_eq!(one.code, 0, "{}", one.out);
    let none = postrider(&spread.db, &["audit", "--message", "msg_0000000000001"]);
    assert_eq!(none.code, 1, "{}", none.out);
}

#[tokio::test]
async fn a_job_row_that_is_gone_is_found() {
    let spread = Spread::new().await;
    spread.change("delete from postrider.job where job_id = $1", 5).await;
    spread.is_found("1 waiting without a job row").await;
}

#[tokio::test]
async fn the_job_row_of_an_ended_delivery_that_is_gone_is_found() {
    let spread = Spread::new().await;
    spread.change("delete from postrider.job where job_id = $1", 0).await;
    spread.is_found("accepted 10, job rows 9").await;
}

#[tokio::test]
async fn a_second_end_is_found() {
    let spread = Spread::new().await;
    spread.attempt(0, 2).await;
    spread.is_found("1 ended twice").await;
}

#[tokio::test]
async fn an_end_of_what_still_waits_is_found() {
    let spread = Spread::new().await;
    spread.attempt(5, 1).await;
    spread.is_found("1 in two places").await;
}

#[tokio::test]
async fn a_loss_and_a_gain_do_not_cancel_out() {
    let spread = Spread::new().await;
    spread.change("delete from postrider.lease where job_id = $1", 5).await;
    spread.attempt(0, 1).await;
    let sums = spread.audit().await;
    assert_eq!(sums.ended + sums.dead + sums.waiting, sums.accepted, "the plain sum is fooled");
    spread.is_found("1 in no place").await;
}

#[tokio::test]
async fn a_lease_that_is_gone_is_found() {
    let spread = Spread::new().await;
    spread.change("delete from postrider.lease where job_id = $1", 6).await;
    spread.is_found("accepted 10, found 9").await;
}

#[tokio::test]
async fn a_deferred_row_and_a_dead_letter_that_are_gone_are_found() {
    let spread = Spread::new().await;
    spread.change("delete from postrider.deferred where job_id = $1", 3).await;
    spread.change("delete from postrider.dead_letter where job_id = $1", 4).await;
    spread.is_found("2 in no place").await;
}

#[tokio::test]
async fn a_message_row_that_is_gone_is_found_while_something_waits() {
    let spread = Spread::new().await;
    sqlx::query("delete from postrider.message").execute(&spread.owner).await.expect("delete");
    let ran = postrider(&spread.db, &["audit"]);
    assert_eq!(ran.code, 1, "{}", ran.out);
    assert!(ran.out.contains("the message row is missing"), "{}", ran.out);
}

#[tokio::test]
async fn pruned_history_is_no_fault() {
    let spread = Spread::new().await;
    let api = spread.db.pool(Role::Api).await;
    let shop: i64 =
        sqlx::query_scalar("select tenant_id from postrider.tenant where name = 'shop'")
            .fetch_one(&spread.owner)
            .await
            .expect("the shop");
    let to = builders::recipients(2, "example.org");
    builders::submit(&api, shop, "shop", "transactional", &to).await;
    // As if the days before the second message were dropped, with ended deliveries only.
    for n in [3, 4, 5, 6] {
        for table in ["deferred", "dead_letter", "lease"] {
            let delete = format!("delete from postrider.{table} where job_id = $1");
            sqlx::query(sqlx::AssertSqlSafe(delete))
                .bind(spread.jobs[n].id.get())
                .execute(&spread.owner)
                .await
                .expect("delete");
        }
        spread.attempt(n, 1).await;
    }
    for drop in [
        "delete from postrider.ready where job_id in (select job_id from postrider.job where message_id = $1)",
        "delete from postrider.job where message_id = $1",
        "delete from postrider.message where message_id = $1",
    ] {
        sqlx::query(drop).bind(spread.message.get()).execute(&spread.owner).await.expect(drop);
    }
    let sums = spread.audit().await;
    assert!(sums.adds_up(), "{sums:?}");
    assert_eq!((sums.messages, sums.accepted, sums.waiting), (1, 2, 2));
}
