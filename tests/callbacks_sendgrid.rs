//! Promises about SendGrid's callbacks: only what an account of ours signed is taken, it is
//! stored before it is acknowledged, acts once, in any order, and never undoes what has ended.

use std::time::Duration;

use crate::support::builders;
use crate::support::callbacks::{Room, SendGrid, callback, counted};
use axum::body::Body;
use axum::http::StatusCode;
use postrider::domain::ids::TenantId;
use postrider::event::cursor::Place;
use postrider::event::log;
use serde_json::{Value, json};
use tower::ServiceExt;

const REFUSED: &str = "postrider_callbacks_refused_total";

/// An event about the mail that SendGrid took as `ID.filter…`.
fn event(n: u32, kind: &str, to: &str, id: &str, more: &Value) -> Value {
    let mut event = json!({
        "sg_event_id": format!("event-{n}"), "event": kind, "email": to, "timestamp": 1_772_359_200,
        "sg_message_id": format!("{id}.filter0001.16648.5515E0B88.0"),
    });
    for (name, value) in more.as_object().expect("an object") {
        event[name] = value.clone();
    }
    event
}

fn gone(n: u32, to: &str, id: &str) -> Value {
    let more = json!({"type": "bounce", "status": "5.1.1", "reason": "550 5.1.1 user unknown"});
    event(n, "bounce", to, id, &more)
}

#[tokio::test]
async fn a_batch_is_stored_and_understood() {
    let account = SendGrid::new();
    let room = Room::open(account.settings()).await;
    let none = json!({});
    let all = [
        ("gone", "bounce", json!({"type": "bounce", "reason": "550 5.1.1 user unknown"})),
        (
            "blocked",
            "bounce",
            json!({"type": "blocked", "reason": "550 5.1.1 user unknown", "status": "5.1.1"}),
        ),
        (
            "policy",
            "bounce",
            json!({"type": "bounce", "reason": "550 5.7.1 blocked using zen.spamhaus.org"}),
        ),
        ("listed", "dropped", json!({"reason": "Bounced Address"})),
        ("slow", "deferred", json!({"response": "451 4.7.1 try again later"})),
        ("angry", "spamreport", none.clone()),
        ("leaving", "unsubscribe", none.clone()),
        ("happy", "delivered", json!({"response": "250 OK"})),
        ("fresh", "processed", none.clone()),
    ];
    let (mut events, mut deliveries) = (Vec::new(), Vec::new());
    for (n, (who, kind, more)) in all.iter().enumerate() {
        let to = format!("{who}@b.example");
        deliveries.push(room.taken(&to, &format!("{who}.id")).await);
        events.push(event(n as u32, kind, &to, &format!("{who}.id"), more));
    }
    events.push(event(90, "open", "happy@b.example", "happy.id", &none));
    let answer = account.tells(&room, &json!(events)).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(room.stored().await, 9, "stored before it was acknowledged");
    room.read().await;

    let suppressed: Vec<_> = room.suppressed().await;
    let expected = [
        ("angry@b.example", "complaint"),
        ("gone@b.example", "address_bad"),
        ("leaving@b.example", "unsubscribed"),
    ]
    .map(|(who, why)| (who.to_owned(), why.to_owned(), "callback".to_owned()));
    assert_eq!(suppressed, expected, "policy, blocks and what passes never suppress");
    for ((who, ..), (delivery, [action, class, told])) in all.iter().zip(deliveries.iter().zip([
        ["failed", "address_bad", "2"],
        ["failed", "address_bad", "2"],
        ["failed", "policy", "2"],
        ["failed", "policy", "2"],
        ["delayed", "", ""],
        ["complained", "complaint", "9"],
        ["unsubscribed", "", "10"],
        ["delivered", "delivered", ""],
        ["relayed", "delivered", ""],
    ])) {
        let evidence = room.evidence(*delivery).await;
        assert_eq!(evidence.len(), 1, "{who}");
        assert_eq!(evidence[0][0], action, "{who}");
        assert!(class.is_empty() || evidence[0][1] == class, "{who}: {evidence:?}");
        assert!(action == "unsubscribed" || !evidence[0][3].is_empty(), "the rule is visible");
        assert_eq!(room.ends(*delivery).await, [1], "{who}: no end changes");
        let kinds: Vec<String> =
            room.told(*delivery).await.iter().map(ToString::to_string).collect();
        let expected: Vec<&str> = ["1", told].into_iter().filter(|kind| !kind.is_empty()).collect();
        assert_eq!(kinds, expected, "{who}: told after it was delivered, once");
    }
    for outcome in ["stored", "ignored"] {
        assert!(counted("postrider_callback_events_total", &[outcome, "sendgrid"]));
    }
}

