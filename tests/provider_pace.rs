//! The pace of an account at a provider is learned from its throttling answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::builders;
use crate::support::command::facts;
use crate::support::http_peer::{Act, HttpPeer};
use crate::support::installation::Installation;
use crate::support::quota::Quota;
use postrider::domain::clock::Clock;
use serde_json::Value;

/// Longest wait for anything; only a broken program reaches it.
const PATIENCE: Duration = Duration::from_secs(90);

/// What a service answers.
#[derive(Clone, Copy)]
struct Service {
    /// Lines of its route beside the endpoint.
    route: &'static str,
    taken: fn() -> Act,
    refused: fn() -> Act,
    /// Of what it says when it refuses.
    words: &'static str,
}

const SES: Service = Service {
    route: "kind = \"ses\"\nregion = \"eu-west-1\"\naccess_key_id = \"AKIDEXAMPLE0000000\"\n",
    taken: || Act::json(200, r#"{"MessageId":"0100-x"}"#),
    refused: || {
        let body = r#"{"message":"Maximum sending rate exceeded."}"#;
        Act::json(429, body).with("x-amzn-errortype", "ThrottlingException")
    },
    words: "sending rate",
};

const SENDGRID: Service = Service {
    route: "kind = \"sendgrid\"\n",
    taken: || Act::json(202, "").with("x-message-id", "14c5d75ce93"),
    // As documented: the second in which requests are taken again.
    refused: || {
        let now = Clock::System.unix_seconds();
        let body = r#"{"errors":[{"field":null,"message":"too many requests"}]}"#;
        let act = Act::json(429, body).with("x-ratelimit-remaining", "0");
        act.with("x-ratelimit-reset", &(now + 1).to_string())
    },
    words: "too many requests",
};

const MAILGUN: Service = Service {
    route: "kind = \"mailgun\"\n",
    taken: || Act::json(200, r#"{"id":"<1@mg.example>","message":"Queued. Thank you."}"#),
    refused: || Act::json(429, r#"{"message":"Too many requests"}"#),
    words: "Too many requests",
};

fn pace(shown: &Value) -> Option<f64> {
    let paces = shown["paces"].as_array()?;
    paces.iter().find(|one| one["key"] == "route/account")?["rate"].as_f64()
}

/// Asks for what limits stand at until it is as wanted.
async fn shown(home: &Installation, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let started = Instant::now();
    loop {
        let shown = facts(home.database(), &["throttle", "show"]);
        if wanted(&shown) {
            return shown;
        }
        assert!(started.elapsed() < PATIENCE, "never {what}: {shown:#}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn settles_and_follows(service: Service) {
    let quota = Arc::new(Quota::new(20));
    let of_peer = Arc::clone(&quota);
    let peer =
        HttpPeer::start(
            move |_, _| {
                if of_peer.takes_one() { (service.taken)() } else { (service.refused)() }
            },
        )
        .await;
    let home = Installation::new(None).await;
    let tenant = builders::tenant(&home.owner, "acme").await;
    let folder = tempfile::tempdir().expect("a folder");
    let key = folder.path().join("key");
    std::fs::write(&key, "secret").expect("write");
    let more = format!(
        "[[route]]\nname = \"account\"\n{}key_file = \"{}\"\nendpoint = \"{}\"\n\
         [[rule]]\nroute = \"account\"\n[adaptive]\nwindow = \"1s\"\nprobe = \"4s\"\n",
        service.route,
        key.display(),
        peer.url()
    );
    let daemon = home.daemon(&home.configure(&more)).await;
    home.submit(tenant, "bulk", &builders::recipients(3_000, "example.org")).await;

    let in_force = shown(&home, "paced", |shown| pace(shown).is_some()).await;
    let one = &in_force["paces"][0];
    assert_eq!(one["rule"], "provider-throttled", "{one:#}");
    assert!(one["reply"].as_str().is_some_and(|reply| reply.contains(service.words)), "{one:#}");
    quota.has_taken(150).await;
    shown(&home, "settled", |shown| pace(shown).is_some_and(|rate| rate <= 22.0)).await;
    let before = quota.counts();
    quota.has_taken(before.0 + 300).await;
    let (taken, refused) = quota.counts();
    let (taken, refused) = (taken - before.0, refused - before.1);
    assert!(refused * 20 < taken, "{refused} refused beside {taken} taken");
    let settled = pace(&shown(&home, "paced", |_| true).await).expect("paced");
    assert!((12.0..=25.0).contains(&settled), "{settled}");

    quota.relent(2_000);
    shown(&home, "faster", |shown| pace(shown).is_some_and(|rate| rate > 60.0)).await;
    assert_eq!(builders::attempts(&home.owner, 2).await, 0, "nobody bounced");
    drop(daemon);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pace_at_ses_settles_below_what_the_account_may_and_follows_when_it_may_more() {
    settles_and_follows(SES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pace_at_sendgrid_settles_and_follows() {
    settles_and_follows(SENDGRID).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pace_at_mailgun_settles_and_follows() {
    settles_and_follows(MAILGUN).await;
}
