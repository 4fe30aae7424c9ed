//! Promise: what is paused stays where it is within a second, whatever the daemons' rhythm, and
//! goes on by itself when its time is over.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::api::{TestApi, message};
use crate::support::builders;
use crate::support::command::{bare, facts, postrider, ran};
use crate::support::installation::Installation;
use crate::support::postgres::{Role, TestDb};
use axum::http::StatusCode;
use serde_json::{Value, json};
use sqlx::PgPool;

/// Longest wait for anything; only a broken program reaches it.
const PATIENCE: Duration = Duration::from_secs(90);

async fn until(what: &str, owner: &PgPool, query: &'static str) {
    let started = Instant::now();
    while !sqlx::query_scalar::<_, bool>(query).fetch_one(owner).await.expect(what) {
        assert!(started.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn with_config(config: &Path, args: &[&str]) {
    let path = config.to_str().expect("a path");
    let ran = ran(&bare(&[args, &["--config", path]].concat()).output().expect("run"));
    assert_eq!(ran.code, 0, "{args:?}: {}", ran.err);
}

/// With a slow rhythm: only a notice, or the bounded look, helps.
const SLOW: &str = r#"
[[throttle]]
scope = "tenant"
rate = "100/s"
"#;

#[tokio::test]
async fn a_pause_holds_within_a_second_and_ends_by_itself_however_slow_the_poll() {
    let all = Installation::new(None).await;
    let config = all.configure(SLOW);
    let text = std::fs::read_to_string(&config).expect("read");
    let text = text.replace("[queue]", "[queue]\npoll_interval = \"1m\"");
    std::fs::write(&config, text).expect("write");
    let tenant = builders::tenant(&all.owner, "acme").await;
    // In full swing: 3,000 at 100 a second.
    all.submit(tenant, "bulk", &builders::recipients(3_000, "example.org")).await;
    let _daemon = all.daemon(&config).await;

    all.sink_has(20).await;
    with_config(
        &config,
        &["queue", "pause", "--route", "sink", "--reason", "repair", "--for", "8s"],
    );
    until("the pause is over", &all.owner, "select clock_timestamp() > until from postrider.block")
        .await;
    let late: i64 = sqlx::query_scalar(
        "select count(*) from postrider.attempt a, postrider.block b
         where a.kind = 1 and a.at > b.since + interval '1 second' and a.at < b.until",
    )
    .fetch_one(&all.owner)
    .await
    .expect("count");
    // What was on its way may be settled late on a busy machine; going on would be 700.
    assert!(late < 100, "{late} delivered although paused");

    // By itself, and well before the next poll.
    until("it goes on", &all.owner,
        "select exists (select 1 from postrider.attempt a, postrider.block b where a.kind = 1 and a.at >= b.until)")
        .await;
    let waited: f64 = sqlx::query_scalar(
        "select extract(epoch from min(a.at) - b.until)::float8 from postrider.attempt a, postrider.block b
         where a.kind = 1 and a.at >= b.until group by b.until",
    )
    .fetch_one(&all.owner)
    .await
    .expect("ask");
    assert!(waited < 30.0, "resumed {waited} s after its end");
}

/// Everything that a verb could change, as text.
async fn state(owner: &PgPool) -> String {
    sqlx::query_scalar(
        "select concat_ws('|',
           (select json_agg(b order by scope, key) from postrider.block b),
           (select json_agg(o order by scope, key) from postrider.route_override o),
           (select json_agg(c order by lane_id) from postrider.lane_cancellation c),
           (select json_agg(l order by lane_id) from postrider.lane l),
           (select json_agg(s order by stream_id) from postrider.stream s),
           (select json_agg(h order by lane_id) from postrider.lane_hint h),
           (select json_agg(r order by job_id) from postrider.ready r),
           (select count(*) from postrider.operator_action))",
    )
    .fetch_one(owner)
    .await
    .expect("read")
}

#[tokio::test]
async fn every_scope_can_be_paused_and_a_dry_run_changes_nothing() {
    let db = TestDb::new().await;
    let (owner, api) = (db.pool(Role::Owner).await, db.pool(Role::Api).await);
    let shop = builders::tenant(&owner, "shop").await;
    let bank = builders::tenant(&owner, "bank").await;
    builders::submit(&api, shop, "shop", "spring", &builders::recipients(3, "example.org")).await;
    builders::submit(&api, bank, "bank", "bulk", &builders::recipients(2, "example.org")).await;
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("postrider.toml");
    std::fs::write(
        &config,
        "[[source]]\nname = \"a\"\nehlo = \"a.example.org\"\n\
         [[route]]\nname = \"direct\"\nkind = \"mx\"\n[[route]]\nname = \"relay\"\nkind = \"mx\"\n\
         [[rule]]\ntenant = \"shop\"\nroute = \"relay\"\n",
    )
    .expect("write");
    let config = ["--config", config.to_str().expect("a path")];

    let before = state(&owner).await;
    let lane = facts(&db, &[&["queue", "status"][..], &config].concat())["lanes"][1]["lane"]
        .as_i64()
        .expect("a number")
        .to_string();
    let scopes: [(&[&str], &str, i64); 7] = [
        (&["--tenant", "shop"], "tenant", 3),
        (&["--tenant", "shop", "--stream", "spring"], "stream", 3),
        (&["--mailbox-provider", "other"], "mailbox-provider", 5),
        (&["--tenant", "bank", "--mailbox-provider", "other"], "tenant+mailbox-provider", 2),
        (&["--route", "relay"], "route", 3),
        (&["--mailbox-provider", "other", "--route", "direct"], "mailbox-provider+route", 2),
        (&["--lane", &lane], "lane", 3),
    ];
    for (scope, _, touched) in &scopes {
        for verb in [&["pause", "--reason", "x"][..], &["cancel"], &["move", "--back"]] {
            if verb[0] == "cancel" && scope.contains(&"--route") {
                continue;
            }
            let dry = [&["queue"][..], verb, scope, &config, &["--dry-run"]].concat();
            let told = facts(&db, &dry);
            assert_eq!(told["waiting"], *touched, "{dry:?}: {told}");
        }
    }
    assert_eq!(state(&owner).await, before, "a dry run changes nothing");

    for (scope, kind, _) in &scopes {
        facts(&db, &[&["queue", "pause", "--reason", "why"][..], scope, &config].concat());
        let held = facts(&db, &[&["queue", "status"][..], &config].concat());
        assert_eq!(held["held_back"][0]["scope"], **kind, "{held}");
        let done = facts(&db, &[&["queue", "resume"][..], scope, &config].concat());
        assert_eq!(done["was_paused"], true, "{scope:?}");
    }
    let recorded: i64 = sqlx::query_scalar(
        "select count(*) from postrider.operator_action
         where (action = 'queue pause' and reason = 'why') or (action = 'queue resume' and reason is null)",
    )
    .fetch_one(&owner)
    .await
    .expect("count");
    assert_eq!(recorded, 14);
    let wrong = postrider(
        &db,
        &[&["queue", "pause", "--route", "direkt", "--reason", "x"][..], &config].concat(),
    );
    assert!(wrong.code == 1 && wrong.err.contains("known are direct, relay"), "{}", wrong.err);
    let wrong = postrider(
        &db,
        &[&["queue", "pause", "--lane", "99", "--reason", "x"][..], &config].concat(),
    );
    assert!(wrong.code == 1 && wrong.err.contains("no lane 99"), "{}", wrong.err);
}

#[tokio::test]
async fn a_tenant_holds_its_own_streams_and_cannot_undo_what_an_operator_does() {
    let api = TestApi::new().await;
    let (shop, bank) = (api.tenant("shop").await, api.tenant("bank").await);
    for (name, tenant) in [("shop", &shop), ("bank", &bank)] {
        let mut mail = message(name, &["ann@example.org"]);
        mail["stream"] = json!(if name == "shop" { "spring" } else { "loans" });
        api.submit(&tenant.key, &mail).await.id();
    }
    let why = json!({"reason": "wrong prices", "for": "2h"});
    let paused = api.post_json(&shop.key, "/v1/streams/spring/pause", &why).await;
    assert_eq!(paused.status, StatusCode::OK, "{paused:?}");
    assert_eq!(paused.body["seconds"], 7_200);
    assert_eq!(
        api.count("select count(*) from postrider.block where holder = 'tenant' and scope = 'TS'")
            .await,
        1
    );
    let theirs = api.post_json(&shop.key, "/v1/streams/loans/pause", &why).await;
    assert_eq!(theirs.status, StatusCode::NOT_FOUND, "another tenant's stream is none");
    for (body, field) in
        [(json!({"reason": ""}), "reason"), (json!({"reason": "x", "for": "soon"}), "for")]
    {
        let bad = api.post_json(&shop.key, "/v1/streams/spring/pause", &body).await;
        assert_eq!((bad.status, bad.fields()), (StatusCode::UNPROCESSABLE_ENTITY, vec![field]));
    }
    let resumed = api.post_json(&shop.key, "/v1/streams/spring/resume", &Value::Null).await;
    assert_eq!(resumed.body["was_paused"], true, "{resumed:?}");

    let pause =
        ["queue", "pause", "--tenant", "shop", "--stream", "spring", "--reason", "complaints"];
    assert_eq!(postrider(&api.db, &pause).code, 0);
    for verb in ["pause", "resume"] {
        let path = format!("/v1/streams/spring/{verb}");
        let held = api.post_json(&shop.key, &path, &why).await;
        assert_eq!(held.status, StatusCode::CONFLICT, "{verb}: {held:?}");
        assert!(held.body["detail"].as_str().is_some_and(|told| told.contains("complaints")));
    }
    assert_eq!(api.count("select count(*) from postrider.block").await, 1);

    let cancelled =
        api.post_json(&shop.key, "/v1/streams/spring/cancel", &json!({"reason": "over"})).await;
    assert_eq!((cancelled.status, &cancelled.body["lanes"]), (StatusCode::OK, &json!(1)));
    let actors: Vec<(String, String)> =
        sqlx::query_as("select actor, action from postrider.operator_action order by action_id")
            .fetch_all(&api.owner)
            .await
            .expect("read");
    let by_key = format!("api:{}", shop.key.prefix());
    let actions: Vec<&str> = actors
        .iter()
        .filter(|(actor, _)| *actor == by_key)
        .map(|(_, action)| action.as_str())
        .collect();
    assert_eq!(actions, ["stream pause", "stream resume", "stream cancel"]);
}
