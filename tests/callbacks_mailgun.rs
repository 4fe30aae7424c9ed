//! Promises about Mailgun's callbacks: only what the account signed is taken, each token once
//! (by whichever replica, also after a restart), and it is stored before it is acknowledged.

use crate::support::builders;
use crate::support::callbacks::{Mailgun, Room, callback, counted};
use axum::http::StatusCode;
use serde_json::{Value, json};
use tower::ServiceExt;

const PATH: &str = "/v1/callbacks/mailgun";
const REFUSED: &str = "postrider_callbacks_refused_total";

fn event(kind: &str, to: &str, id: &str, more: &Value) -> Value {
    let mut event = json!({
        "event": kind, "id": format!("{kind}-{to}"), "timestamp": 1_772_359_200.123, "recipient": to,
        "message": {"headers": {"message-id": id}},
    });
    for (name, value) in more.as_object().expect("an object") {
        event[name] = value.clone();
    }
    event
}

fn gone(to: &str, id: &str) -> Value {
    let more = json!({"severity": "permanent", "reason": "bounce",
        "delivery-status": {"code": 550, "message": "5.1.1 user unknown", "enhanced-code": "5.1.1"}});
    event("failed", to, id, &more)
}

#[tokio::test]
async fn each_event_is_understood() {
    let room = Room::open(Mailgun::settings()).await;
    let failed = |severity: &str, reason: &str, code: u16, words: &str| json!({"severity": severity, "reason": reason, "delivery-status": {"code": code, "message": words}});
    for (n, (kind, more, action, class, suppressed)) in [
        (
            "failed",
            failed("permanent", "bounce", 550, "5.1.1 user unknown"),
            "failed",
            "address_bad",
            true,
        ),
        (
            "failed",
            failed("permanent", "suppress-bounce", 605, "user unknown"),
            "failed",
            "policy",
            false,
        ),
        (
            "failed",
            failed("permanent", "generic", 554, "5.7.1 blocked using zen.spamhaus.org"),
            "failed",
            "policy",
            false,
        ),
        (
            "failed",
            failed("temporary", "generic", 452, "4.2.2 mailbox full"),
            "delayed",
            "mailbox_full",
            false,
        ),
        ("delivered", json!({}), "delivered", "delivered", false),
        ("accepted", json!({}), "relayed", "delivered", false),
        ("complained", json!({}), "complained", "complaint", true),
        ("unsubscribed", json!({}), "unsubscribed", "", true),
    ]
    .into_iter()
    .enumerate()
    {
        let (to, id) = (format!("r{n}@b.example"), format!("2011.{n}@mg.shop.example"));
        let delivery = room.taken(&to, &id).await;
        let body = Mailgun::body(room.now(), &format!("token-{n}"), &event(kind, &to, &id, &more));
        assert_eq!(room.post(PATH, &[], body).await.status, StatusCode::OK, "{kind} {more}");
        assert_eq!(room.stored().await, n as i64 + 1, "stored before it was acknowledged");
        room.read().await;
        let evidence = room.evidence(delivery).await;
        assert_eq!((&*evidence[0][0], &*evidence[0][1]), (action, class), "{kind} {more}");
        let listed = room.suppressed().await.iter().any(|(who, ..)| *who == to);
        assert_eq!(listed, suppressed, "{kind} {more}");
    }
}

#[tokio::test]
async fn a_token_is_taken_once_by_all_replicas_and_after_a_restart() {
    let room = Room::open(Mailgun::settings()).await;
    let delivery = room.taken("gone@b.example", "a@mg").await;
    let body = Mailgun::body(room.now(), "token", &gone("gone@b.example", "a@mg"));
    assert_eq!(room.post(PATH, &[], body.clone()).await.status, StatusCode::OK);
    // The signature does not cover the event: the same token with another one.
    let other = Mailgun::body(
        room.now(),
        "token",
        &event("complained", "gone@b.example", "a@mg", &json!({})),
    );
    let replica = room.another();
    for (what, body) in [("the same", body), ("another event", other)] {
        for router in [&room.api.router, &replica] {
            let request = callback(PATH, &[], body.clone());
            let answer = router.clone().oneshot(request).await.expect("infallible");
            assert_eq!(
                answer.status(),
                StatusCode::NOT_ACCEPTABLE,
                "{what}: Mailgun stops repeating"
            );
        }
    }
    assert!(counted(REFUSED, &["replayed", "mailgun"]));
    room.read().await;
    assert_eq!((room.stored().await, room.evidence(delivery).await.len()), (1, 1));
    // The same event under a token of its own is acknowledged, and changes nothing.
    let again = Mailgun::body(room.now(), "second", &gone("gone@b.example", "a@mg"));
    assert_eq!(room.post(PATH, &[], again).await.status, StatusCode::OK);
    assert_eq!(room.stored().await, 1);
}

