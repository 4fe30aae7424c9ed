//! Promises: an intent is durable before its delivery may be sent; many share one commit; a
//! fenced session gets no leave; while the database takes no intents, nobody gets leave.

use std::sync::Arc;
use std::time::Duration;

use crate::support::builders;
use crate::support::postgres::{Role, TestDb};
use postrider::domain::ids::{DeliveryId, Hold};
use postrider::domain::outcome::{Outcome, WaitReason};
use postrider::queue::intent::{self, Batch, Leave};
use postrider::queue::session::Session;
use postrider::queue::signal::Class;
use postrider::queue::upkeep::{self, Rescued};
use postrider::worker::held::{Claimed, Held};
use postrider::worker::intents::Intents;
use postrider::worker::shutdown::Stopping;
use sqlx::PgPool;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const TTL: Duration = Duration::from_secs(20);

/// Long enough for a statement that is not held up by anything.
const A_WHILE: Duration = Duration::from_millis(300);

struct Writer {
    _db: TestDb,
    owner: PgPool,
    session: Arc<Session>,
    held: Arc<Held>,
    stopping: Stopping,
    intents: Intents,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Writer {
    async fn start() -> Self {
        let db = TestDb::new().await;
        let (owner, worker) = (db.pool(Role::Owner).await, db.pool(Role::Worker).await);
        let session = Arc::new(builders::session(&worker, TTL).await);
        let (held, stopping) = (Arc::new(Held::default()), Stopping::default());
        let (writer, intents) = Intents::new(
            worker.clone(),
            Arc::clone(&session),
            Arc::clone(&held),
            stopping.clone(),
            Duration::from_secs(30),
        );
        let stop = CancellationToken::new();
        let task = tokio::spawn(writer.run(stop.clone()));
        Self { _db: db, owner, session, held, stopping, intents, stop, task }
    }

    /// Asks for leave to send these, all at once.
    async fn declare(&self, claims: &[Claimed]) -> Vec<Result<(), Outcome>> {
        for claim in claims {
            self.held.take(*claim, Class::Bulk);
        }
        let asked = claims.iter().map(|claim| self.intents.declare(*claim));
        futures_util::future::join_all(asked).await
    }

    async fn rows(&self) -> i64 {
        builders::rows(&self.owner, "intent").await
    }
}

fn claims(n: i64) -> Vec<Claimed> {
    (1..=n).map(|job| (DeliveryId::new(job), Hold::new(3))).collect()
}

fn postponed(reason: WaitReason) -> Result<(), Outcome> {
    Err(Outcome::Postponed { delay: Duration::ZERO, reason })
}

#[tokio::test]
async fn a_crowd_shares_commits_and_settled_intents_go() {
    let writer = Writer::start().await;
    let all = claims(1_200);
    assert!(writer.declare(&all).await.iter().all(Result::is_ok));
    let recorded: i64 = sqlx::query_scalar(
        "select count(distinct (j, h)) from postrider.intent i, unnest(job_ids, holds) as u(j, h)
         where session_id = $1 and h = 3",
    )
    .bind(writer.session.id().get())
    .fetch_one(&writer.owner)
    .await
    .expect("count");
    assert_eq!(recorded, 1_200, "each is durable by the time it has leave");
    let rows = writer.rows().await;
    assert!(rows <= 120, "{rows} commits for 1,200 that came at once");
    assert_eq!(writer.held.under_intent(), 1_200);

    writer.held.settled(all[..1_199].iter().copied());
    assert!(writer.declare(&[(DeliveryId::new(5_000), Hold::new(1))]).await[0].is_ok());
    let rows = writer.rows().await;
    assert_eq!(rows, 2, "the one that is not settled keeps its row, beside the latest");
    writer.held.settled([all[1_199], (DeliveryId::new(5_000), Hold::new(1))]);
    writer.stop.cancel();
    writer.task.await.expect("ends");
    assert_eq!(builders::rows(&writer.owner, "intent").await, 0);
}

#[tokio::test]
async fn a_fenced_session_gets_no_leave() {
    let writer = Writer::start().await;
    builders::fence_all(&writer.owner).await;
    let refused = writer.declare(&claims(2)).await;
    assert!(refused.iter().all(|one| *one == postponed(WaitReason::NotReady)), "{refused:?}");
    assert_eq!(writer.rows().await, 0);
}

#[tokio::test]
async fn nobody_has_leave_while_intents_cannot_be_written() {
    let writer = Writer::start().await;
    let rename = |from: &str, to: &str| {
        let statement = format!("alter table postrider.{from} rename to {to}");
        let owner = writer.owner.clone();
        async move {
            sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&owner).await.expect("rename");
        }
    };
    rename("intent", "away").await;
    let one = claims(1);
    let mut asked = Box::pin(writer.declare(&one));
    assert!(timeout(A_WHILE, &mut asked).await.is_err(), "it waits");
    rename("away", "intent").await;
    assert_eq!(asked.await, [Ok(())], "and goes on by itself");

