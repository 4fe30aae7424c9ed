//! Promises: the pace follows what a receiver takes, on all daemons and within configured
//! limits, and says why; a host that does not answer costs the mail behind it no attempt and
//! is named; replies that no rule knows are counted and listed.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::support::builders;
use crate::support::command::facts;
use crate::support::installation::Installation;
use crate::support::strict_peer::{StrictPeer, THROTTLED};
use postrider::domain::ids::DeliveryId;
use serde_json::Value;

/// Longest wait for anything; only a broken program reaches it.
const PATIENCE: Duration = Duration::from_secs(90);

/// Mail to strict.example goes to `peer`.
fn config(peer: SocketAddr, more: &str) -> String {
    format!(
        r#"
[[mailbox_provider]]
name = "strict"
domains = ["strict.example"]

[[route]]
name = "strict"
kind = "relay"
host = "127.0.0.1"
port = {port}
tls = "none"
max_connections_per_host = 10

[[rule]]
mailbox_provider = "strict"
route = "strict"

{more}
"#,
        port = peer.port(),
    )
}

/// Asks for what limits stand at until it is as wanted.
async fn shown(home: &Installation, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let started = Instant::now();
    loop {
        let shown = throttle_show(home);
        if wanted(&shown) {
            return shown;
        }
        assert!(started.elapsed() < PATIENCE, "never {what}: {shown:#}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn throttle_show(home: &Installation) -> Value {
    facts(home.database(), &["throttle", "show"])
}

/// The rate of a key that has a pace.
fn pace(shown: &Value, key: &str) -> Option<f64> {
    let paces = shown["paces"].as_array()?;
    paces.iter().find(|one| one["key"] == key)?["rate"].as_f64()
}

/// Two daemons find out what `peer` takes, rest below it, and follow when it relents.
async fn settles_and_follows(peer: &StrictPeer, key: &str, rule: &str, words: &str) {
    let home = Installation::new(None).await;
    let tenant = builders::tenant(&home.owner, "acme").await;
    let more = "[adaptive]\nwindow = \"1s\"\nprobe = \"4s\"\n";
    let path = home.configure(&config(peer.address, more));
    let first = home.daemon(&path).await;
    let _second = home.daemon(&path).await;
    let sent = home.submit(tenant, "bulk", &builders::recipients(5_000, "strict.example")).await;

    let in_force = shown(&home, "paced", |shown| pace(shown, key).is_some()).await;
    let one = &in_force["paces"][0];
    assert_eq!(one["rule"], rule, "{one:#}");
    assert!(one["reply"].as_str().is_some_and(|reply| reply.starts_with(words)), "{one:#}");
    let quota = &peer.quota;
    quota.has_taken(150).await;
    // Whatever was begun before the pace was known has gone its way by now.
    shown(&home, "settled", |shown| pace(shown, key).is_some_and(|rate| rate <= 22.0)).await;
    let before = quota.counts();
    // Now and then it tries more than it rests at, so one look says little.
    let mut paces = Vec::new();
    while quota.counts().0 < before.0 + 300 {
        paces.extend(pace(&throttle_show(&home), key));
        quota.has_taken(quota.counts().0 + 10).await;
    }
    let (taken, deferred) = (quota.counts().0 - before.0, quota.counts().1 - before.1);
    assert!(deferred * 20 < taken, "{deferred} deferred beside {taken} taken");
    paces.sort_by(f64::total_cmp);
    let settled = paces[paces.len() / 2];
    assert!((12.0..=22.0).contains(&settled), "{paces:?}");

    let started = Instant::now();
    loop {
        let waits = facts(home.database(), &["why", &sent.to_string()]);
        if waits.to_string().contains(rule) {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "{waits:#}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    quota.relent(2_000);
    shown(&home, "faster", |shown| pace(shown, key).is_some_and(|rate| rate > 60.0)).await;
    assert!(first.metrics().await.contains("postrider_pace_changes_total"), "{}", first.words());
    assert_eq!(builders::attempts(&home.owner, 2).await, 0, "nobody bounced");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pace_settles_below_what_the_receiver_takes_and_follows_when_it_relents() {
    let peer = StrictPeer::start(20).await;
    let key = "source_mailbox_provider/default/strict";
    settles_and_follows(&peer, key, "google-rate-ip", "421 4.7.28").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pace_of_a_relay_settles_below_what_the_account_may() {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let peer = StrictPeer::saying(THROTTLED, any, 20).await;
    settles_and_follows(&peer, "route/strict", "ses-sending-rate", "454 Throttling").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_costs_no_attempt_is_named_and_ends_by_itself() {
    let place = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        free.local_addr().expect("it is bound")
    };
    let home = Installation::new(None).await;
    let tenant = builders::tenant(&home.owner, "acme").await;
    let more = "[adaptive]\nbreaker_failures = 3\nbreaker_first = \"500ms\"\nbreaker_longest = \"2s\"\n\
                [stream.bulk]\nretry = { first = \"1s\", factor = 1.0, cap = \"1s\" }\n";
    let daemon = home.daemon(&home.configure(&config(place, more))).await;
    let sent = home.submit(tenant, "bulk", &builders::recipients(300, "strict.example")).await;
    daemon.metric_reaches("postrider_breakers_blocked", 1.0).await;

    let blocked = shown(&home, "told", |shown| {
        shown["breakers"].as_array().is_some_and(|all| !all.is_empty())
    })
    .await;
    let one = &blocked["breakers"][0];
    assert_eq!(one["spot"], format!("host {place}"), "{one:#}");
    assert!(one["why"].as_str().is_some_and(|why| why.contains("connect")), "{one:#}");

    let untouched: Vec<i64> = sqlx::query_scalar(
        "select job_id from postrider.job where message_id = $1 order by job_id desc limit 20",
    )
    .bind(sent.get())
    .fetch_all(&home.owner)
    .await
    .expect("jobs");
    let started = Instant::now();
    'named: loop {
        for job in &untouched {
            let delivery = DeliveryId::new(*job).to_string();
            let why = facts(home.database(), &["why", &delivery]).to_string();
            if why.contains("does not answer") {
                break 'named;
            }
        }
        assert!(started.elapsed() < PATIENCE, "no delivery says that the host does not answer");
    }

    let tries = || builders::rows(&home.owner, "attempt where kind <> 1");
    let during = tries().await;
    assert!(during < 60, "{during} attempts of 300 mails were charged for one outage");
    let peer = StrictPeer::start_at(place, 100_000).await;
    peer.quota.has_taken(300).await;
    home.drained(&daemon).await;
    let charged = tries().await;
    assert!(charged < 100, "{charged} attempts were charged in all");
    assert_eq!(peer.quota.counts(), (300, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_that_no_rule_knows_are_listed_without_who_was_written_to() {
    let peer = StrictPeer::start(100_000).await;
    let home = Installation::new(None).await;
    let tenant = builders::tenant(&home.owner, "acme").await;
    let daemon = home.daemon(&home.configure(&config(peer.address, ""))).await;
    let odd: Vec<String> = (0..25).map(|n| format!("odd{n}@strict.example")).collect();
    home.submit(tenant, "bulk", &odd).await;
    home.drained(&daemon).await;

    let started = Instant::now();
    let unknown = loop {
        let unknown = facts(home.database(), &["replies", "unknown"]);
        if unknown[0]["count"].as_i64() == Some(25) {
            break unknown;
        }
        assert!(started.elapsed() < PATIENCE, "{unknown:#}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(unknown.as_array().map(Vec::len), Some(1), "{unknown:#}");
    assert_eq!(unknown[0]["shape"], "<address> was frobnicated, ticket <n>");
    assert_eq!((&unknown[0]["stage"], &unknown[0]["code"]), (&"rcpt".into(), &550.into()));
    assert!(!unknown.to_string().contains('@'), "{unknown:#}");
    let known = facts(home.database(), &["replies", "unknown", "--forget"]);
    assert_eq!(known["forgotten"], 1);
}
