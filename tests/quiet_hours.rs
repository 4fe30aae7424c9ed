//! Promise: mail rests in the quiet hours of its tenant or its recipient, spends no attempt,
//! goes on when they end, and expires when its time is over.

use std::path::Path;

use crate::support::api::{TestApi, message};
use crate::support::builders;
use crate::support::command::{bare, ran};
use crate::support::installation::Installation;
use crate::support::postgres::{Role, TestDb};
use axum::http::StatusCode;
use chrono::{DateTime, TimeDelta, Utc};
use postrider::domain::clock::Clock;
use postrider::queue::upkeep;
use serde_json::json;

/// Quiet now by the clock of UTC, and not by that of Kiribati, 14 hours ahead.
fn around_now() -> String {
    let now = DateTime::<Utc>::from(Clock::System.now());
    let minute = |hours| (now + TimeDelta::hours(hours)).format("%H:%M");
    format!("{}-{}", minute(-1), minute(2))
}

fn set_zone(config: &Path, zone: &str) {
    let path = config.to_str().expect("a path");
    let args = ["tenant", "set", "acme", "--time-zone", zone, "--config", path];
    let ran = ran(&bare(&args).output().expect("run"));
    assert_eq!(ran.code, 0, "{}", ran.err);
}

#[tokio::test]
async fn a_lane_rests_by_its_tenants_clock_and_goes_on_when_the_clock_is_another() {
    let all = Installation::new(None).await;
    let config = all.configure(&format!(
        "[stream.transactional]\n[stream.bulk]\nquiet_hours = \"{}\"\n",
        around_now()
    ));
    let tenant = builders::tenant(&all.owner, "acme").await;
    let daemon = all.daemon(&config).await;
    all.submit(tenant, "bulk", &builders::recipients(4, "example.org")).await;
    daemon.metric_reaches("postrider_waiting{reason=\"quiet_hours\"}", 1.0).await;
    // What is awaited goes at any hour.
    all.submit(tenant, "transactional", &builders::recipients(1, "example.org")).await;
    all.sink_has(1).await;
    assert_eq!(builders::rows(&all.owner, "ready").await, 4, "not looked at, not moved");

    set_zone(&config, "Pacific/Kiritimati");
    all.drained(&daemon).await;
    assert_eq!(all.sink.stats().accepted, 5);
}

#[tokio::test]
async fn a_delivery_rests_by_its_recipients_clock_and_not_beyond_its_time() {
    let all = Installation::new(None).await;
    let config = all.configure(&format!(
        "[stream.bulk]\nquiet_hours = \"{}\"\nquiet_zone = \"recipient\"\n",
        around_now()
    ));
    let tenant = builders::tenant(&all.owner, "acme").await;
    let daemon = all.daemon(&config).await;
    let place = |zone: &str| Some(json!({"time_zone": zone}).to_string());
    for (to, payload, hours) in [
        ("awake@example.org", place("Pacific/Kiritimati"), 48),
        ("asleep@example.org", place("UTC"), 48),
        ("tenants@example.org", None, 48),
        ("late@example.org", place("UTC"), 1),
    ] {
        sqlx::query(
            "select postrider.submit($1, 'acme.example', 'bulk',
               '{\"from\":\"me@acme.example\",\"subject\":\"Hi\",\"text\":\"Hello\"}', null,
               now() + make_interval(hours => $2), array[$3], array[$4])",
        )
        .bind(tenant)
        .bind(hours)
        .bind(to)
        .bind(payload)
        .execute(&all.api)
        .await
        .expect("submit");
    }
    daemon.metric_reaches("postrider_postponed_total{reason=\"quiet_hours\"}", 3.0).await;
    all.sink_has(1).await;
    let started = std::time::Instant::now();
    while builders::rows(&all.owner, "deferred").await < 3 {
        assert!(started.elapsed().as_secs() < 90, "never settled");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let rows: Vec<(String, i16, f64, bool)> = sqlx::query_as(
        "select j.recipient, d.attempt, extract(epoch from d.due_at - now())::float8, d.due_at = d.expires_at
         from postrider.deferred d join postrider.job j using (job_id) order by 1",
    )
    .fetch_all(&all.owner)
    .await
    .expect("read");
    for (recipient, attempt, left, at_its_end) in &rows {
        assert_eq!(*attempt, 0, "{recipient}: no attempt was spent");
        assert_eq!(*at_its_end, recipient == "late@example.org", "{recipient}");
        let (least, most) = if *at_its_end { (3_200.0, 3_600.0) } else { (6_700.0, 7_320.0) };
        assert!((least..=most).contains(left), "{recipient}: {left}");
    }
    assert_eq!(builders::attempts(&all.owner, 7).await, 0, "nothing was recorded as a try");

    // Its time is over before the night is.
    daemon.kill();
    let worker = &all.owner;
    sqlx::query(
        "update postrider.deferred set due_at = now(), expires_at = now() where due_at = expires_at",
    )
    .execute(worker)
    .await
    .expect("time passes");
    upkeep::promote(worker, 100).await.expect("promote");
    assert_eq!(builders::attempts(worker, 3).await, 1, "expired, and only that one");
    assert_eq!(builders::rows(worker, "deferred").await, 2);
}

