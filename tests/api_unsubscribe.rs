//! One-click unsubscribe: looking changes nothing, posting acts, once is enough, one stream is
//! left and no other; what is not ours does nothing and is counted.

use std::time::Duration;

use crate::support::api::{Answer, Tenant, TestApi, message};
use crate::support::builders;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use postrider::config::Settings;
use postrider::config::secret::Secret;
use postrider::domain::ids::{DeliveryId, TenantId};
use postrider::event::switch;
use postrider::message::unsubscribe::TokenKey;
use postrider::telemetry::metrics;
use serde_json::{Value, json};

const ONE_CLICK: &str = "List-Unsubscribe=One-Click";

async fn ask(api: &TestApi, method: Method, token: &str, body: &str) -> Answer {
    let request = Request::builder()
        .method(method)
        .uri(format!("/u/{token}"))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Body::from(body.to_owned()))
        .expect("a request");
    api.send(request).await
}

/// A mail of a stream to one recipient, and the token in its link.
async fn mail(api: &TestApi, tenant: &Tenant, name: &str, stream: &str, to: &str) -> String {
    let mut mail = message(name, &[to]);
    mail["stream"] = json!(stream);
    let id = api.submit(&tenant.key, &mail).await.id().to_owned();
    let page = api.get(&tenant.key, &format!("/v1/messages/{id}/deliveries")).await;
    let delivery = page.body["deliveries"][0]["id"].as_str().expect("a delivery");
    token(api, delivery.parse().expect("an id"))
}

fn token(api: &TestApi, delivery: DeliveryId) -> String {
    let key = TokenKey::of(&api.settings.secrets).expect("a key");
    key.token(delivery).as_str().to_owned()
}

async fn accepted(api: &TestApi, tenant: &Tenant, name: &str, stream: &str, to: &str) -> i64 {
    let mut mail = message(name, &[to]);
    mail["stream"] = json!(stream);
    api.submit(&tenant.key, &mail).await.body["accepted"].as_i64().expect("a number")
}