    rename("intent", "away").await;
    let next = [(DeliveryId::new(2), Hold::new(1))];
    let mut asked = Box::pin(writer.declare(&next));
    assert!(timeout(A_WHILE, &mut asked).await.is_err(), "it waits");
    writer.stopping.set();
    assert_eq!(asked.await, [postponed(WaitReason::Shutdown)], "a stop lets it go");
}

#[tokio::test]
async fn an_intent_that_commits_around_the_fence_is_seen_by_the_rescue() {
    let db = TestDb::new().await;
    let (owner, api, worker) =
        (db.pool(Role::Owner).await, db.pool(Role::Api).await, db.pool(Role::Worker).await);
    let tenant = builders::tenant(&owner, "acme").await;
    builders::submit(&api, tenant, "acme", "bulk", &builders::recipients(3, "example.org")).await;
    let session = builders::session(&worker, TTL).await;
    let jobs = builders::claim_all(&worker, session.id(), 3).await;

    // The first intent has begun to be written when somebody fences.
    let mut writing = worker.acquire().await.expect("a connection");
    sqlx::raw_sql("begin").execute(&mut *writing).await.expect("begin");
    let begun: bool = sqlx::query_scalar(include_str!("../src/queue/sql/write_intent.sql"))
        .bind(session.id().get())
        .bind(1_i64)
        .bind(vec![jobs[0].id.get()])
        .bind(vec![jobs[0].hold.get()])
        .bind(Vec::<i64>::new())
        .fetch_one(&mut *writing)
        .await
        .expect("write");
    assert!(begun);
    let mut fence = Box::pin(builders::fence_all(&owner));
    assert!(timeout(A_WHILE, &mut fence).await.is_err(), "the fence waits for it");
    sqlx::raw_sql("commit").execute(&mut *writing).await.expect("commit");
    fence.await;
    let late = [(jobs[1].id, jobs[1].hold)];
    let leave = intent::write(&worker, session.id(), Batch::new(2), &late, &[]).await;
    assert_eq!(leave.expect("write"), Leave::Fenced, "the next comes too late");

    let rescued = upkeep::rescue(&worker, 100, Duration::ZERO, 5).await.expect("rescue");
    assert_eq!(rescued, Rescued { unsent: 2, resent: 1, held: 0 });
    let spent = "deferred where suspect and attempt = 1";
    assert_eq!(builders::rows(&owner, spent).await, 1, "in doubt, its attempt is spent");
    let unspent = "deferred where not suspect and attempt = 0";
    assert_eq!(builders::rows(&owner, unspent).await, 2, "never sent, not suspect, unspent");
    assert_eq!(builders::rows(&owner, "attempt where kind = 8 and in_doubt").await, 1);
    assert_eq!(builders::rows(&owner, "attempt where kind = 8 and not in_doubt").await, 2);
}