#[tokio::test]
async fn a_recipients_time_zone_is_checked_over_http_and_in_sql() {
    let api = TestApi::new().await;
    let shop = api.tenant("shop").await;
    let mut mail = message("shop", &[]);
    mail["recipients"] = json!([
        {"to": "ann@example.org", "time_zone": "America/New_York"},
        {"to": "bob@example.org", "time_zone": "America/Gotham"},
    ]);
    let answer = api.submit(&shop.key, &mail).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
    assert_eq!(answer.body["accepted"], 1);
    let refused = answer.body["refused"][0]["reason"].as_str().expect("a reason");
    assert!(refused.starts_with("time_zone: expected a time zone"), "{refused}");
    let id = answer.id().to_owned();
    let lines = "{\"to\": \"cid@example.org\", \"time_zone\": \"Asia/Tokyo\"}\n\
                 {\"to\": \"dan@example.org\", \"time_zone\": \"x\"}\n";
    let answer = api.upload(&shop.key, &id, None, lines).await;
    assert_eq!((&answer.body["accepted"], &answer.body["refused"]), (&json!(1), &json!(1)));
    let zones = async || -> Vec<Option<String>> {
        sqlx::query_scalar(
            "select payload::json ->> 'time_zone' from postrider.job order by job_id",
        )
        .fetch_all(&api.owner)
        .await
        .expect("read")
    };
    let given = ["America/New_York", "Asia/Tokyo"].map(|zone| Some(zone.to_owned()));
    assert_eq!(zones().await, given);
}

#[tokio::test]
async fn sql_submissions_name_time_zones_that_exist() {
    let db = TestDb::new().await;
    let owner = db.pool(Role::Owner).await;
    let shop = builders::tenant(&owner, "shop").await;
    sqlx::query("insert into postrider.tenant_login(login, tenant_id) values (session_user, $1)")
        .bind(shop)
        .execute(&owner)
        .await
        .expect("bind");
    let send = async |zone: &str| {
        let mail = json!({"from": "a@shop.example", "subject": "Hi", "text": "Hello",
            "recipients": [{"to": "ann@example.org", "time_zone": zone}]});
        sqlx::query("select postrider.send($1::text::json)")
            .bind(mail.to_string())
            .execute(&owner)
            .await
            .map_err(|error| error.to_string())
    };
    send("Europe/Berlin").await.expect("a zone");
    let payload: String = sqlx::query_scalar("select payload from postrider.job")
        .fetch_one(&owner)
        .await
        .expect("read");
    assert!(payload.contains("Europe/Berlin"), "{payload}");
    for wrong in ["Europe/Bonn", "CEST", "+02", "UTC'; drop", ""] {
        let error = send(wrong).await.expect_err(wrong);
        assert!(error.contains("recipients[0].time_zone"), "{wrong}: {error}");
    }
}