#[tokio::test]
async fn a_late_bounce_is_told_with_what_was_made_of_it() {
    let account = SendGrid::new();
    let room = Room::open(account.settings()).await;
    let delivery = room.taken("gone@b.example", "a.b").await;
    account.tells(&room, &json!([gone(1, "gone@b.example", "a.b")])).await;
    room.read().await;
    let tenant = TenantId::new(room.tenant);
    let found = loop {
        let page = log::read(
            &mut room.worker.acquire().await.expect("connect"),
            tenant,
            Place::START,
            None,
            100,
        )
        .await
        .expect("read");
        let event =
            page.events.into_iter().map(|entry| entry.event).find(|one| one.kind == "bounced");
        if let Some(event) = event {
            break serde_json::to_value(event).expect("JSON");
        }
        // Transactions of others on this server may hold it back.
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let data = &found["data"];
    assert_eq!(data["delivery_id"], delivery.to_string());
    assert_eq!(data["to"], "gone@b.example");
    for (field, value) in [
        ("by", "sendgrid"),
        ("action", "failed"),
        ("class", "address_bad"),
        ("hardness", "hard"),
        ("enhanced", "5.1.1"),
        ("reply", "550 5.1.1 user unknown"),
    ] {
        assert_eq!(data[field], value, "{field}: {found}");
    }
    assert!(data["rule"].is_string() && data["code"] == 550, "{found}");
}

#[tokio::test]
async fn what_is_not_signed_by_the_account_changes_nothing() {
    let (account, other) = (SendGrid::new(), SendGrid::new());
    let room = Room::open(account.settings()).await;
    room.taken("ann@b.example", "a.b").await;
    let body = json!([gone(1, "ann@b.example", "a.b")]).to_string();
    let now = room.now();
    let good = account.headers(now, &body);
    let path = "/v1/callbacks/sendgrid";
    let as_sent = |headers: &[(&'static str, String); 2], body: &str| {
        let headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        callback(path, &headers, body.to_owned())
    };
    let mut moved = good.clone();
    moved[0].1 = (now + 1).to_string();
    let mut bent = good.clone();
    bent[1].1 = "bm90IGEgc2lnbmF0dXJl".into();
    let bare = callback(path, &[], body.clone());
    for (what, request, reason) in [
        ("no signature", bare, "unsigned"),
        ("another account's", as_sent(&other.headers(now, &body), &body), "forged"),
        ("another body", as_sent(&good, &body.replace("ann", "bob")), "forged"),
        ("another time", as_sent(&moved, &body), "forged"),
        ("nonsense", as_sent(&bent, &body), "forged"),
        ("too old", as_sent(&account.headers(now - 3 * 86_400, &body), &body), "stale"),
        ("from the future", as_sent(&account.headers(now + 3_600, &body), &body), "stale"),
    ] {
        let answer = room.api.send(request).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{what}: {answer:?}");
        assert!(counted(REFUSED, &[reason, "sendgrid"]), "{what}");
    }
    for (body, status) in [("{}", StatusCode::BAD_REQUEST), ("[1", StatusCode::BAD_REQUEST)] {
        let answer = room.api.send(as_sent(&account.headers(now, body), body)).await;
        assert_eq!(answer.status, status, "{body}");
    }
    assert!(room.is_untouched().await);
    // A provider that is not configured is not there.
    let answer = room.post("/v1/callbacks/mailgun", &[], "{}").await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn size_and_number_are_bounded() {
    let account = SendGrid::new();
    let room = Room::open(account.settings()).await;
    let many: Vec<Value> = (0..101).map(|n| gone(n, "ann@b.example", "a.b")).collect();
    let answer = account.tells(&room, &json!(many)).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE, "{answer:?}");
    let huge = vec![b' '; (1 << 20) + 1];
    let answer = room.post("/v1/callbacks/sendgrid", &[], huge).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE, "{answer:?}");
    assert!(counted(REFUSED, &["too_many"]) && counted(REFUSED, &["too_large"]));
    assert!(room.is_untouched().await);
}

#[tokio::test]
async fn the_same_event_acts_once_and_a_list_that_was_cleared_stays_clear() {
    let account = SendGrid::new();
    let room = Room::open(account.settings()).await;
    let delivery = room.taken("gone@b.example", "a.b").await;
    let event = gone(1, "gone@b.example", "a.b");
    for _ in 0..3 {
        let answer = account.tells(&room, &json!([event, event])).await;
        assert_eq!(answer.status, StatusCode::OK);
        room.read().await;
    }
    assert_eq!((room.stored().await, room.evidence(delivery).await.len()), (1, 1));
    assert!(counted("postrider_callback_events_total", &["duplicate", "sendgrid"]));
    assert_eq!(room.told(delivery).await, [1, 2]);
    // An operator knows better; a replay does not put it back.
    sqlx::query("delete from postrider.suppression").execute(&room.api.owner).await.expect("clear");
    account.tells(&room, &json!([event])).await;
    room.read().await;
    assert!(room.suppressed().await.is_empty());
}

#[tokio::test]
async fn delivered_after_bounced_undoes_nothing_and_either_ends_a_doubt() {
    let account = SendGrid::new();
    let room = Room::open(account.settings()).await;
    let delivery = room.taken("gone@b.example", "a.b").await;
    account.tells(&room, &json!([gone(1, "gone@b.example", "a.b")])).await;
    room.read().await;
    let late = event(2, "delivered", "gone@b.example", "a.b", &json!({"response": "250 OK"}));
    account.tells(&room, &json!([late])).await;
    room.read().await;
    assert_eq!(room.suppressed().await.len(), 1);
    assert_eq!(room.ends(delivery).await, [1]);
    assert_eq!(room.told(delivery).await, [1, 2]);

    for (n, kind) in [(10, "delivered"), (11, "bounce"), (12, "processed")] {
        let to = format!("doubt{n}@b.example");
        let delivery = room.doubtful(&to).await;
        assert_eq!(builders::rows(&room.api.owner, "dead_letter where reason = 'doubt'").await, 1);
        // Its id was never answered: only what we put into the mail leads to it.
        let named = json!({"postrider_delivery": delivery.to_string(), "type": "bounce", "reason": "552 5.2.2 mailbox full"});
        account.tells(&room, &json!([event(n, kind, &to, "never.heard", &named)])).await;
        room.read().await;
        assert_eq!(builders::rows(&room.api.owner, "dead_letter").await, 0, "{kind}");
        assert_eq!(room.ends(delivery).await, [1], "{kind}: the provider had it");
        let told = room.told(delivery).await;
        let expected: &[i16] = if kind == "bounce" { &[1, 2] } else { &[1] };
        assert!(told.ends_with(expected), "{kind}: {told:?}");
    }
}

#[tokio::test]
async fn an_unknown_mail_is_acknowledged_counted_and_looked_for_once_more() {
    let account = SendGrid::new();
    let room = Room::open(account.settings()).await;
    let foreign = json!({"postrider_delivery": "dlv_000000000001A"});
    let events = json!([
        event(1, "bounce", "x@b.example", "nobody.s", &json!({})),
        event(2, "bounce", "x@b.example", "nobody.s", &foreign),
    ]);
    assert_eq!(account.tells(&room, &events).await.status, StatusCode::OK);
    room.read().await;
    assert_eq!(room.outcomes().await, ["waits", "unmatched"]);
    // The provider was faster than the note of its answer.
    let delivery = room.taken("x@b.example", "nobody.s").await;
    sqlx::query(
        "update postrider.inbound_report set taken_at = now() - interval '5 minutes 1 second'",
    )
    .execute(&room.api.owner)
    .await
    .expect("wait");
    room.read().await;
    assert_eq!(room.outcomes().await, ["evidence", "unmatched"]);
    assert_eq!(room.evidence(delivery).await.len(), 1);
    assert!(counted("postrider_reports_total", &["callback", "unmatched"]));
    // One that stays unknown is given up the second time.
    account.tells(&room, &json!([event(3, "bounce", "y@b.example", "never", &json!({}))])).await;
    for _ in 0..2 {
        room.read().await;
        sqlx::query("update postrider.inbound_report set taken_at = now() - interval '6 minutes' where done_at is null")
            .execute(&room.api.owner)
            .await
            .expect("wait");
    }
    assert_eq!(room.outcomes().await, ["evidence", "unmatched", "unmatched"]);
}

#[tokio::test]
async fn the_provider_s_own_id_goes_before_what_the_mail_names() {
    let account = SendGrid::new();
    let room = Room::open(account.settings()).await;
    let theirs = room.taken("ann@b.example", "hers").await;
    let mine = room.taken("bob@b.example", "his").await;
    let named = json!({"postrider_delivery": theirs.to_string(), "reason": "550 5.1.1 user unknown", "type": "bounce"});
    account.tells(&room, &json!([event(1, "bounce", "bob@b.example", "his", &named)])).await;
    // And an event about another address than the one written to suppresses nobody.
    let other = json!({"type": "bounce", "reason": "550 5.1.1 user unknown"});
    account.tells(&room, &json!([event(2, "bounce", "eve@b.example", "hers", &other)])).await;
    room.read().await;
    assert_eq!(room.evidence(mine).await.len(), 1);
    let suppressed = room.suppressed().await;
    assert_eq!(suppressed.iter().map(|one| one.0.as_str()).collect::<Vec<_>>(), ["bob@b.example"]);
    assert_eq!(room.told(theirs).await, [1], "its own recipient did not bounce");
}

#[tokio::test]
async fn a_delivery_of_another_cell_is_found_there() {
    let account = SendGrid::new();
    let other = Room::open(account.settings()).await;
    let room = Room::beside(account.settings(), vec![other.cell(1)]).await;
    let by_id = other.taken("gone@b.example", "a.b").await;
    let by_name = other.doubtful("ann@b.example").await;
    let named = json!({"postrider_delivery": by_name.to_string()});
    let events = json!([
        gone(1, "gone@b.example", "a.b"),
        event(2, "delivered", "ann@b.example", "never.heard", &named),
    ]);
    assert_eq!(account.tells(&room, &events).await.status, StatusCode::OK);
    room.read().await;
    assert_eq!(room.outcomes().await, ["applied", "evidence"]);
    assert_eq!((other.suppressed().await.len(), room.suppressed().await.len()), (1, 0));
    assert_eq!(other.evidence(by_id).await.len(), 1);
    assert_eq!(other.ends(by_name).await, [1], "its doubt ended");
}

#[tokio::test]
async fn while_the_database_is_away_the_provider_is_asked_to_repeat() {
    let account = SendGrid::new();
    let room = Room::open(account.settings()).await;
    let delivery = room.taken("gone@b.example", "a.b").await;
    let body = json!([gone(1, "gone@b.example", "a.b")]).to_string();
    let headers = account.headers(room.now(), &body);
    let headers: Vec<(&str, &str)> =
        headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let away = room.without_database().await;
    let request = callback("/v1/callbacks/sendgrid", &headers, body.clone());
    let answer = away.oneshot(request).await.expect("infallible");
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.headers().contains_key("retry-after"));
    assert!(counted(REFUSED, &["database", "sendgrid"]));
    assert!(room.is_untouched().await);
    let repeated = room.post("/v1/callbacks/sendgrid", &headers, body).await;
    assert_eq!(repeated.status, StatusCode::OK);
    room.read().await;
    assert_eq!(room.evidence(delivery).await.len(), 1);
}

