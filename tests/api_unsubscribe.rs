//! One-click unsubscribe: looking changes nothing, posting acts, once is enough.

mod support;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use postrider::domain::ids::DeliveryId;
use postrider::message::unsubscribe::TokenKey;
use support::api::{Answer, TestApi, message};

async fn ask(api: &TestApi, method: Method, token: &str) -> Answer {
    let request = Request::builder()
        .method(method)
        .uri(format!("/u/{token}"))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Body::from("List-Unsubscribe=One-Click"))
        .expect("a request");
    api.send(request).await
}

const LISTED: &str = "select count(*) from postrider.suppression";

#[tokio::test]
async fn a_recipient_leaves_the_list_of_that_tenant() {
    let api = TestApi::new().await;
    let (one, two) = (api.tenant("one").await, api.tenant("two").await);
    api.submit(&one.key, &message("one", &["ann@x.example"])).await.id();
    let job: i64 = api.count("select job_id from postrider.job").await;
    let key = api.settings.secrets.key_bytes().expect("the test settings have a key");
    let token = TokenKey::derive(&key).token(DeliveryId::new(job));

    let page = ask(&api, Method::GET, token.as_str()).await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.body.as_str().expect("html").contains("<form method=\"post\">"), "{page:?}");
    assert!(page.headers["content-security-policy"].to_str().expect("text").contains("'none'"));
    assert_eq!(api.count(LISTED).await, 0, "mail filters follow links");

    for _ in 0..2 {
        assert_eq!(ask(&api, Method::POST, token.as_str()).await.status, StatusCode::OK);
        assert_eq!(api.count(LISTED).await, 1);
    }
    let again = api.submit(&one.key, &message("one", &["ann@x.example"])).await;
    assert_eq!(again.body["accepted"], 0, "{again:?}");
    let other = api.submit(&two.key, &message("two", &["ann@x.example"])).await;
    assert_eq!(other.body["accepted"], 1, "another sender's list is another matter");
}

#[tokio::test]
async fn a_token_that_is_not_ours_does_nothing() {
    let api = TestApi::new().await;
    let one = api.tenant("one").await;
    api.submit(&one.key, &message("one", &["ann@x.example"])).await.id();
    let job = DeliveryId::new(api.count("select job_id from postrider.job").await);
    let key = api.settings.secrets.key_bytes().expect("the test settings have a key");
    let right = TokenKey::derive(&key).token(job);
    let mut changed = right.as_str().to_owned();
    let last = if changed.ends_with('A') { "B" } else { "A" };
    changed.replace_range(changed.len() - 1.., last);
    let foreign = TokenKey::derive(&[9; 32]).token(job);
    let gone = TokenKey::derive(&key).token(DeliveryId::new(1));
    for token in [&changed, foreign.as_str(), gone.as_str(), "x", "..%2f..", "%00"] {
        for method in [Method::GET, Method::POST] {
            if token == gone.as_str() && method == Method::GET {
                continue;
            }
            let answer = ask(&api, method, token).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{token}: {answer:?}");
        }
    }
    assert_eq!(api.count(LISTED).await, 0);
}
