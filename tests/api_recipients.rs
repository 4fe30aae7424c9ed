//! Recipients by the stream: constant memory, each part once.

use crate::support::api::{Tenant, TestApi, lines, message};
use axum::body::Body;
use axum::http::StatusCode;
use bytes::Bytes;
use serde_json::{Value, json};

async fn campaign(api: &TestApi, tenant: &Tenant) -> String {
    api.submit(&tenant.key, &message("shop", &[])).await.id().to_owned()
}

fn people(range: std::ops::Range<usize>) -> String {
    lines(range.map(|n| json!({"to": format!("u{n}@x.example"), "vars": {"n": n}})))
}

#[tokio::test]
async fn every_line_is_accounted_for() {
    let api = TestApi::new().await;
    let shop = api.tenant("shop").await;
    api.suppress(shop.id, "gone@x.example").await;
    let id = campaign(&api, &shop).await;
    let mut text = people(0..3);
    text.push_str("{\"to\":\"nobody\"}\n\n{\"to\":\"gone@x.example\"}\n{\"to\":\n");
    text.push_str(&lines([json!({"to": "x".repeat(70_000)})]));
    text.push_str("{\"to\":\"u1@x.example\"}\n{\"to\":\"last@x.example\",\"colour\":1}\n");
    text.push_str("{\"to\":\"u9@x.example\",\"cc\":[\"boss@x.example\"]}");
    let answer = api.upload(&shop.key, &id, None, text).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
    assert_eq!(answer.body["lines"], 11);
    assert_eq!(answer.body["accepted"], 5, "{answer:?}");
    assert_eq!(answer.body["suppressed"], 1);
    assert_eq!(answer.body["refused"], 5);
    let refused: Vec<&Value> =
        answer.body["refusals"].as_array().expect("a list").iter().map(|r| &r["line"]).collect();
    assert_eq!(refused, [4, 7, 8, 9, 10]);
    let found = api.get(&shop.key, &format!("/v1/messages/{id}")).await;
    assert_eq!((&found.body["accepted"], &found.body["suppressed"]), (&json!(5), &json!(1)));
}

#[tokio::test]
async fn many_parts_are_stored_and_refusals_told_up_to_a_limit() {
    let api = TestApi::new().await;
    let shop = api.tenant("shop").await;
    let id = campaign(&api, &shop).await;
    let text = people(0..12_345) + &"{\"to\":\"x\"}\n".repeat(1_500);
    let answer = api.upload(&shop.key, &id, Some("k"), text).await;
    assert_eq!(answer.body["accepted"], 12_345, "{:?}", answer.status);
    assert_eq!(answer.body["refused"], 1_500);
    assert_eq!(answer.body["refusals"].as_array().map(Vec::len), Some(1_000));
    assert_eq!(api.jobs().await, 12_345);
    assert_eq!(api.count("select count(*) from postrider.ready").await, 12_345);
}

#[tokio::test]
async fn a_repeat_adds_nothing_and_gets_the_same_sums() {
    let api = TestApi::new().await;
    let shop = api.tenant("shop").await;
    api.suppress(shop.id, "u7@x.example").await;
    let id = campaign(&api, &shop).await;
    let first = api.upload(&shop.key, &id, Some("k"), people(0..6_000)).await;
    let again = api.upload(&shop.key, &id, Some("k"), people(0..6_000)).await;
    assert_eq!(first.body["accepted"], 5_999);
    assert_eq!(first.body, again.body);
    assert_eq!(again.headers["idempotency-replayed"], "true");
    assert_eq!(api.jobs().await, 5_999);

    let other = api.upload(&shop.key, &id, Some("k"), people(5..6_000)).await;
    assert_eq!(other.status, StatusCode::CONFLICT, "{other:?}");
    assert_eq!(api.jobs().await, 5_999);
}

#[tokio::test]
async fn a_broken_upload_is_finished_by_its_repeat() {
    let api = TestApi::new().await;
    let shop = api.tenant("shop").await;
    let id = campaign(&api, &shop).await;
    let whole = people(0..11_000);
    // In pieces that do not end where lines do, and then the connection is gone.
    let mut pieces: Vec<Result<Bytes, std::io::Error>> = whole.as_bytes()[..whole.len() * 7 / 11]
        .chunks(9_999)
        .map(|p| Ok(Bytes::copy_from_slice(p)))
        .collect();
    pieces.push(Err(std::io::ErrorKind::ConnectionReset.into()));
    let broken = Body::from_stream(futures_util::stream::iter(pieces));
    let answer = api.upload(&shop.key, &id, Some("k"), broken).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{answer:?}");
    assert_eq!(answer.body["stored"], json!({"lines": 5_000, "accepted": 5_000, "suppressed": 0}));
    assert_eq!(api.jobs().await, 5_000, "whole parts only");

    let answer = api.upload(&shop.key, &id, Some("k"), whole).await;
    assert_eq!(answer.body["accepted"], 11_000, "{answer:?}");
    assert!(!answer.headers.contains_key("idempotency-replayed"), "some of it was new");
    assert_eq!(api.jobs().await, 11_000);
    assert_eq!(api.count("select count(distinct recipient) from postrider.job").await, 11_000);
}

#[tokio::test]
async fn only_lines_of_json_are_taken() {
    let api = TestApi::new().await;
    let shop = api.tenant("shop").await;
    let id = campaign(&api, &shop).await;
    let answer =
        api.post_json(&shop.key, &format!("/v1/messages/{id}/recipients"), &json!([])).await;
    assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{answer:?}");
    let answer = api.upload(&shop.key, &id, None, "").await;
    assert_eq!((answer.status, &answer.body["lines"]), (StatusCode::ACCEPTED, &json!(0)));
}
