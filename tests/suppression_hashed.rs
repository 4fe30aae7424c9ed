//! Promise: kept as keyed hashes, no list holds an address in the clear; whoever has the key finds
//! what is there in either form, whoever has another does not start.

use std::time::Duration;

use crate::support::api::{Tenant, TestApi, message, request};
use crate::support::builders;
use crate::support::command::{command, ran};
use crate::support::postgres::Role;
use axum::body::Body;
use axum::http::Method;
use postrider::config::secret::Secret;
use postrider::config::{Settings, Suppression};
use postrider::domain::ids::{DeliveryId, TenantId};
use postrider::domain::outcome::Outcome;
use postrider::domain::receipt::Trail;
use postrider::domain::verdict::{Cause, Class, Finality, PeerReply, Reach, Stage, Verdict};
use postrider::event::switch;
use postrider::message::unsubscribe::TokenKey;
use postrider::queue::claim::{Want, claim};
use postrider::queue::job::{Bar, Job};
use postrider::queue::settle::{Ending, Settlement, settle};
use postrider::queue::upkeep;
use postrider::tenant::suppression::{Keeper, KeyError, Probes, rehash};
use serde_json::{Value, json};

const KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

fn hashed() -> Suppression {
    Suppression { hashed: true, key: Some(Secret::new(KEY)), ..Suppression::default() }
}

fn settings() -> Settings {
    Settings { suppression: hashed(), ..Settings::for_testing() }
}

/// Rows of lists that hold an address in the clear.
const CLEAR: &str =
    "select (select count(*) from postrider.suppression where strpos(replace(address, '@#', ''), '@') > 0)
    + (select count(*) from postrider.suppression_past where strpos(replace(address, '@#', ''), '@') > 0)
    + (select count(*) from postrider.soft_bounce where strpos(replace(address, '@#', ''), '@') > 0)";

async fn claimed(api: &TestApi, keeper: &Keeper) -> Vec<Job> {
    let worker = api.db.pool(Role::Worker).await;
    let session = builders::session(&worker, Duration::from_secs(60)).await;
    let lanes = builders::lanes(&worker).await;
    let wants: Vec<Want> =
        lanes.into_iter().map(|lane| Want { lane, after: None, take: 10 }).collect();
    let live = upkeep::live_generations(&worker).await.expect("generations");
    let mut jobs = Vec::new();
    for generation in live {
        jobs.extend(
            claim(&worker, keeper, session.id(), generation, &wants).await.expect("claim").jobs,
        );
    }
    // Settled as the daemon does: a full mailbox, and a dead address.
    for job in jobs.iter().filter(|job| job.bar.is_none()) {
        let full = job.recipient.starts_with("full");
        let verdict = Verdict {
            stage: Stage::Rcpt,
            cause: Cause::Reply(PeerReply { code: 550, enhanced: None, text: "no".into() }),
            class: if full { Class::MailboxFull } else { Class::AddressBad },
            finality: Finality::Final,
            reach: Reach::Recipient,
            retry_after: None,
            ruling: None,
        };
        let ending = Ending::Bounced { condemned: !full };
        let done = Settlement::new(job, ending, &Outcome::Refused(verdict), &Trail::default());
        settle(&worker, session.id(), job.generation, &[&done]).await.expect("settle");
    }
    jobs
}

