//! Promise: whoever asks why mail waits is told the constraint that binds, since when, and
//! when the mail is expected to go; and nothing of other tenants.

use std::time::{Duration, Instant};

use crate::support::api::{TestApi, in_hours, message};
use crate::support::builders;
use crate::support::command::{facts, postrider};
use crate::support::installation::Installation;
use crate::support::postgres::{Role, TestDb};
use axum::http::StatusCode;
use postrider::domain::ids::{DeliveryId, MessageId};
use serde_json::Value;
use sqlx::PgPool;

/// Longest wait for a daemon to tell something; only a broken program reaches it.
const PATIENCE: Duration = Duration::from_secs(60);

/// The deliveries of a message in the order of their ids.
async fn deliveries(owner: &PgPool, message: MessageId) -> Vec<String> {
    let jobs: Vec<i64> =
        sqlx::query_scalar("select job_id from postrider.job where message_id = $1 order by 1")
            .bind(message.get())
            .fetch_all(owner)
            .await
            .expect("jobs");
    jobs.into_iter().map(|job| DeliveryId::new(job).to_string()).collect()
}

/// Asks until the first constraint is of this kind.
async fn until(db: &TestDb, what: &str, kind: &str) -> Value {
    let started = Instant::now();
    loop {
        let why = facts(db, &["why", what]);
        let head = why.get("lanes").map_or(&why, |lanes| &lanes[0]);
        if head["waits_for"][0]["kind"] == kind {
            return why;
        }
        assert!(started.elapsed() < PATIENCE, "never {kind}: {why:#}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A daemon that lives and does nothing.
async fn idle_session(db: &TestDb) {
    builders::session(&db.pool(Role::Worker).await, Duration::from_secs(60)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_is_named_with_its_rate_and_an_expectation_that_comes_true() {
    let home = Installation::new(None).await;
    let db = home.database();
    let tenant = builders::tenant(&home.owner, "acme").await;
    let config = home.configure(
        "[[throttle]]\nscope = \"tenant\"\ntenant = \"acme\"\nrate = \"5/s\"\nburst = 1\n",
    );
    let _daemon = home.daemon(&config).await;
    let sent = home.submit(tenant, "bulk", &builders::recipients(150, "example.org")).await;
    let last = deliveries(&home.owner, sent).await.pop().expect("a delivery");

    let started = Instant::now();
    let why = loop {
        let why = until(db, &last, "rate").await;
        if why["lane_per_second"].as_f64().is_some_and(|rate| (3.0..7.0).contains(&rate)) {
            break why;
        }
        assert!(started.elapsed() < PATIENCE, "{why:#}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let limit = &why["waits_for"][0];
    assert_eq!(limit["what"], "tenant acme");
    assert_eq!(limit["allows"], "5/s");
    assert_eq!(limit["rate_per_second"], 5.0);
    assert!(limit["since"].is_string());
    let before = why["before"]["count"].as_u64().expect("a number");
    assert!((1..150).contains(&before), "{why:#}");
    let time = |key: &str| -> chrono::DateTime<chrono::Utc> {
        why["expected"][key].as_str().expect(key).parse().expect("a time")
    };
    let (earliest, latest) = (time("earliest"), time("latest"));
    assert!(earliest < latest, "{why:#}");
    let words = postrider(db, &["why", &last]).out;
    assert!(words.contains("waits for a rate limit: tenant acme allows 5/s"), "{words}");

    let status = facts(db, &["queue", "status"]);
    assert_eq!(status["lanes"][0]["waits_for"], "rate (tenant acme, 5/s)", "{status:#}");
    let summary = until(db, "acme", "rate").await;
    assert_eq!(summary["lanes"][0]["stream"], "bulk");
    assert!(summary["lanes"][0]["expected"]["latest"].is_string(), "{summary:#}");
    let of_message = until(db, &sent.to_string(), "rate").await;
    assert!(of_message["deliveries"]["queued"].as_u64().is_some_and(|queued| queued > 0));

    home.sink_has(150).await;
    let ended = until(db, &last, "ended").await;
    let at: chrono::DateTime<chrono::Utc> =
        ended["waits_for"][0]["since"].as_str().expect("when").parse().expect("a time");
    let slack = chrono::TimeDelta::seconds(2);
    assert!(earliest - slack <= at && at <= latest + slack, "{earliest} {at} {latest}");
    assert_eq!(ended["waits_for"][0]["what"], "delivered");
    assert_eq!(ended["expected"], Value::Null);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deferral_says_what_was_answered_and_when_it_is_tried_again() {
    let faults = "rcpt-defer=100".parse().expect("a fault mix");
    let home = Installation::new(Some(faults)).await;
    let db = home.database();
    let tenant = builders::tenant(&home.owner, "acme").await;
    let daemon = home.daemon(&home.configure("")).await;
    let sent = home.submit(tenant, "bulk", &builders::recipients(1, "example.org")).await;
    let one = &deliveries(&home.owner, sent).await[0];
    let why = until(db, one, "retry").await;
    let retry = &why["waits_for"][0];
    assert!(retry["until"].is_string() && retry["since"].is_string(), "{why:#}");
    assert!(retry["reason"].as_str().is_some_and(|reply| reply.starts_with('4')), "{why:#}");
    assert_eq!(why["state"], "deferred");
    assert_eq!(why["expected"]["earliest"], retry["until"]);
    drop(daemon);
}

#[tokio::test]
async fn a_pause_says_who_why_and_until_when() {
    let db = TestDb::new().await;
    let (owner, api) = (db.pool(Role::Owner).await, db.pool(Role::Api).await);
    let tenant = builders::tenant(&owner, "acme").await;
    let to = builders::recipients(3, "example.org");
    let sent = builders::submit(&api, tenant, "acme", "bulk", &to).await;
    let last = deliveries(&owner, sent).await.pop().expect("a delivery");

    let why = facts(&db, &["why", &last]);
    assert_eq!(why["waits_for"][0]["kind"], "no_worker", "{why:#}");
    assert_eq!(why["expected"]["unknown"], "no daemon is running");
    assert_eq!(why["before"]["count"], 2);

    idle_session(&db).await;
    let why = facts(&db, &["why", &last]);
    assert_eq!(why["waits_for"][0]["kind"], "turn", "{why:#}");

    let pause = ["queue", "pause", "--tenant", "acme", "--reason", "complaints rose"];
    let paused = postrider(&db, &[&pause[..], &["--for", "2h", "--actor", "ann"]].concat());
    assert_eq!(paused.code, 0, "{}", paused.err);
    let why = facts(&db, &["why", &last]);
    let binding = &why["waits_for"][0];
    assert_eq!(binding["kind"], "paused", "{why:#}");
    assert_eq!(binding["what"], "tenant acme");
    assert_eq!(binding["reason"], "complaints rose");
    assert_eq!(binding["by"], "ann");
    assert!(binding["until"].is_string() && binding["since"].is_string());
    assert_eq!(why["expected"]["earliest"], binding["until"]);
    assert!(why["advice"].as_str().is_some_and(|advice| advice.contains("queue resume")));
    let tenants = facts(&db, &["why", "acme"]);
    assert_eq!(tenants["lanes"][0]["waits_for"][0]["kind"], "paused", "{tenants:#}");
    assert_eq!(tenants["lanes"][0]["due"]["count"], 3);
}

#[tokio::test]
async fn hands_times_ends_and_dead_letters_are_told() {
    let db = TestDb::new().await;
    let (owner, api, worker) =
        (db.pool(Role::Owner).await, db.pool(Role::Api).await, db.pool(Role::Worker).await);
    let tenant = builders::tenant(&owner, "acme").await;
    let to = builders::recipients(2, "example.org");
    let sent = builders::submit(&api, tenant, "acme", "bulk", &to).await;
    let ids = deliveries(&owner, sent).await;
    let session = builders::session(&worker, Duration::from_secs(60)).await;
    builders::claim_all(&worker, session.id(), 1).await;
    let why = facts(&db, &["why", &ids[0]]);
    assert_eq!(why["waits_for"][0]["kind"], "in_hand", "{why:#}");
    assert_eq!(why["waits_for"][0]["by"], "test");

    sqlx::query(
        "with l as (delete from postrider.lease returning *)
         insert into postrider.dead_letter(tenant_id, job_id, message_id, lane_id, attempts, hold, reason, detail, recipient)
         select l.tenant_id, l.job_id, j.message_id, l.lane_id, 1, l.hold, 'malformed', 'no value for name', j.recipient
         from l join postrider.job j using (job_id)",
    )
    .execute(&owner)
    .await
    .expect("bury");
    let why = facts(&db, &["why", &ids[0]]);
    assert_eq!(why["waits_for"][0]["kind"], "dead_letter", "{why:#}");
    assert_eq!(why["waits_for"][0]["reason"], "no value for name");
    assert!(why["advice"].as_str().is_some_and(|advice| advice.contains("dead-letter replay")));

    // Called back, and not swept yet.
    let called = postrider(&db, &["queue", "cancel", &sent.to_string()]);
    assert_eq!(called.code, 0, "{}", called.err);
    let why = facts(&db, &["why", &ids[1]]);
    assert_eq!(why["waits_for"][0]["kind"], "cancelled", "{why:#}");

    let whole = facts(&db, &["why", &sent.to_string()]);
    assert!(whole["cancelled_at"].is_string(), "{whole:#}");
    assert_eq!(whole["deliveries"]["dead_lettered"], 1);

    let nobody = postrider(&db, &["why", "dlv_0000000000001"]);
    assert_eq!(nobody.code, 1, "{}", nobody.out);
    assert_eq!(postrider(&db, &["why", "dlv_nonsense"]).code, 2);
    assert_eq!(postrider(&db, &["why", "nobody"]).code, 1);
}

#[tokio::test]
async fn scheduled_mail_waits_for_its_time_wherever_its_row_is() {
    let api = TestApi::new().await;
    let acme = api.tenant("acme").await;
    let mut later = message("acme", &["ann@x.example"]);
    later["send_at"] = serde_json::json!(in_hours(3));
    let id = api.submit(&acme.key, &later).await.id().to_owned();
    let page = api.get(&acme.key, &format!("/v1/messages/{id}/deliveries")).await;
    let delivery = page.body["deliveries"][0]["id"].as_str().expect("an id").to_owned();
    let ask = async || api.get(&acme.key, &format!("/v1/deliveries/{delivery}/why")).await;
    let scheduled = |answer: &crate::support::api::Answer| {
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        assert_eq!(answer.body["waits_for"][0]["kind"], "scheduled", "{answer:?}");
        assert!(answer.body["expected"]["earliest"].is_string());
        assert_eq!(answer.body["state"], "scheduled");
    };
    scheduled(&ask().await);

    // The row in ready, due in the future.
    sqlx::query(
        "with gone as (delete from postrider.deferred returning *)
         insert into postrider.ready(gen, lane_id, run_at, job_id, tenant_id, expires_at)
         select cur, lane_id, due_at, job_id, tenant_id, expires_at from gone, postrider.generation",
    )
    .execute(&api.owner)
    .await
    .expect("move");
    sqlx::query("delete from postrider.deferred").execute(&api.owner).await.expect("delete");
    scheduled(&ask().await);
}

#[tokio::test]
async fn a_tenant_learns_nothing_of_others() {
    let api = TestApi::new().await;
    let (one, two) = (api.tenant("one").await, api.tenant("two").await);
    let id = api.submit(&one.key, &message("one", &["ann@x.example"])).await.id().to_owned();
    api.submit(&two.key, &message("two", &["bob@x.example"])).await;
    let page = api.get(&one.key, &format!("/v1/messages/{id}/deliveries")).await;
    let delivery = page.body["deliveries"][0]["id"].as_str().expect("an id").to_owned();
    for (path, nobody) in [
        (format!("/v1/messages/{id}/why"), "/v1/messages/msg_0000000000001/why"),
        (format!("/v1/deliveries/{delivery}/why"), "/v1/deliveries/dlv_0000000000001/why"),
    ] {
        let theirs = api.get(&two.key, &path).await;
        let nobodys = api.get(&two.key, nobody).await;
        assert_eq!(theirs.status, StatusCode::NOT_FOUND, "{path}: {theirs:?}");
        assert_eq!(theirs.body, nobodys.body, "existence is not told");
        assert_eq!(api.get(&one.key, &path).await.status, StatusCode::OK);
    }

    // A limit that both wait for, and a pause of everything to the mailbox provider.
    let session: i64 = sqlx::query_scalar(
        "insert into postrider.worker_session(worker) values ('secret-host') returning session_id",
    )
    .fetch_one(&api.owner)
    .await
    .expect("a session");
    sqlx::query(
        "insert into postrider.lane_wait(session_id, lane_id, tenant_id, reason, limit_key, limit_text, limit_rate, lane_rate, since)
         select $1, lane_id, tenant_id, 'rate', 'source hidden-source at mailbox provider other', '4711/s', 4711, 1.5, now() from postrider.lane",
    )
    .bind(session)
    .execute(&api.owner)
    .await
    .expect("tell");
    let why = api.get(&one.key, &format!("/v1/deliveries/{delivery}/why")).await;
    assert_eq!(why.body["waits_for"][0]["kind"], "rate", "{why:?}");
    assert_eq!(why.body["waits_for"][0]["what"], "mail that leaves by the same way");
    let text = why.body.to_string();
    for hidden in ["4711", "hidden-source", "secret-host", "two"] {
        assert!(!text.contains(hidden), "{hidden} in {text}");
    }
    sqlx::query(
        "insert into postrider.block values ('P', '0', now() + interval '1 hour', 'two spams')",
    )
    .execute(&api.owner)
    .await
    .expect("pause");
    let why = api.get(&one.key, &format!("/v1/deliveries/{delivery}/why")).await;
    assert_eq!(why.body["waits_for"][0]["kind"], "paused", "{why:?}");
    assert_eq!(why.body["waits_for"][0]["what"], "all mail to other");
    assert!(!why.body.to_string().contains("spams"), "{why:?}");
    // Its own pause is told with the reason.
    sqlx::query(
        "insert into postrider.block select 'T', tenant_id, now() + interval '1 hour', 'unpaid' from postrider.tenant",
    )
    .execute(&api.owner)
    .await
    .expect("pause");
    let why = api.get(&one.key, &format!("/v1/deliveries/{delivery}/why")).await;
    assert!(why.body.to_string().contains("unpaid"), "{why:?}");

    // And what it holds back itself, by a name that only its own streams have.
    sqlx::query("delete from postrider.block").execute(&api.owner).await.expect("resume");
    let stream = why.body["stream"].as_str().expect("a stream").to_owned();
    let pause = serde_json::json!({"reason": "wrong prices", "for": "2h"});
    let paused = api.post_json(&one.key, &format!("/v1/streams/{stream}/pause"), &pause).await;
    assert_eq!(paused.status, StatusCode::OK, "{paused:?}");
    let why = api.get(&one.key, &format!("/v1/deliveries/{delivery}/why")).await;
    let binding = &why.body["waits_for"][0];
    assert_eq!(binding["what"], format!("stream {stream}"), "{why:?}");
    assert_eq!(binding["reason"], "wrong prices");
    assert!(binding["since"].is_string() && binding["until"].is_string(), "{why:?}");
}
