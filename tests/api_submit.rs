//! A submission is stored whole or not at all, and what became of it can be looked up.

use std::collections::HashSet;
use std::sync::Arc;

use crate::support::api::{TestApi, in_hours, message};
use crate::support::builders;
use crate::support::postgres::Role;
use axum::http::StatusCode;
use postrider::api::Api;
use postrider::domain::clock::Clock;
use serde_json::{Value, json};

#[tokio::test]
async fn a_message_is_accepted_and_every_recipient_accounted_for() {
    let api = TestApi::new().await;
    let shop = api.tenant("shop").await;
    api.suppress(shop.id, "gone@x.example").await;
    let mut body = message("shop", &["ann@x.example", "no address", "gone@x.example"]);
    body["recipients"].as_array_mut().expect("a list").extend([
        json!({"to": "Bob <bob@X.example>", "vars": {"name": "Bob"}, "cc": ["boss@x.example"]}),
        json!({"to": "ann@x.example"}),
    ]);
    body["metadata"] = json!({"order": 7});

    let answer = api.submit(&shop.key, &body).await;
    let id = answer.id().to_owned();
    assert_eq!(answer.body["accepted"], 3, "ann, bob, and a copy for the boss: {answer:?}");
    assert_eq!(answer.body["suppressed"], json!([{"index": 2, "to": "gone@x.example"}]));
    let refused = answer.body["refused"].as_array().expect("a list");
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert_eq!((&refused[0]["index"], &refused[0]["to"]), (&json!(1), &json!("no address")));
    assert_eq!(refused[1]["index"], 4);
    assert!(refused[1]["reason"].as_str().expect("a reason").contains("duplicate"));
    assert!(answer.headers.contains_key("x-request-id"));

    let found = api.get(&shop.key, &format!("/v1/messages/{id}")).await;
    assert_eq!(found.status, StatusCode::OK, "{found:?}");
    assert_eq!(found.body["accepted"], 3);
    assert_eq!(found.body["suppressed"], 1);
    assert_eq!(found.body["deliveries"]["queued"], 3);
    assert_eq!(found.body["stream"], "transactional");
    assert_eq!(found.body["metadata"], json!({"order": 7}));

    let payloads: Vec<(String, Option<String>)> =
        sqlx::query_as("select recipient, payload from postrider.job order by job_id")
            .fetch_all(&api.owner)
            .await
            .expect("jobs");
    assert_eq!(payloads[0], ("ann@x.example".into(), None));
    assert_eq!((&*payloads[1].0, &*payloads[2].0), ("bob@x.example", "boss@x.example"));
    assert_eq!(payloads[1].1, payloads[2].1, "the copy is the same mail");
    let payload: Value =
        serde_json::from_str(payloads[1].1.as_deref().expect("a payload")).expect("JSON");
    assert_eq!(payload["vars"], json!({"name": "Bob"}));
    assert_eq!(payload["cc"], json!(["boss@x.example"]));
    assert!(payload["to"].as_str().expect("to").contains("bob@x.example"));
}

#[tokio::test]
async fn deliveries_are_paged_by_key_and_state() {
    let api = TestApi::new().await;
    let shop = api.tenant("shop").await;
    let to: Vec<String> = (0..25).map(|n| format!("u{n}@x.example")).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    let id = api.submit(&shop.key, &message("shop", &to)).await.id().to_owned();
    end(&api, "u3@x.example", 1).await;
    end(&api, "u4@x.example", 2).await;

    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/v1/messages/{id}/deliveries?limit=10&cursor={cursor}");
        let page = api.get(&shop.key, &path).await;
        assert_eq!(page.status, StatusCode::OK, "{page:?}");
        let lines = page.body["deliveries"].as_array().expect("lines");
        assert!(lines.len() <= 10);
        seen.extend(lines.iter().map(|line| line["to"].as_str().expect("to").to_owned()));
        match page.body["next_cursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => break,
        }
    }
    let once: HashSet<&str> = seen.iter().map(String::as_str).collect();
    assert_eq!((seen.len(), once), (to.len(), to.into_iter().collect()), "each once");

    for (state, expected) in
        [("queued", 23), ("delivered", 1), ("bounced", 1), ("sending", 0), ("dead_lettered", 0)]
    {
        let path = format!("/v1/messages/{id}/deliveries?limit=100&state={state}");
        let page = api.get(&shop.key, &path).await;
        let lines = page.body["deliveries"].as_array().expect("lines");
        assert_eq!(lines.len(), expected, "{state}: {page:?}");
        assert!(lines.iter().all(|line| line["state"] == state), "{page:?}");
        assert_eq!(page.body["next_cursor"], Value::Null);
    }
    let counts = api.get(&shop.key, &format!("/v1/messages/{id}")).await.body;
    assert_eq!(counts["deliveries"]["delivered"], 1);
    assert_eq!(counts["deliveries"]["queued"], 23);
    for query in ["state=lost", "limit=0", "limit=1001", "cursor=x", "page=2"] {
        let answer = api.get(&shop.key, &format!("/v1/messages/{id}/deliveries?{query}")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}: {answer:?}");
    }
}