#[tokio::test]
async fn many_at_once_with_one_token_store_one_event() {
    let room = Room::open(Mailgun::settings()).await;
    let replica = room.another();
    let body = Mailgun::body(room.now(), "token", &gone("gone@b.example", "a@mg"));
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..16 {
        let router = if n % 2 == 0 { room.api.router.clone() } else { replica.clone() };
        calls.spawn(router.oneshot(callback(PATH, &[], body.clone())));
    }
    let mut taken = 0;
    while let Some(answer) = calls.join_next().await {
        let status = answer.expect("no panic").expect("infallible").status();
        taken += usize::from(status == StatusCode::OK);
        assert!([StatusCode::OK, StatusCode::NOT_ACCEPTABLE].contains(&status), "{status}");
    }
    assert_eq!((taken, room.stored().await), (1, 1));
}

#[tokio::test]
async fn what_is_forged_stale_or_no_callback_changes_nothing() {
    let room = Room::open(Mailgun::settings()).await;
    room.taken("gone@b.example", "a@mg").await;
    let now = room.now();
    let event = gone("gone@b.example", "a@mg");
    let good: Value = serde_json::from_str(&Mailgun::body(now, "token", &event)).expect("JSON");
    let with = |field: &str, value: Value| {
        let mut body = good.clone();
        body["signature"][field] = value;
        body.to_string()
    };
    let mut bare = good.clone();
    bare.as_object_mut().expect("an object").remove("signature");
    let (forbidden, bad) = (StatusCode::FORBIDDEN, StatusCode::BAD_REQUEST);
    for (what, body, status, reason) in [
        ("no signature", bare.to_string(), forbidden, "unsigned"),
        ("another token", with("token", json!("other")), forbidden, "forged"),
        ("another time", with("timestamp", json!((now + 1).to_string())), forbidden, "forged"),
        ("another signature", with("signature", json!("00".repeat(32))), forbidden, "forged"),
        ("an empty one", with("signature", json!("")), forbidden, "forged"),
        ("a huge token", Mailgun::body(now, &"x".repeat(1_000), &event), forbidden, "forged"),
        ("too old", Mailgun::body(now - 3 * 86_400, "t", &event), forbidden, "stale"),
        ("from the future", Mailgun::body(now + 3_600, "t", &event), forbidden, "stale"),
        (
            "no event",
            r#"{"signature":{"timestamp":"1","token":"t","signature":"x"}}"#.into(),
            bad,
            "malformed",
        ),
        ("no JSON", "timestamp=1&token=t".into(), bad, "malformed"),
    ] {
        let answer = room.post(PATH, &[], body).await;
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        assert!(counted(REFUSED, &[reason, "mailgun"]), "{what}");
    }
    let huge = vec![b' '; (1 << 20) + 1];
    assert_eq!(room.post(PATH, &[], huge).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(room.is_untouched().await);
}

#[tokio::test]
async fn a_try_while_the_database_is_away_uses_no_token_up() {
    let room = Room::open(Mailgun::settings()).await;
    let delivery = room.taken("gone@b.example", "a@mg").await;
    let body = Mailgun::body(room.now(), "token", &gone("gone@b.example", "a@mg"));
    let away = room.without_database().await;
    let answer = away.oneshot(callback(PATH, &[], body.clone())).await.expect("infallible");
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(room.is_untouched().await);
    assert_eq!(room.post(PATH, &[], body).await.status, StatusCode::OK);
    room.read().await;
    assert_eq!(room.evidence(delivery).await.len(), 1);
}

#[tokio::test]
async fn tokens_are_kept_until_they_are_stale_and_then_forgotten() {
    let room = Room::open(Mailgun::settings()).await;
    let opened = event("opened", "ann@b.example", "a@mg", &json!({}));
    let body = Mailgun::body(room.now(), "token", &opened);
    assert_eq!(room.post(PATH, &[], body).await.status, StatusCode::OK);
    assert_eq!(room.stored().await, 0, "of no concern");
    let forget = || postrider::callback::store::forget_tokens(&room.worker, 10);
    assert_eq!(forget().await.expect("tidy"), 0);
    let kept: bool = sqlx::query_scalar(
        "select expires_at > now() + interval '47 hours' from postrider.callback_token",
    )
    .fetch_one(&room.api.owner)
    .await
    .expect("a token");
    assert!(kept, "longer than its signature is fresh");
    sqlx::query("update postrider.callback_token set expires_at = now() - interval '1 second'")
        .execute(&room.api.owner)
        .await
        .expect("wait");
    assert_eq!(forget().await.expect("tidy"), 1);
    assert_eq!(builders::rows(&room.api.owner, "callback_token").await, 0);
}
