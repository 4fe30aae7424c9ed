//! Routes to providers in a whole daemon: shares, fail-over, and what the history keeps.

#![allow(clippy::float_cmp, reason = "counters hold whole numbers")]

use std::collections::HashSet;

use postrider::domain::ids::DeliveryId;

use crate::support::accounts::{Accounts, RETRY, asked, queued};
use crate::support::builders::{attempts, rows};
use crate::support::http_peer::{Act, HttpPeer};

#[tokio::test]
async fn the_history_keeps_the_providers_id_and_the_mail_names_its_delivery() {
    let providers = Accounts::new().await;
    let peer = HttpPeer::always(queued()).await;
    let routes = [providers.route("mg", &peer.url(), "")];
    let daemon = providers.daemon(&routes, "route = \"mg\"", "").await;
    providers.submit(1).await;
    providers.installation.drained(&daemon).await;
    let (job, code, detail): (i64, i16, serde_json::Value) =
        sqlx::query_as("select job_id, code, detail from postrider.attempt where kind = 1")
            .fetch_one(providers.owner())
            .await
            .expect("one attempt");
    assert_eq!(code, 200);
    assert_eq!(detail["provider_id"], "1@mg.example");
    assert_eq!((&detail["route"], &detail["host"]), (&"mg".into(), &"127.0.0.1".into()));
    assert_eq!(detail["source"], serde_json::Value::Null);
    let body = String::from_utf8_lossy(&peer.request().body).into_owned();
    assert!(body.contains(&DeliveryId::new(job).to_string()), "the delivery is named");
    assert_eq!(
        daemon
            .metric("postrider_provider_requests_total{provider=\"mailgun\",result=\"2xx\"}")
            .await,
        1.0
    );
}

#[tokio::test]
async fn a_rule_divides_its_mail_by_weight() {
    let providers = Accounts::new().await;
    let (one, two) = (HttpPeer::always(queued()).await, HttpPeer::always(queued()).await);
    let routes = [providers.route("one", &one.url(), ""), providers.route("two", &two.url(), "")];
    let split = "split = [{ route = \"one\", weight = 3 }, { route = \"two\", weight = 1 }]";
    let daemon = providers.daemon(&routes, split, "").await;
    let all = providers.submit(400).await;
    providers.installation.drained(&daemon).await;
    let (first, second) = (asked(&one), asked(&two));
    assert!((240..=360).contains(&first.len()), "three quarters: {}", first.len());
    assert_eq!(first.len() + second.len(), 400);
    assert_eq!(first.into_iter().chain(second).collect::<HashSet<_>>(), all);
}

#[tokio::test]
async fn a_used_up_allowance_sends_the_rest_by_the_fallback_and_nothing_twice() {
    let providers = Accounts::new().await;
    let first = HttpPeer::start(|n, _| {
        if n < 20 { queued() } else { Act::json(402, r#"{"message":"Payment required"}"#) }
    })
    .await;
    let second = HttpPeer::always(queued()).await;
    let routes = [
        providers.route("first", &first.url(), "fallback = \"second\""),
        providers.route("second", &second.url(), ""),
    ];
    let daemon = providers.daemon(&routes, "route = \"first\"", "").await;
    let all = providers.submit(200).await;
    providers.installation.drained(&daemon).await;
    let taken: Vec<String> = asked(&first).into_iter().take(20).chain(asked(&second)).collect();
    assert_eq!(taken.len(), 200, "each once");
    assert_eq!(taken.into_iter().collect::<HashSet<_>>(), all);
    assert_eq!(attempts(providers.owner(), 1).await, 200);
    assert_eq!(attempts(providers.owner(), 7).await, 0, "no attempt was spent on it");
    let out = "postrider_route_out{route=\"first\",reason=\"quota\"}";
    assert_eq!(daemon.metric(out).await, 1.0, "{}", daemon.metrics().await);
}

#[tokio::test]
async fn a_provider_that_cannot_be_reached_is_left_alone() {
    let providers = Accounts::new().await;
    let dead = crate::support::letters::dead_address().await;
    let second = HttpPeer::always(queued()).await;
    let routes = [
        providers.route("first", &format!("http://{dead}"), "fallback = \"second\""),
        providers.route("second", &second.url(), ""),
    ];
    let daemon = providers.daemon(&routes, "route = \"first\"", RETRY).await;
    let all = providers.submit(300).await;
    providers.installation.drained(&daemon).await;
    assert_eq!(asked(&second).into_iter().collect::<HashSet<_>>(), all);
    assert_eq!(asked(&second).len(), 300);
    let outs = "postrider_route_outs_total{route=\"first\",reason=\"breaker\"}";
    assert!(daemon.metric(outs).await >= 1.0);
}

#[tokio::test]
async fn a_refused_login_bounces_nobody_and_a_good_key_lets_all_go() {
    let providers = Accounts::new().await;
    let peer = HttpPeer::start(|_, request| {
        // api:good
        match request.header("authorization") {
            "Basic YXBpOmdvb2Q=" => queued(),
            _ => Act::Answer(401, Vec::new(), "Forbidden".into()),
        }
    })
    .await;
    let routes = [providers.route("mg", &peer.url(), "")];
    let daemon = providers.daemon(&routes, "route = \"mg\"", RETRY).await;
    providers.submit(30).await;
    let outs = "postrider_route_outs_total{route=\"mg\",reason=\"login\"}";
    daemon.metric_reaches(outs, 1.0).await;
    assert_eq!(attempts(providers.owner(), 2).await, 0, "nobody bounced");
    providers.key("good");
    daemon.signal("HUP");
    providers.installation.drained(&daemon).await;
    assert_eq!(attempts(providers.owner(), 1).await, 30);
    assert_eq!(attempts(providers.owner(), 2).await, 0);
    assert_eq!(rows(providers.owner(), "dead_letter").await, 0);
}

#[tokio::test]
async fn what_is_in_doubt_is_never_handed_to_another_route() {
    let providers = Accounts::new().await;
    let first = HttpPeer::always(Act::CutAfterRequest).await;
    let second = HttpPeer::always(queued()).await;
    let routes = [
        providers.route("first", &first.url(), "fallback = \"second\""),
        providers.route("second", &second.url(), ""),
    ];
    let hold = "[stream.bulk]\nin_doubt = \"hold\"\n";
    let daemon = providers.daemon(&routes, "route = \"first\"", hold).await;
    // Fewer than open the breaker.
    let all = providers.submit(3).await;
    providers.installation.drained(&daemon).await;
    assert_eq!(asked(&first).into_iter().collect::<HashSet<_>>(), all);
    assert_eq!(asked(&first).len(), 3, "and none was repeated");
    assert!(second.requests().is_empty());
    assert_eq!(rows(providers.owner(), "dead_letter").await, 3);
}
