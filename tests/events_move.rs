//! Promise: a tenant that moves to another cell takes its events and endpoints along: a cursor
//! from before goes on right where it was, and what happens after the move comes after.

use std::time::{Duration, Instant};

use crate::support::cells::{Tenant, TwoCells, ask};
use crate::support::hook::Hook;
use axum::Router;
use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

async fn submit(api: &Router, tenant: &Tenant, n: usize) {
    let message = crate::support::api::message("shop", &[&format!("u{n}@example.org")]);
    let (status, said) =
        ask(api, Method::POST, "/v1/messages", &tenant.key, "", Some(&message)).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{said}");
}

/// The events after a cursor, as soon as there are `n`, and the cursor after them.
async fn after(api: &Router, tenant: &Tenant, cursor: &str, n: usize) -> (Vec<Value>, String) {
    let started = Instant::now();
    loop {
        let path = format!("/v1/events?type=accepted&limit={n}&cursor={cursor}");
        let (status, page) = ask(api, Method::GET, &path, &tenant.key, "", None).await;
        assert_eq!(status, StatusCode::OK, "{page}");
        let events = page["events"].as_array().expect("events").clone();
        if events.len() >= n {
            return (events, page["next_cursor"].as_str().expect("a cursor").to_owned());
        }
        assert!(started.elapsed() < Duration::from_secs(60), "{page}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cursors_and_endpoints_go_along() {
    let two = TwoCells::new().await;
    let shop = two.tenant("shop", "main");
    let api = two.api();
    let hook = Hook::new().await;
    let text = std::fs::read_to_string(&two.config).expect("read");
    let more =
        "[webhook]\nallow_http = true\nallow_private_addresses = true\npoll_interval = \"50ms\"\n";
    std::fs::write(&two.config, format!("{text}{more}")).expect("write");
    let made = two.facts(&["webhook", "create", "--tenant", "shop", &hook.url()]);
    let endpoint = made["id"].as_str().expect("an id").to_owned();
    for n in 0..6 {
        submit(&api, &shop, n).await;
    }
    let (first, cursor) = after(&api, &shop, "", 2).await;
    let (rest, _) = after(&api, &shop, &cursor, 4).await;

    let daemon = two.home.daemon(&two.config).await;
    hook.until("some events", |hook| hook.taken().len() >= 6).await;
    two.drained().await;
    // Until its cursor is behind all of them: no turn is under way then.
    let started = Instant::now();
    while two.facts(&["webhook", "list", "--tenant", "shop"])[0]["pending"] != 0 {
        assert!(started.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    two.facts(&["tenant", "move", "shop", "--to-cell", "b"]);
    let (there, _) = after(&api, &shop, &cursor, 4).await;
    assert_eq!(there, rest, "the cursor means the same place");
    submit(&api, &shop, 9).await;
    let (all, _) = after(&api, &shop, "", 7).await;
    assert_eq!(all[..2], first[..]);
    let last = all[6]["id"].clone();
    hook.until("the new one", |hook| hook.taken().iter().any(|event| event["id"] == last)).await;

    let listed = two.facts(&["webhook", "list", "--tenant", "shop"]);
    assert_eq!((&listed[0]["id"], &listed[0]["state"]), (&json!(endpoint), &json!("active")));
    let mut told: Vec<String> = hook.taken().iter().map(|event| event["id"].to_string()).collect();
    let many = told.len();
    told.sort_unstable();
    told.dedup();
    assert_eq!(told.len(), many, "nobody died, so nothing was told twice");
    assert_eq!(daemon.terminate().await, Some(0));
}