fn counted(outcome: &str) -> u64 {
    let text = metrics::install().expect("a recorder").render();
    let name = format!("postrider_unsubscribe_requests_total{{outcome=\"{outcome}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&*name)?.parse().ok()).unwrap_or(0)
}

/// What the tenant was told. Events are told once nothing older still runs, also of others'
/// tests.
async fn told(api: &TestApi, tenant: &Tenant) -> Value {
    let look = async {
        loop {
            let page = api.get(&tenant.key, "/v1/events?type=unsubscribed").await.body;
            if page["events"][0].is_object() {
                return page["events"][0]["data"].clone();
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), look).await.expect("told")
}

const LISTED: &str = "select count(*) from postrider.suppression";

#[tokio::test]
async fn a_recipient_leaves_one_stream_of_that_tenant() {
    let api = TestApi::new().await;
    let (one, two) = (api.tenant("one").await, api.tenant("two").await);
    switch::on(&api.owner, TenantId::new(one.id)).await.expect("listen");
    let token = mail(&api, &one, "one", "news", "Ann@x.example").await;
    for _ in 0..3 {
        let done = ask(&api, Method::POST, &token, ONE_CLICK).await;
        assert_eq!(done.status, StatusCode::OK, "{done:?}");
        assert_eq!(api.count(LISTED).await, 1);
    }
    assert_eq!(accepted(&api, &one, "one", "news", "ann@x.example").await, 0);
    assert_eq!(accepted(&api, &one, "one", "offers", "ann@x.example").await, 1, "another stream");
    assert_eq!(accepted(&api, &one, "one", "transactional", "ann@x.example").await, 1);
    assert_eq!(accepted(&api, &two, "two", "news", "ann@x.example").await, 1, "another sender");

    let written = "select count(*) from postrider.event where kind = 10";
    assert_eq!(api.count(written).await, 1, "one event however often it is sent");
    let told = told(&api, &one).await;
    assert_eq!((&told["scope"], &told["reason"]), (&json!("news"), &json!("unsubscribed")));
    assert_eq!((&told["stream"], &told["to"]), (&json!("news"), &json!("ann@x.example")));
    assert!(told["delivery_id"].is_string());
}

#[tokio::test]
async fn whoever_only_looks_changes_nothing() {
    let api = TestApi::new().await;
    let one = api.tenant("one").await;
    let token = mail(&api, &one, "one", "news", "ann@x.example").await;
    let page = ask(&api, Method::GET, &token, "").await;
    assert_eq!(page.status, StatusCode::OK);
    let html = page.body.as_str().expect("html");
    assert!(
        html.contains("<form method=\"post\">") && html.contains("value=\"One-Click\""),
        "{html}"
    );
    for loads in ["<script", "src=", "href=", "http:", "https:", "url(", "onclick", "<style"] {
        assert!(!html.contains(loads), "{loads} in {html}");
    }
    let policy = page.headers["content-security-policy"].to_str().expect("text");
    for rule in
        ["default-src 'none'", "form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'"]
    {
        assert!(policy.contains(rule), "{policy}");
    }
    for (name, value) in [
        ("cache-control", "no-store"),
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
        ("x-robots-tag", "noindex, nofollow"),
    ] {
        assert_eq!(page.headers[name], value);
    }
    assert_eq!(ask(&api, Method::HEAD, &token, "").await.status, StatusCode::OK);
    for method in [Method::PUT, Method::DELETE, Method::PATCH] {
        let refused = ask(&api, method, &token, ONE_CLICK).await;
        assert_eq!(refused.status, StatusCode::METHOD_NOT_ALLOWED);
    }
    // Scanners that post to whatever they find do not say what RFC 8058 asks for.
    for body in ["", "a=b", "{}", "list-unsubscribe", &"x".repeat(100_000)] {
        let refused = ask(&api, Method::POST, &token, body).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST);
        assert!(refused.body.as_str().expect("html").contains("<form"), "the button is there");
    }
    assert_eq!(api.count(LISTED).await, 0);
    let parts = "--b\r\nContent-Disposition: form-data; name=\"List-Unsubscribe\"\r\n\r\nOne-Click\r\n--b--\r\n";
    let form = Request::post(format!("/u/{token}"))
        .header("content-type", "multipart/form-data; boundary=b")
        .body(Body::from(parts))
        .expect("a request");
    assert_eq!(api.send(form).await.status, StatusCode::OK, "the other form of RFC 8058 3.2");
    assert_eq!(api.count(LISTED).await, 1);
}

#[tokio::test]
async fn a_token_that_is_not_ours_does_nothing_and_is_counted() {
    metrics::install().expect("a recorder");
    let api = TestApi::new().await;
    let (one, two) = (api.tenant("one").await, api.tenant("two").await);
    let right = mail(&api, &one, "one", "news", "ann@x.example").await;
    let theirs = mail(&api, &two, "two", "news", "ann@x.example").await;
    let key = api.settings.secrets.key_bytes().expect("the test settings have a key");
    let mut changed = right.clone();
    let last = if changed.ends_with('A') { "B" } else { "A" };
    changed.replace_range(changed.len() - 1.., last);
    // One tenant's number with another's signature.
    let swapped = format!("{}{}", &right[..10], &theirs[10..]);
    let foreign = TokenKey::derive(&[9; 32]).token(DeliveryId::new(1));
    let gone = TokenKey::derive(&key).token(DeliveryId::new(1));
    let before = ["forged", "malformed", "unknown"].map(counted);
    for token in
        [&*changed, &swapped, foreign.as_str(), gone.as_str(), &right[..31], "x", "..%2f..", "%00"]
    {
        for method in [Method::GET, Method::POST] {
            if token == gone.as_str() && method == Method::GET {
                continue;
            }
            let answer = ask(&api, method, token, ONE_CLICK).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{token}: {answer:?}");
        }
    }
    assert_eq!(api.count(LISTED).await, 0);
    let after = ["forged", "malformed", "unknown"].map(counted);
    let new = [0, 1, 2].map(|n| after[n] - before[n]);
    assert!(new[0] >= 6 && new[1] >= 8 && new[2] >= 1, "counted by what is wrong: {new:?}");
}

#[tokio::test]
async fn a_new_key_signs_and_links_of_the_old_one_work_until_it_is_retired() {
    let own = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
    let mut settings = Settings::for_testing();
    let old = TokenKey::of(&settings.secrets).expect("the installation's");
    let first = settings.secrets.key.as_ref().expect("it has one").expose().to_owned();
    settings.secrets.key = Some(Secret::new(format!("1:{first}\n2:{own}\n")));
    let api = TestApi::with(settings).await;
    let one = api.tenant("one").await;
    let new = mail(&api, &one, "one", "news", "ann@x.example").await;
    mail(&api, &one, "one", "news", "bob@x.example").await;
    let job: i64 =
        api.count("select job_id from postrider.job where recipient = 'bob@x.example'").await;
    let before = old.token(DeliveryId::new(job));
    for token in [&*new, before.as_str()] {
        assert_eq!(ask(&api, Method::POST, token, ONE_CLICK).await.status, StatusCode::OK);
    }
    assert_eq!(api.count(LISTED).await, 2);
}

#[tokio::test]
async fn mail_under_way_of_that_stream_is_held_back() {
    let api = TestApi::new().await;
    let one = api.tenant("one").await;
    let token = mail(&api, &one, "one", "news", "ann@x.example").await;
    mail(&api, &one, "one", "offers", "ann@x.example").await;
    ask(&api, Method::POST, &token, ONE_CLICK).await;
    let worker = api.db.pool(crate::support::postgres::Role::Worker).await;
    let session = builders::session(&worker, Duration::from_secs(60)).await;
    let jobs = builders::claim_all(&worker, session.id(), 10).await;
    let free: Vec<_> = jobs.iter().filter(|job| job.bar.is_none()).collect();
    assert_eq!((jobs.len(), free.len()), (2, 1), "the offer goes");
}
