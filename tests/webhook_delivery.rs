//! Promises: an endpoint is told every event at least once, signed, the events of a delivery
//! in order; what it refuses is told again; one that takes nothing is left alone, misses
//! nothing, and is disabled in the end.

use std::time::Duration;

use crate::support::builders;
use crate::support::hook::{Got, Hook};
use crate::support::listening::Listening;
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use postrider::config::Settings;
use postrider::event::kind::EventKind;
use postrider::webhook::Spec;
use serde_json::Value;

/// Verifies as the standard says, with what a receiver has: the shown secret and the request.
fn verifies(got: &Got, secret: &str) -> bool {
    let key = STANDARD.decode(secret.strip_prefix("whsec_").expect("a secret")).expect("base64");
    let mut signed = format!("{}.{}.", got.id, got.timestamp).into_bytes();
    signed.extend_from_slice(&got.raw);
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), &signed);
    let expected = format!("v1,{}", STANDARD.encode(mac));
    got.signature.split(' ').any(|signature| signature == expected)
}

fn deliveries_of(events: &[Value], id: &str) -> Vec<i64> {
    let own = events.iter().filter(|event| event["data"]["delivery_id"] == id);
    own.map(|event| event["data"]["attempt"].as_i64().expect("a number")).collect()
}

fn written(delivery: i64) -> String {
    postrider::domain::ids::DeliveryId::new(delivery).to_string()
}

#[tokio::test]
async fn events_come_signed_and_with_what_happened() {
    let here = Listening::new().await;
    let hook = Hook::new().await;
    here.happens(9, 1, 1).await;
    let made = here.endpoint(&hook.url()).await;
    let couriers = here.couriers().await;
    here.happens(7, 1, 7).await;
    here.happens(7, 2, 1).await;
    hook.until("two events", |hook| hook.taken().len() == 2).await;
    couriers.stop().await;

    let got = hook.got();
    for one in &got {
        assert!(verifies(one, &made.secret), "{one:?}");
        assert_eq!(one.body["id"], one.id.as_str());
        let mut bent = one.clone();
        bent.raw.push(b' ');
        assert!(!verifies(&bent, &made.secret), "the body is signed");
    }
    let types: Vec<&Value> = got.iter().map(|one| &one.body["type"]).collect();
    assert_eq!(types, ["deferred", "delivered"], "only what happened after it was made");
    let data = &got[1].body["data"];
    assert_eq!((&data["delivery_id"], &data["attempt"]), (&written(7).into(), &2.into()));
    assert_eq!(data["reply"], "250 ok");
    assert!(data.get("source").is_none(), "our own names stay ours: {data}");
}

#[tokio::test]
async fn what_is_refused_is_told_again_and_later_events_of_its_delivery_wait_behind_it() {
    let here = Listening::new().await;
    // Refuses the first event of delivery 3 three times; takes everything else.
    let stubborn = written(3);
    let refused = std::sync::atomic::AtomicUsize::new(0);
    let hook = Hook::answering(move |events, _| {
        let is_it = |event: &Value| {
            event["data"]["delivery_id"] == stubborn && event["data"]["attempt"] == 1
        };
        let again = events.iter().any(is_it)
            && refused.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < 3;
        if again { 500 } else { 200 }
    })
    .await;
    here.endpoint(&hook.url()).await;
    for attempt in 1..=3 {
        for delivery in 1..=5 {
            here.happens(delivery, attempt, if attempt == 3 { 1 } else { 7 }).await;
        }
    }
    let couriers = here.couriers().await;
    hook.until("all of them", |hook| hook.taken().len() >= 15).await;
    couriers.stop().await;

    let taken = hook.taken();
    assert_eq!(taken.len(), 15, "each once, as nobody died");
    for delivery in 1..=5 {
        assert_eq!(deliveries_of(&taken, &written(delivery)), [1, 2, 3], "in order");
    }
    let tries: Vec<String> =
        hook.got().iter().filter(|got| !got.taken()).map(|got| got.id.clone()).collect();
    assert_eq!(tries.len(), 3);
    assert!(tries.windows(2).all(|pair| pair[0] == pair[1]), "the same id each time: {tries:?}");
    assert_eq!(builders::rows(&here.owner, "webhook_retry").await, 0);
}