#[tokio::test]
async fn a_delivery_tells_every_attempt() {
    let api = TestApi::new().await;
    let shop = api.tenant("shop").await;
    let id = api.submit(&shop.key, &message("shop", &["ann@x.example"])).await.id().to_owned();
    sqlx::query(
        r#"insert into postrider.attempt(tenant_id, message_id, job_id, attempt, kind, code, next_at, detail)
           select tenant_id, message_id, job_id, 1, 7, 451, now() + interval '1 minute',
             '{"route":"direct","host":"mx.x.example","ip":"192.0.2.1","tls":"TLSv1.3","reply":"451 later","took_ms":12}'
           from postrider.job"#,
    )
    .execute(&api.owner)
    .await
    .expect("an attempt");
    end(&api, "ann@x.example", 1).await;

    let page = api.get(&shop.key, &format!("/v1/messages/{id}/deliveries")).await;
    let delivery = page.body["deliveries"][0]["id"].as_str().expect("an id");
    let found = api.get(&shop.key, &format!("/v1/deliveries/{delivery}")).await;
    assert_eq!(found.status, StatusCode::OK, "{found:?}");
    assert_eq!(found.body["state"], "delivered");
    assert_eq!(found.body["message_id"], id);
    let history = found.body["history"].as_array().expect("history");
    assert_eq!(history.len(), 2);
    assert_eq!(history[0]["outcome"], "deferred");
    assert_eq!(history[0]["code"], 451);
    assert_eq!(history[0]["host"], "mx.x.example");
    assert_eq!(history[0]["reply"], "451 later");
    assert!(history[0]["next_at"].is_string());
    assert_eq!(history[1]["outcome"], "delivered");
}

#[tokio::test]
async fn states_follow_the_tables() {
    let api = TestApi::new().await;
    let shop = api.tenant("shop").await;
    let mut later = message("shop", &["later@x.example"]);
    later["send_at"] = json!(in_hours(1));
    let scheduled = api.submit(&shop.key, &later).await.id().to_owned();
    assert_eq!(only_state(&api, &shop.key, &scheduled).await, "scheduled");

    let now = api.submit(&shop.key, &message("shop", &["now@x.example"])).await.id().to_owned();
    assert_eq!(only_state(&api, &shop.key, &now).await, "queued");
    let worker = api.db.pool(Role::Worker).await;
    let session = builders::session(&worker, std::time::Duration::from_secs(60)).await;
    let jobs = builders::claim_all(&worker, session.id(), 10).await;
    assert_eq!(jobs.len(), 1, "the scheduled one is not due");
    assert_eq!(only_state(&api, &shop.key, &now).await, "sending");
}

#[tokio::test]
async fn a_cancelled_message_takes_no_more_and_says_so() {
    let api = TestApi::new().await;
    let shop = api.tenant("shop").await;
    let id = api.submit(&shop.key, &message("shop", &["ann@x.example"])).await.id().to_owned();
    for _ in 0..2 {
        let answer =
            api.post_json(&shop.key, &format!("/v1/messages/{id}/cancel"), &json!({})).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        assert!(answer.body["cancelled_at"].is_string());
    }
    let late = api.upload(&shop.key, &id, None, "{\"to\":\"bob@x.example\"}\n").await;
    assert_eq!(late.status, StatusCode::CONFLICT, "{late:?}");
    assert_eq!(api.jobs().await, 1);
}

#[tokio::test]
async fn a_committed_submission_wakes_the_daemons() {
    let api = TestApi::new().await;
    let shop = api.tenant("shop").await;
    let mut listener =
        sqlx::postgres::PgListener::connect_with(&api.owner).await.expect("listener");
    listener.listen("postrider_wake").await.expect("listen");
    api.submit(&shop.key, &message("shop", &["ann@x.example"])).await.id();
    tokio::time::timeout(std::time::Duration::from_secs(10), listener.recv())
        .await
        .expect("woken")
        .expect("a notification");
}

#[tokio::test]
async fn a_lost_database_is_503_and_probes_say_it() {
    let api = TestApi::new().await;
    let shop = api.tenant("shop").await;
    let get = |path: &'static str| api.get(&shop.key, path);
    assert_eq!(get("/livez").await.status, StatusCode::OK);
    assert_eq!(get("/readyz").await.status, StatusCode::OK);

    let pool = sqlx::postgres::PgPoolOptions::new()
        .acquire_timeout(std::time::Duration::from_millis(200))
        .connect_lazy("postgres://nobody@127.0.0.1:9/none")
        .expect("an address");
    let (_, settings) = tokio::sync::watch::channel(Arc::clone(&api.settings));
    let away = postrider::api::router(Api::start(settings, pool, Clock::System));
    let away = TestApi { router: away, ..api };
    let answer = away.submit(&shop.key, &message("shop", &["ann@x.example"])).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
    assert!(answer.headers.contains_key("retry-after"));
    assert_eq!(away.get(&shop.key, "/livez").await.status, StatusCode::OK);
    assert_eq!(away.get(&shop.key, "/readyz").await.status, StatusCode::SERVICE_UNAVAILABLE);
}

/// Ends the delivery to `recipient` in the way of this kind.
async fn end(api: &TestApi, recipient: &str, kind: i16) {
    sqlx::query(
        "with j as (select * from postrider.job where recipient = $1),
              gone as (delete from postrider.ready r using j where r.job_id = j.job_id)
         insert into postrider.attempt(tenant_id, message_id, job_id, attempt, kind, code)
         select tenant_id, message_id, job_id, 1, $2, 250 from j",
    )
    .bind(recipient)
    .bind(kind)
    .execute(&api.owner)
    .await
    .expect("end it");
}

async fn only_state(api: &TestApi, key: &postrider::tenant::key::ApiKey, message: &str) -> String {
    let counts = api.get(key, &format!("/v1/messages/{message}")).await.body["deliveries"].clone();
    let page = api.get(key, &format!("/v1/messages/{message}/deliveries")).await;
    let line = &page.body["deliveries"][0];
    let state = line["state"].as_str().expect("a state").to_owned();
    assert_eq!(counts[&state], 1, "{counts}");
    let id = line["id"].as_str().expect("an id");
    let one = api.get(key, &format!("/v1/deliveries/{id}")).await;
    assert_eq!(one.body["state"], state, "{one:?}");
    state
}