/// What the tenant was told of a bad address. Events are told once nothing older still runs,
/// also of others' tests.
async fn told(api: &TestApi, tenant: &Tenant) -> Value {
    let look = async {
        loop {
            let page = api.get(&tenant.key, "/v1/events?type=suppressed").await.body;
            let events = page["events"].as_array().cloned().unwrap_or_default();
            let found = events.into_iter().find(|one| one["data"]["reason"] == "address_bad");
            if let Some(mut event) = found {
                return event["data"].take();
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), look).await.expect("told")
}

#[tokio::test]
async fn no_list_holds_an_address_and_everything_is_found() {
    let api = TestApi::with(settings()).await;
    let shop = api.tenant("shop").await;
    switch::on(&api.owner, TenantId::new(shop.id)).await.expect("listen");
    let keeper = Keeper::new(&hashed());
    api.post_json(&shop.key, "/v1/suppressions", &json!({"address": "Ann@x.example"})).await;
    api.post_json(&shop.key, "/v1/suppressions", &json!({"address": "@whole.example"})).await;
    let to = [
        "ann@X.example",
        "bob@whole.example",
        "full@y.example",
        "gone@y.example",
        "leaves@y.example",
    ];
    let answer = api.submit(&shop.key, &message("shop", &to)).await;
    assert_eq!(answer.body["suppressed"].as_array().expect("a list").len(), 2, "{answer:?}");
    api.post_json(&shop.key, "/v1/suppressions", &json!({"address": "LEAVES@y.example"})).await;
    let jobs = claimed(&api, &keeper).await;
    let barred: Vec<_> = jobs.iter().filter(|job| job.bar == Some(Bar::Suppressed)).collect();
    assert_eq!((jobs.len(), barred.len()), (3, 1), "listed in between");

    let known = api.get(&shop.key, "/v1/suppressions/GONE@y.example").await.body;
    assert_eq!(known["entries"][0]["reason"], "address_bad", "{known}");
    assert!(Keeper::is_hash(known["entries"][0]["address"].as_str().expect("a hash")));
    let full = api.get(&shop.key, "/v1/suppressions/full@y.example").await.body;
    assert_eq!((&full["suppressed"], &full["soft_failures"]), (&json!(false), &json!(1)));
    let gone = request(Method::DELETE, "/v1/suppressions/ann@x.example", &shop.key);
    api.send(gone.body(Body::empty()).expect("a request")).await;
    let known = api.get(&shop.key, "/v1/suppressions/ann@x.example").await.body;
    assert_eq!(
        (&known["suppressed"], known["past"].as_array().map(Vec::len)),
        (&json!(false), Some(1))
    );
    assert_eq!(api.count(CLEAR).await, 0);
    assert_eq!(builders::rows(&api.owner, "suppression").await, 3);

    // The tenant is told whom it was about.
    let told = told(&api, &shop).await;
    assert_eq!(told["to"], "gone@y.example", "{told}");
    assert_eq!(told["source"], "reply");

    let csv = request(Method::GET, "/v1/suppressions", &shop.key).header("accept", "text/csv");
    let csv = api.send(csv.body(Body::empty()).expect("a request")).await.body;
    let csv = csv.as_str().expect("text").to_owned();
    assert!(!csv.replace("@#", "").contains('@') && csv.lines().count() == 4, "{csv}");
    let bank = api.tenant("bank").await;
    let back = request(Method::POST, "/v1/suppressions/import", &bank.key)
        .header("content-type", "text/csv")
        .body(Body::from(csv))
        .expect("a request");
    assert_eq!(api.send(back).await.body["added"], 3, "hashes come in again");
    let held = api.submit(&bank.key, &message("bank", &["gone@y.example"])).await;
    assert_eq!(held.body["accepted"], 0);
}

#[tokio::test]
async fn unsubscribing_leaves_a_hash() {
    let api = TestApi::with(settings()).await;
    let shop = api.tenant("shop").await;
    let mut mail = message("shop", &["ann@x.example"]);
    mail["stream"] = json!("bulk");
    api.submit(&shop.key, &mail).await.id();
    let job = DeliveryId::new(api.count("select job_id from postrider.job").await);
    let token = TokenKey::of(&api.settings.secrets).expect("a key").token(job);
    let post = axum::http::Request::post(format!("/u/{}", token.as_str()))
        .body(Body::from("List-Unsubscribe=One-Click"))
        .expect("a request");
    api.send(post).await;
    assert_eq!((builders::rows(&api.owner, "suppression").await, api.count(CLEAR).await), (1, 0));
    let again = api.submit(&shop.key, &mail).await;
    assert_eq!(again.body["accepted"], 0);
}

#[tokio::test]
async fn what_was_there_before_is_found_and_brought_along() {
    let clear = TestApi::new().await;
    let shop = clear.tenant("shop").await;
    sqlx::query(
        "insert into postrider.suppression(tenant_id, address, reason, source)
         select $1, 'u' || n || '@x.example', 'asked', 'operator' from generate_series(1, 12000) n;",
    )
    .bind(shop.id)
    .execute(&clear.owner)
    .await
    .expect("a list");
    sqlx::raw_sql(
        "insert into postrider.suppression(tenant_id, address, reason, source) values (0, '@whole.example', 'asked', 'operator');
         insert into postrider.suppression_past(tenant_id, address, stream, reason, source, created_at, removed_by, removal)
         values (1, 'was@x.example', '', 'asked', 'operator', now(), 'me', 'mistake');
         insert into postrider.soft_bounce(tenant_id, address, class) values (1, 'full@x.example', 'mailbox_full')",
    )
    .execute(&clear.owner)
    .await
    .expect("more");
    switch::on(&clear.owner, TenantId::new(shop.id)).await.expect("listen");
    let told = builders::rows(&clear.owner, "event").await;
    // A process that keeps hashes finds what is in the clear.
    let keeper = Keeper::new(&hashed());
    let to = ["u7@x.example", "any@whole.example", "free@x.example"].map(str::to_owned);
    let probes = Probes::new(&keeper, &to);
    let held: Vec<i32> =
        sqlx::query_scalar("select postrider.held_recipients($1, 'bulk', $2, $3, $4)")
            .bind(shop.id)
            .bind(&to)
            .bind(&probes.of)
            .bind(&probes.forms)
            .fetch_one(&clear.owner)
            .await
            .expect("check");
    assert_eq!(held, [1, 2]);
    let operator = clear.db.pool(Role::Operator).await;
    let mut steps = 0;
    let done = rehash(&operator, &keeper, |_| steps += 1).await.expect("rehash");
    assert_eq!((done.changed, clear.count(CLEAR).await), (12_003, 0));
    assert!(steps >= 5, "in bounded steps: {steps}");
    assert_eq!(builders::rows(&clear.owner, "event where kind = 4").await, told, "it is no news");
    let again = rehash(&operator, &keeper, |_| ()).await.expect("again");
    assert_eq!(again.changed, 0);
    assert_eq!(builders::rows(&clear.owner, "suppression").await, 12_001);

    // The tool of that installation shows it; one without the key knows nothing.
    let show = ["suppression", "show", "--tenant", "shop", "U7@x.example", "--json"];
    let run = |key: &str| {
        let mut command = command(&clear.db.url(), &show);
        command.env("POSTRIDER_SUPPRESSION_KEY", key).env("POSTRIDER__SUPPRESSION__HASHED", "true");
        ran(&command.output().expect("run"))
    };
    let shown = run(KEY);
    assert!(shown.code == 0 && shown.out.contains("asked"), "{} {}", shown.out, shown.err);
    let wrong = run("YmVuY2ggYmVuY2ggYmVuY2ggYmVuY2ggYmVuY2ggYiE=");
    assert!(
        wrong.code == 1 && wrong.err.contains("nobody on the list would be found"),
        "{}",
        wrong.err
    );
}

#[tokio::test]
async fn another_key_is_refused() {
    let api = TestApi::with(settings()).await;
    let worker = api.db.pool(Role::Worker).await;
    Keeper::new(&hashed()).prove(&worker).await.expect("the first key");
    Keeper::new(&hashed()).prove(&worker).await.expect("the same");
    Keeper::default().prove(&worker).await.expect("no key");
    let other = Secret::new("YmVuY2ggYmVuY2ggYmVuY2ggYmVuY2ggYmVuY2ggYiE=");
    let other = Keeper::new(&Suppression { key: Some(other), ..hashed() });
    let error = other.prove(&worker).await.expect_err("another");
    assert!(matches!(error, KeyError::Other { .. }), "{error}");
}