#[tokio::test]
async fn an_endpoint_that_takes_nothing_is_left_alone_and_misses_nothing() {
    let mut settings = Settings::for_testing();
    settings.webhook.longest_retry = Duration::from_secs(3_600);
    settings.webhook.first_retry = Duration::from_millis(50);
    let here = Listening::with(settings).await;
    let hook = Hook::answering(|_, _| 503).await;
    let made = here.endpoint(&hook.url()).await;
    sqlx::query(
        "insert into postrider.attempt(tenant_id, message_id, job_id, attempt, kind)
         select $1, 1, n, 1, 1 from generate_series(1, 2000) n",
    )
    .bind(here.tenant)
    .execute(&here.worker)
    .await
    .expect("a backlog");
    let couriers = here.couriers().await;
    here.row_is(made.endpoint.id, "failures >= 3").await;
    let seen = hook.got().len();
    assert!(seen <= 4 * 4, "a few requests each time, not the backlog: {seen}");
    assert_eq!(builders::rows(&here.owner, "webhook_retry").await, 0, "the backlog costs nothing");
    here.row_is(made.endpoint.id, "failing_since is not null and last_error like '%503%'").await;

    hook.answer(|_, _| 200);
    sqlx::query("update postrider.webhook set next_at = now()")
        .execute(&here.owner)
        .await
        .expect("its time comes");
    hook.until("all", |hook| hook.taken().len() >= 2_000).await;
    couriers.stop().await;
    let mut told: Vec<String> =
        hook.taken().iter().map(|event| event["id"].as_str().expect("an id").to_owned()).collect();
    told.sort_unstable();
    told.dedup();
    assert_eq!(told.len(), 2_000, "every one of them");
    here.row_is(made.endpoint.id, "failures = 0 and failing_since is null").await;
}

#[tokio::test]
async fn a_dead_endpoint_is_disabled_with_notice_and_goes_on_from_where_it_was() {
    let mut settings = Settings::for_testing();
    settings.webhook.give_up_after = Duration::from_millis(300);
    let here = Listening::with(settings).await;
    let hook = Hook::answering(|_, _| 500).await;
    let other = Hook::new().await;
    let made = here.endpoint(&hook.url()).await;
    here.endpoint(&other.url()).await;
    here.happens(1, 1, 1).await;
    let couriers = here.couriers().await;
    here.row_is(made.endpoint.id, "state = 'disabled' and disabled_by = 'failing'").await;
    other
        .until("the notice", |hook| {
            hook.taken().iter().any(|event| event["type"] == "endpoint_disabled")
        })
        .await;
    let notice = other.taken().pop().expect("the notice");
    assert_eq!(notice["data"]["endpoint"], made.endpoint.id.to_string());
    assert_eq!(notice["data"]["reason"], "failing");

    hook.answer(|_, _| 200);
    let change = postrider::webhook::Change { enabled: Some(true), ..Default::default() };
    here.desk.change(made.endpoint.id, change).await.expect("enable");
    hook.until("what it missed", |hook| hook.taken().len() == 2).await;
    couriers.stop().await;
    assert_eq!(hook.taken()[0]["type"], "delivered");
}

#[tokio::test]
async fn an_endpoint_that_says_it_is_gone_is_asked_nothing_more() {
    let here = Listening::new().await;
    let hook = Hook::answering(|_, _| 410).await;
    let made = here.endpoint(&hook.url()).await;
    here.happens(1, 1, 1).await;
    let couriers = here.couriers().await;
    here.row_is(made.endpoint.id, "state = 'disabled' and disabled_by = 'gone'").await;
    couriers.stop().await;
    assert_eq!(hook.got().len(), 1);
}

