//! Promises: a tenant makes, changes and tries its endpoints and reads its events by the API;
//! another's are not there, and what an operator disabled stays so.

use crate::support::api::{Answer, Tenant, TestApi, message, request};
use crate::support::command::{facts, postrider};
use crate::support::hook::Hook;
use axum::body::Body;
use axum::http::{Method, StatusCode};
use postrider::config::Settings;
use serde_json::{Value, json};

async fn send(api: &TestApi, tenant: &Tenant, method: Method, path: &str, body: &Value) -> Answer {
    let request = request(method, path, &tenant.key)
        .header("content-type", "application/json")
        .body(body.to_string().into())
        .expect("a request");
    api.send(request).await
}

async fn bare(api: &TestApi, tenant: &Tenant, method: Method, path: &str) -> Answer {
    api.send(request(method, path, &tenant.key).body(Body::empty()).expect("a request")).await
}

#[tokio::test]
async fn a_tenant_has_its_endpoints_in_its_own_hand() {
    let api = TestApi::new().await;
    let (one, two) = (api.tenant("one").await, api.tenant("two").await);
    let hook = Hook::new().await;
    let body = json!({"url": hook.url(), "types": ["bounced"], "batch": 10});
    let made = send(&api, &one, Method::POST, "/v1/webhooks", &body).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    let secret = made.body["secret"].as_str().expect("a secret").to_owned();
    assert!(secret.starts_with("whsec_"));
    let id = made.body["id"].as_str().expect("an id").to_owned();
    let path = format!("/v1/webhooks/{id}");

    let shown = api.get(&one.key, &path).await;
    assert_eq!(shown.body["types"], json!(["bounced"]));
    assert!(!shown.body.to_string().contains(&secret), "shown once");
    let changed =
        send(&api, &one, Method::PATCH, &path, &json!({"types": null, "per_second": 9})).await;
    assert_eq!((&changed.body["types"], &changed.body["per_second"]), (&json!(null), &json!(9)));
    assert_eq!(changed.body["batch"], 10, "what is not named stays");
    let tried = bare(&api, &one, Method::POST, &format!("{path}/test")).await;
    assert_eq!(tried.body["taken"], true, "{tried:?}");
    assert_eq!(hook.got()[0].body[0]["type"], "test");
    let rotated = bare(&api, &one, Method::POST, &format!("{path}/rotate-secret")).await;
    assert_ne!(rotated.body["secret"], secret.as_str());
    let since = json!({"since": "2026-01-01T00:00:00Z"});
    let replayed = send(&api, &one, Method::POST, &format!("{path}/replay"), &since).await;
    assert_eq!(replayed.status, StatusCode::OK, "{replayed:?}");

    for (method, tail) in [
        (Method::GET, ""),
        (Method::DELETE, ""),
        (Method::POST, "/test"),
        (Method::POST, "/rotate-secret"),
    ] {
        let theirs = bare(&api, &two, method, &format!("{path}{tail}")).await;
        assert_eq!(theirs.status, StatusCode::NOT_FOUND, "{tail}: {theirs:?}");
    }
    let theirs = send(&api, &two, Method::PATCH, &path, &json!({"enabled": false})).await;
    assert_eq!(theirs.status, StatusCode::NOT_FOUND);
    assert_eq!(api.get(&two.key, "/v1/webhooks").await.body, json!({"webhooks": []}));

    let off = send(&api, &one, Method::PUT, "/v1/events", &json!({"enabled": false})).await;
    assert_eq!(off.status, StatusCode::CONFLICT, "an endpoint waits for events");
    assert_eq!(bare(&api, &one, Method::DELETE, &path).await.status, StatusCode::OK);
    let off = send(&api, &one, Method::PUT, "/v1/events", &json!({"enabled": false})).await;
    assert_eq!(off.body, json!({"enabled": false}));
    let recorded = "select count(*) from postrider.operator_action where actor like 'api:%'
                    and action like 'webhook %' and detail::text not like '%whsec_%'";
    assert_eq!(api.count(recorded).await, 6, "create, change, rotate, test, replay, delete");
}

#[tokio::test]
async fn what_makes_no_sense_or_leads_inside_is_refused_by_its_field() {
    let mut settings = Settings::for_testing();
    settings.webhook.allow_http = false;
    settings.webhook.allow_private_addresses = false;
    settings.webhook.max_per_tenant = 1;
    let api = TestApi::with(settings).await;
    let one = api.tenant("one").await;
    for (body, field) in [
        (json!({"url": "http://hooks.example.com/"}), "url"),
        (json!({"url": "https://127.0.0.1/"}), "url"),
        (json!({"url": "https://[::1]/"}), "url"),
        (json!({"url": "https://a:b@hooks.example.com/"}), "url"),
        (json!({"url": "https://hooks.example.com/", "types": ["forwarded"]}), "types"),
        (json!({"url": "https://hooks.example.com/", "batch": 0}), "batch"),
        (json!({"url": "https://hooks.example.com/", "in_flight": 65}), "in_flight"),
        (json!({"url": "https://hooks.example.com/", "secret": "x"}), "secret"),
        (json!({}), "url"),
    ] {
        let refused = send(&api, &one, Method::POST, "/v1/webhooks", &body).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{body}: {refused:?}");
        assert_eq!(refused.fields(), [field], "{body}");
    }
    let good = json!({"url": "https://hooks.example.com/"});
    let made = send(&api, &one, Method::POST, "/v1/webhooks", &good).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    let more = send(&api, &one, Method::POST, "/v1/webhooks", &good).await;
    assert_eq!(more.status, StatusCode::CONFLICT, "{more:?}");
}

