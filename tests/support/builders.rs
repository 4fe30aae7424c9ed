//! Short ways to a tenant with work in the queue.

use std::time::Duration;

use postrider::domain::ids::{LaneId, MessageId, SessionId};
use postrider::queue::Generation;
use postrider::queue::claim::{Want, claim};
use postrider::queue::intent::{self, Batch, Leave};
use postrider::queue::job::Job;
use postrider::queue::lane;
use postrider::queue::session::Session;
use postrider::queue::upkeep;
use postrider::tenant::suppression::Keeper;
use sqlx::{PgPool, Row};

/// A tenant with a sending domain `NAME.example`; its number.
pub async fn tenant(owner: &PgPool, name: &str) -> i64 {
    let id: i64 =
        sqlx::query_scalar("insert into postrider.tenant(name) values ($1) returning tenant_id")
            .bind(name)
            .fetch_one(owner)
            .await
            .expect("create the tenant");
    sqlx::query(
        "insert into postrider.sending_domain(tenant_id, domain, signed) values ($1, $2, false)",
    )
    .bind(id)
    .bind(format!("{name}.example"))
    .execute(owner)
    .await
    .expect("add its domain");
    id
}

/// A message of `tenant` in `stream` to `to`, submitted as the API does.
pub async fn submit(
    api: &PgPool,
    tenant: i64,
    name: &str,
    stream: &str,
    to: &[String],
) -> MessageId {
    let row = sqlx::query(
        "select status, message_id, accepted from postrider.submit($1, $2, $3, $4::json, null, null, $5, $6)",
    )
    .bind(tenant)
    .bind(format!("{name}.example"))
    .bind(stream)
    .bind(format!(r#"{{"from":"me@{name}.example","subject":"Hi","text":"Hello"}}"#))
    .bind(to)
    .bind(vec![None::<String>; to.len()])
    .fetch_one(api)
    .await
    .expect("submit");
    assert_eq!(row.get::<String, _>("status"), "ok");
    assert_eq!(row.get::<i32, _>("accepted") as usize, to.len());
    MessageId::new(row.get("message_id"))
}

/// `n` recipients at `domain`.
pub fn recipients(n: usize, domain: &str) -> Vec<String> {
    (0..n).map(|i| format!("user{i}@{domain}")).collect()
}

/// A session that counts as silent after `ttl`.
pub async fn session(worker: &PgPool, ttl: Duration) -> Session {
    Session::open(worker, "test", ttl).await.expect("open a session")
}

/// Every lane that was hinted.
pub async fn lanes(worker: &PgPool) -> Vec<LaneId> {
    lane::look(worker, 3600.0).await.expect("look").hinted
}

/// Claims up to `take` from every hinted lane and live generation.
pub async fn claim_all(worker: &PgPool, session: SessionId, take: u32) -> Vec<Job> {
    claim_all_as(worker, &Keeper::default(), session, take).await
}

/// The same by a process that knows how the list of suppressions names people.
pub async fn claim_all_as(
    worker: &PgPool,
    keeper: &Keeper,
    session: SessionId,
    take: u32,
) -> Vec<Job> {
    let wants: Vec<Want> =
        lanes(worker).await.into_iter().map(|lane| Want { lane, after: None, take }).collect();
    let mut jobs = Vec::new();
    let live = upkeep::live_generations(worker).await.expect("generations");
    for generation in [Generation::PARKED].into_iter().chain(live) {
        jobs.extend(claim(worker, keeper, session, generation, &wants).await.expect("claim").jobs);
    }
    jobs
}

/// Fences every session that lives, as others do when it is silent for long enough.
pub async fn fence_all(owner: &PgPool) {
    sqlx::query("update postrider.worker_session set state = 'fenced' where state <> 'fenced'")
        .execute(owner)
        .await
        .expect("fence");
}

/// Says durably that these jobs are about to be sent.
pub async fn intend(worker: &PgPool, session: SessionId, batch: i64, jobs: &[Job]) {
    let claims: Vec<_> = jobs.iter().map(|job| (job.id, job.hold)).collect();
    let leave = intent::write(worker, session, Batch::new(batch), &claims, &[]).await;
    assert_eq!(leave.expect("write the intent"), Leave::Granted);
}

/// Rows of a table of the queue.
pub async fn rows(owner: &PgPool, table: &str) -> i64 {
    sqlx::query_scalar(sqlx::AssertSqlSafe(format!("select count(*) from postrider.{table}")))
        .fetch_one(owner)
        .await
        .expect("count")
}

/// History rows of a kind.
pub async fn attempts(owner: &PgPool, kind: i16) -> i64 {
    sqlx::query_scalar("select count(*) from postrider.attempt where kind = $1")
        .bind(kind)
        .fetch_one(owner)
        .await
        .expect("count")
}