#[tokio::test]
async fn after_a_rotation_both_secrets_verify_until_the_old_one_retires() {
    let here = Listening::new().await;
    let hook = Hook::new().await;
    let made = here.endpoint(&hook.url()).await;
    let id = made.endpoint.id;
    let rotated = here.desk.rotate(id, &here.settings.webhook, &here.sealer).await.expect("rotate");
    assert_ne!(*made.secret, *rotated.secret);
    let couriers = here.couriers().await;
    here.happens(1, 1, 1).await;
    hook.until("one event", |hook| hook.taken().len() == 1).await;
    let got = hook.got().remove(0);
    assert!(verifies(&got, &made.secret) && verifies(&got, &rotated.secret), "{got:?}");

    sqlx::query(
        "update postrider.webhook_secret set retire_at = now() where retire_at is not null",
    )
    .execute(&here.owner)
    .await
    .expect("its time is over");
    here.happens(1, 2, 1).await;
    hook.until("another event", |hook| hook.taken().len() == 2).await;
    couriers.stop().await;
    let got = hook.got().remove(1);
    assert!(!verifies(&got, &made.secret) && verifies(&got, &rotated.secret), "{got:?}");
    let sealed: Vec<Vec<u8>> = sqlx::query_scalar("select sealed from postrider.webhook_secret")
        .fetch_all(&here.owner)
        .await
        .expect("secrets");
    let key = STANDARD.decode(rotated.secret.strip_prefix("whsec_").expect("one")).expect("base64");
    assert!(sealed.iter().all(|sealed| !sealed.windows(16).any(|part| part == &key[..16])));
}

#[tokio::test]
async fn batches_and_kinds_come_as_asked_for() {
    let here = Listening::new().await;
    let hook = Hook::new().await;
    let kinds = Some(vec![EventKind::Bounced]);
    let spec = Spec {
        url: hook.url(),
        batch: 4,
        in_flight: 1,
        kinds,
        per_second: Some(1_000),
        ..Spec::default()
    };
    let made = here.endpoint_as(spec).await;
    for n in 1..=10 {
        here.happens(n, 1, 2).await;
        here.happens(n, 1, 7).await;
    }
    let couriers = here.couriers().await;
    hook.until("ten events", |hook| hook.taken().len() == 10).await;
    couriers.stop().await;
    let got = hook.got();
    assert!(got.iter().all(|one| one.body.is_array() && verifies(one, &made.secret)));
    assert!(got.iter().all(|one| (1..=4).contains(&one.events().len())));
    assert!(hook.taken().iter().all(|event| event["type"] == "bounced"));
}

#[tokio::test]
async fn a_replay_counts_for_what_a_turn_under_way_has_told() {
    let here = Listening::new().await;
    let hook = Hook::new().await;
    let made = here.endpoint(&hook.url()).await;
    here.happens(1, 1, 1).await;
    let hour_ago = crate::support::api::in_hours(-1);
    // Somebody took the endpoint, and has told the event; its cursor stands before it still.
    let took = "update postrider.webhook set holder = 1, held_until = now() + interval '1 hour', hold = hold + 1";
    sqlx::query(took).execute(&here.owner).await.expect("take");
    here.desk.replay(made.endpoint.id, hour_ago).await.expect("replay");
    let freed = "webhook where holder is null and held_until is null and hold = 2";
    assert_eq!(builders::rows(&here.owner, freed).await, 1, "what the turn brings back is refused");
    let couriers = here.couriers().await;
    hook.until("the event again", |hook| hook.taken().len() == 1).await;
    couriers.stop().await;
}

#[tokio::test]
async fn a_replay_tells_the_same_events_again() {
    let here = Listening::new().await;
    let hook = Hook::new().await;
    let made = here.endpoint(&hook.url()).await;
    for n in 1..=5 {
        here.happens(n, 1, 1).await;
    }
    let couriers = here.couriers().await;
    hook.until("five events", |hook| hook.taken().len() == 5).await;
    let hour_ago = crate::support::api::in_hours(-1);
    here.desk.replay(made.endpoint.id, hour_ago).await.expect("replay");
    hook.until("five more", |hook| hook.taken().len() == 10).await;
    couriers.stop().await;
    let ids = |events: &[Value]| {
        let mut ids: Vec<String> = events.iter().map(|event| event["id"].to_string()).collect();
        ids.sort_unstable();
        ids
    };
    let taken = hook.taken();
    assert_eq!(ids(&taken[..5]), ids(&taken[5..]));
    let actions = "operator_action where action in ('webhook create', 'webhook replay')";
    assert_eq!(builders::rows(&here.owner, actions).await, 2, "on record");
}