#[tokio::test]
async fn what_an_operator_disabled_only_an_operator_enables() {
    let api = TestApi::new().await;
    let one = api.tenant("one").await;
    let hook = Hook::new().await;
    let made = send(&api, &one, Method::POST, "/v1/webhooks", &json!({"url": hook.url()})).await;
    let id = made.body["id"].as_str().expect("an id").to_owned();
    let path = format!("/v1/webhooks/{id}");
    let tool = |verb: &str| facts(&api.db, &["webhook", verb, "--tenant", "one", &id]);
    assert_eq!(tool("disable")["disabled_by"], "operator");
    let held = send(&api, &one, Method::PATCH, &path, &json!({"enabled": true})).await;
    assert_eq!(
        (held.status, &held.body["type"]),
        (StatusCode::CONFLICT, &json!("urn:postrider:problem:held"))
    );
    assert_eq!(tool("enable")["state"], "active");
    let off = send(&api, &one, Method::PATCH, &path, &json!({"enabled": false})).await;
    assert_eq!(off.body["disabled_by"], "tenant");
    let on = send(&api, &one, Method::PATCH, &path, &json!({"enabled": true})).await;
    assert_eq!(on.body["state"], "active");
    let listed = facts(&api.db, &["webhook", "list", "--tenant", "one"]);
    assert_eq!(listed[0]["id"], id.as_str());
    let missing =
        postrider(&api.db, &["webhook", "delete", "--tenant", "one", "whk_0000000000001"]);
    assert_eq!(missing.code, 1, "{}", missing.err);
}

#[tokio::test]
async fn events_are_read_page_by_page_and_as_lines() {
    let api = TestApi::new().await;
    let (one, two) = (api.tenant("one").await, api.tenant("two").await);
    let empty = api.get(&one.key, "/v1/events").await;
    assert_eq!((&empty.body["enabled"], &empty.body["events"]), (&json!(false), &json!([])));
    for tenant in [&one, &two] {
        let on = send(&api, tenant, Method::PUT, "/v1/events", &json!({"enabled": true})).await;
        assert_eq!(on.status, StatusCode::OK, "{on:?}");
    }
    for n in 0..5 {
        api.submit(&one.key, &message("one", &[&format!("u{n}@x.example")])).await.id();
    }
    api.submit(&two.key, &message("two", &["ann@x.example"])).await.id();
    let started = std::time::Instant::now();
    let (mut cursor, mut seen) = (String::new(), Vec::new());
    while seen.len() < 5 {
        let page = api.get(&one.key, &format!("/v1/events?limit=2&cursor={cursor}")).await;
        assert_eq!(page.status, StatusCode::OK, "{page:?}");
        let events = page.body["events"].as_array().expect("events").clone();
        assert!(events.len() <= 2);
        seen.extend(events);
        cursor = page.body["next_cursor"].as_str().expect("a cursor").to_owned();
        assert!(started.elapsed().as_secs() < 60, "{seen:?}");
    }
    assert!(seen.iter().all(|event| event["type"] == "accepted"));
    let none = api.get(&one.key, "/v1/events?type=bounced,complained").await;
    assert_eq!(none.body["events"], json!([]));

    let lines = request(Method::GET, "/v1/events", &one.key)
        .header("accept", "application/x-ndjson")
        .body(Body::empty())
        .expect("a request");
    let lines = api.send(lines).await;
    assert_eq!(lines.headers["content-type"], "application/x-ndjson");
    let text = lines.body.as_str().expect("lines").to_owned();
    let lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let ids = |events: &[Value]| events.iter().map(|event| event["id"].clone()).collect::<Vec<_>>();
    assert_eq!(ids(&lines), ids(&seen));
    let third = lines[2]["cursor"].as_str().expect("a cursor");
    let rest = api.get(&one.key, &format!("/v1/events?cursor={third}")).await;
    assert_eq!(ids(rest.body["events"].as_array().expect("events")), ids(&seen[3..]));
    for (query, field) in
        [("cursor=x", "cursor"), ("limit=0", "limit"), ("type=forwarded", "type"), ("x=1", "query")]
    {
        let refused = api.get(&one.key, &format!("/v1/events?{query}")).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{query}: {refused:?}");
        assert_eq!(refused.fields(), [field]);
    }
}
