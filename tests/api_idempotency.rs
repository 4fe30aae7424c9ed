//! A repeated submission is answered as the first one was, and stores nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::support::api::{TestApi, in_hours, message};
use axum::http::StatusCode;
use serde_json::{Value, json};

const REPLAYED: &str = "idempotency-replayed";

#[tokio::test]
async fn a_repeat_gets_the_first_answer_and_stores_nothing() {
    let api = TestApi::new().await;
    let shop = api.tenant("shop").await;
    api.suppress(shop.id, "gone@x.example").await;
    let mut body = message("shop", &["nobody", "ann@x.example", "gone@x.example"]);
    body["recipients"][1]["cc"] = json!(["boss@x.example"]);
    let first = api.submit_once(&shop.key, &body, "order 7").await;
    assert_eq!(first.status, StatusCode::ACCEPTED, "{first:?}");
    assert!(!first.headers.contains_key(REPLAYED));
    assert_eq!(first.body["suppressed"], json!([{"index": 2, "to": "gone@x.example"}]));

    // What has changed since must not change the answer.
    api.suppress(shop.id, "ann@x.example").await;
    let again = api.submit_once(&shop.key, &body, "order 7").await;
    assert_eq!((again.status, &again.body), (first.status, &first.body));
    assert_eq!(again.headers[REPLAYED], "true");
    assert_eq!(api.jobs().await, 2);

    let other = api.submit_once(&shop.key, &message("shop", &["eve@x.example"]), "order 7").await;
    assert_eq!(other.status, StatusCode::CONFLICT, "{other:?}");
    assert_eq!(other.body["type"], "urn:postrider:problem:idempotency-conflict");
    let fresh = api.submit_once(&shop.key, &body, "order 8").await;
    assert_ne!(fresh.id(), first.id());
}

#[tokio::test]
async fn a_repeat_is_answered_although_its_time_is_over() {
    let api = TestApi::new().await;
    let shop = api.tenant("shop").await;
    let mut body = message("shop", &["ann@x.example"]);
    let soon = in_hours(1);
    body["expires_at"] = json!(soon);
    let first = api.submit_once(&shop.key, &body, "k").await;
    let id = first.id().to_owned();
    api.now.fetch_add(7_200, Ordering::Relaxed);
    let again = api.submit_once(&shop.key, &body, "k").await;
    assert_eq!(again.id(), id, "the caller learns that it was accepted");
    sqlx::query("delete from postrider.sending_domain").execute(&api.owner).await.expect("remove");
    assert_eq!(api.submit_once(&shop.key, &body, "k").await.id(), id, "also without its domain");
    let anew = api.submit_once(&shop.key, &body, "other").await;
    assert_eq!(anew.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(anew.fields(), ["expires_at"]);
}

#[tokio::test]
async fn repeats_at_the_same_time_store_one_message() {
    let api = Arc::new(TestApi::new().await);
    let shop = api.tenant("shop").await;
    let body = message("shop", &["ann@x.example", "bob@x.example"]);
    let calls = (0..8).map(|_| {
        let (api, key, body) = (Arc::clone(&api), shop.key.clone(), body.clone());
        tokio::spawn(async move { api.submit_once(&key, &body, "once").await })
    });
    let mut ids: Vec<Value> = Vec::new();
    let mut first_answers = 0;
    for answer in futures_util::future::join_all(calls).await {
        let answer = answer.expect("no panic");
        ids.push(json!(answer.id()));
        first_answers += usize::from(!answer.headers.contains_key(REPLAYED));
    }
    ids.dedup();
    assert_eq!((ids.len(), first_answers), (1, 1));
    assert_eq!(api.jobs().await, 2);
}

#[tokio::test]
async fn a_key_of_one_tenant_says_nothing_to_another() {
    let api = TestApi::new().await;
    let (one, two) = (api.tenant("one").await, api.tenant("two").await);
    let first = api.submit_once(&one.key, &message("one", &["ann@x.example"]), "k").await;
    let second = api.submit_once(&two.key, &message("two", &["ann@x.example"]), "k").await;
    assert_ne!(first.id(), second.id());
    assert!(!second.headers.contains_key(REPLAYED));
}

/// A caller that goes away must leave the whole message or nothing, and no connection
/// on which later writes would be lost.
#[tokio::test]
async fn a_caller_that_goes_away_leaves_all_or_nothing() {
    let api = Arc::new(TestApi::new().await);
    let shop = api.tenant("shop").await;
    for n in 0..60 {
        let (other, key) = (Arc::clone(&api), shop.key.clone());
        let call = tokio::spawn(async move {
            other
                .submit_once(
                    &key,
                    &message("shop", &["a@x.example", "b@x.example"]),
                    &n.to_string(),
                )
                .await
        });
        // Each time a little later in its course.
        for _ in 0..n {
            tokio::task::yield_now().await;
        }
        call.abort();
        let _ = call.await;
    }
    for n in 0..60 {
        let answer = api
            .submit_once(
                &shop.key,
                &message("shop", &["a@x.example", "b@x.example"]),
                &n.to_string(),
            )
            .await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
    }
    assert_eq!(api.count("select count(*) from postrider.message").await, 60);
    assert_eq!(api.jobs().await, 120);
}