#[tokio::test]
async fn a_flood_finds_no_seat_and_submissions_go_on() {
    let account = SendGrid::new();
    let settings = postrider::config::Callbacks { max_requests: 2, ..account.settings() };
    let room = Room::open(settings).await;
    let acme = room.api.tenant("shop").await;
    // Two that never finish their body hold all seats.
    let (mut ends, mut slow) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let (end, pieces) = tokio::sync::mpsc::channel::<Result<bytes::Bytes, std::io::Error>>(1);
        let pieces = futures_util::stream::unfold(pieces, |mut pieces| async move {
            let piece = pieces.recv().await?;
            Some((piece, pieces))
        });
        let request = callback("/v1/callbacks/sendgrid", &[], Body::from_stream(pieces));
        slow.push(tokio::spawn(room.api.router.clone().oneshot(request)));
        end.send(Ok(bytes::Bytes::from_static(b"["))).await.expect("it is read");
        // The second piece goes when the first was taken: the seat is held.
        end.send(Ok(bytes::Bytes::from_static(b" "))).await.expect("it is read");
        ends.push(end);
    }
    let answer = account.tells(&room, &json!([])).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
    assert!(counted(REFUSED, &["busy"]));
    let message = crate::support::api::message("shop", &["ann@example.org"]);
    assert_eq!(room.api.submit(&acme.key, &message).await.status, StatusCode::ACCEPTED);
    drop(ends);
    for one in slow {
        let answer = one.await.expect("no panic").expect("infallible");
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "not signed");
    }
    assert_eq!(account.tells(&room, &json!([])).await.status, StatusCode::OK);
}
