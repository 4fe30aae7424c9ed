//! Promises: one trace leads from a request through the queue to each attempt of a delivery, and
//! on to each request that tells an endpoint of it, is found from the log and from
//! `postrider why`, and is told in OTLP; a receiver that is away costs spans and nothing else.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::builders;
use crate::support::command::{bare, ran};
use crate::support::companion::Companion;
use crate::support::hook::Hook;
use crate::support::installation::Installation;
use crate::support::otlp::{Receiver, Told, page};
use crate::support::smtp_peer::{Act, Certificate, Script};
use serde_json::json;

/// The trace of a caller.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

fn message(to: &str) -> serde_json::Value {
    json!({"from": "me@acme.example", "subject": "Hi", "text": "Hello", "recipients": [{"to": to}]})
}

fn named<'t>(told: &'t [Told], name: &str) -> Vec<&'t Told> {
    told.iter().filter(|told| told.span.name == name).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_trace_leads_from_the_request_to_each_attempt() {
    let receiver = Receiver::start().await;
    let home = Installation::new(None).await;
    let peer = Script::with_tls(&Certificate::for_name("mx.example.net"))
        .once("RCPT", Act::reply("451 4.7.1 <ann@example.org>: please come back"))
        .start()
        .await;
    let tenant = builders::tenant(&home.owner, "acme").await;
    let config = home.configure(&format!(
        r#"
[stream.transactional]
retry = {{ first = "1s", factor = 1.0, cap = "1s" }}

[[route]]
name = "scripted"
kind = "relay"
host = "127.0.0.1"
port = {}
tls = "required"

[[rule]]
tenant = "acme"
route = "scripted"

[traces]
endpoint = "{}"
ratio = 0.0
trouble_ratio = 0.0
interval = "100ms"

[log]
format = "json"
"#,
        peer.address.port(),
        receiver.endpoint(),
    ));
    let daemon = home.daemon(&config).await;
    let api = Companion::start(&config).await;
    let key = Companion::key(&home.owner, tenant).await;
    let header = format!("00-{TRACE}-{CALLER}-01");
    let traced = [("traceparent", header.as_str())];
    let answer = api.submit(&key, &message("ann@example.org"), &traced).await;
    let id = answer["id"].as_str().expect("an id").to_owned();
    home.drained(&daemon).await;

    let told = receiver.has(5).await;
    println!("{}", page(&told));
    assert_eq!(told.len(), 5);
    assert!(told.iter().all(|told| told.trace() == TRACE));
    let request = named(&told, "POST /v1/messages");
    let [request] = &request[..] else { panic!("one request") };
    assert_eq!((request.service.as_str(), request.parent().as_str()), ("postrider-api", CALLER));
    assert_eq!(request.fact("postrider.message"), id);
    assert_eq!(request.fact("http.response.status_code"), "202");
    let (waits, attempts) = (named(&told, "queue wait"), named(&told, "attempt"));
    let [first, second] = &attempts[..] else { panic!("two attempts") };
    assert_eq!(waits.len(), 2);
    assert!(
        told.iter()
            .filter(|one| one.id() != request.id())
            .all(|one| { one.parent() == request.id() && one.service == "postriderd" })
    );
    assert_eq!(first.fact("postrider.outcome"), "refused");
    assert_eq!(first.fact("postrider.stage"), "rcpt");
    assert_eq!(first.fact("postrider.reply_code"), "451");
    assert_eq!(first.fact("postrider.attempt"), "1");
    assert!(first.span.links.is_empty());
    assert_eq!(second.fact("postrider.outcome"), "delivered");
    assert_eq!(second.fact("postrider.attempt"), "2");
    assert_eq!(second.fact("postrider.mailbox_provider"), "other");
    assert_eq!(second.fact("server.address"), "127.0.0.1");
    assert!(second.fact("postrider.tls").starts_with("TLS"), "{}", page(&told));
    let follows = &second.span.links[0].span_id;
    assert_eq!(follows, &first.span.span_id);
    let events = second.events();
    for passed in
        ["rendered", "planned", "admitted", "intended", "mail", "rcpt", "body_sent", "dot"]
    {
        assert!(events.contains(&passed), "{passed}: {events:?}");
    }
    let opened: Vec<&str> = told.iter().flat_map(Told::events).collect();
    assert!(opened.contains(&"connected") && opened.contains(&"encrypted"), "{opened:?}");
    for one in &told {
        let (began, ended) = (one.span.start_time_unix_nano, one.span.end_time_unix_nano);
        assert!(began <= ended, "{one:?}");
        assert!(one.span.events.iter().all(|event| event.time_unix_nano <= ended), "{one:?}");
    }
    assert!(waits[1].span.end_time_unix_nano <= second.span.end_time_unix_nano);
    assert!(!page(&told).contains("ann@"), "no recipient is told");

    // From the log to the trace, and from the delivery.
    let line = daemon
        .words()
        .lines()
        .find(|line| line.contains("\"refused\"") && line.contains(TRACE))
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"))
        .expect("the refusal's line names the trace");
    assert_eq!(line["span_id"], first.id());
    assert!(api.words().contains(TRACE));
    let config = config.to_str().expect("UTF-8");
    for verb in [vec!["why", id.as_str()], vec!["queue", "show", id.as_str()]] {
        let shown = ran(&bare(&[&verb[..], &["--config", config]].concat()).output().expect("run"));
        assert!(shown.out.contains(TRACE), "{verb:?}: {}{}", shown.out, shown.err);
    }

    // Only what its caller keeps is kept here.
    api.submit(&key, &message("unseen@example.org"), &[]).await;
    home.drained(&daemon).await;
    assert_eq!(daemon.terminate().await, Some(0));
    assert_eq!(receiver.spans().len(), 5, "{}", page(&receiver.spans()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trouble_is_kept_at_its_own_share_and_a_reload_applies() {
    let receiver = Receiver::start().await;
    let home = Installation::new(None).await;
    let tenant = builders::tenant(&home.owner, "acme").await;
    let config = home.configure("");
    let daemon = home.daemon(&config).await;
    home.submit(tenant, "bulk", &builders::recipients(20, "example.org")).await;
    home.drained(&daemon).await;

    let traces = |ratio: f64| {
        let endpoint = receiver.endpoint();
        home.configure(&format!(
            "[traces]\nendpoint = \"{endpoint}\"\nratio = {ratio:?}\ntrouble_ratio = 1.0\ninterval = \"100ms\"\n"
        ));
        daemon.signal("HUP");
    };
    traces(0.0);
    daemon.metric_reaches("postrider_config_reloads_total{outcome=\"applied\"}", 1.0).await;
    // Nothing is wrong with these, so nothing is kept.
    home.submit(tenant, "bulk", &builders::recipients(20, "example.org")).await;
    home.drained(&daemon).await;
    traces(1.0);
    daemon.metric_reaches("postrider_config_reloads_total{outcome=\"applied\"}", 2.0).await;
    let sent = home.submit(tenant, "bulk", &builders::recipients(20, "example.org")).await;
    home.drained(&daemon).await;

    let told = receiver.has(40).await;
    assert_eq!(told.len(), 40);
    // Submitted without a request that brought a trace: the message has its own.
    let own = postrider::domain::trace::TraceId::of(sent).to_string();
    assert!(told.iter().all(|told| told.trace() == own));
    daemon.metric_reaches("postrider_trace_spans_total{result=\"exported\"}", 40.0).await;
    let dropped = daemon.metric("postrider_trace_spans_total{result=\"dropped\"}").await;
    assert!(dropped < 0.5, "{dropped} were dropped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_does_not_answer_costs_spans_and_nothing_else() {
    // Takes connections and says nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback has ports");
    let home = Installation::new(None).await;
    let tenant = builders::tenant(&home.owner, "acme").await;
    let config = home.configure(&format!(
        "[traces]\nendpoint = \"http://{}/v1/traces\"\nratio = 1.0\nbuffer = 64\ninterval = \"100ms\"\ntimeout = \"500ms\"\n",
        silent.local_addr().expect("it is bound")
    ));
    let daemon = home.daemon(&config).await;
    home.submit(tenant, "bulk", &builders::recipients(2_000, "example.org")).await;
    home.drained(&daemon).await;
    assert_eq!(home.sink.stats().accepted, 2_000);
    daemon.metric_reaches("postrider_trace_spans_total{result=\"dropped\"}", 1.0).await;
    daemon.metric_reaches("postrider_trace_spans_total{result=\"failed\"}", 1.0).await;
    let counted = async |result: &str| {
        daemon.metric(&format!("postrider_trace_spans_total{{result=\"{result}\"}}")).await
    };
    assert!(counted("exported").await < 0.5);
    let told = "the receiver of traces does not take them";
    assert_eq!(daemon.words().matches(told).count(), 1, "said once: {}", daemon.words());
    assert_eq!(daemon.terminate().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_endpoint_is_told_belongs_to_the_attempt_that_it_is_about() {
    let receiver = Receiver::start().await;
    let home = Installation::new(None).await;
    let tenant = builders::tenant(&home.owner, "acme").await;
    let config = home.configure(&format!(
        "[webhook]\nallow_http = true\nallow_private_addresses = true\nfirst_retry = \"100ms\"\n\
         poll_interval = \"100ms\"\n\
         [traces]\nendpoint = \"{}\"\nratio = 0.0\ntrouble_ratio = 0.0\ninterval = \"100ms\"\n",
        receiver.endpoint()
    ));
    let daemon = home.daemon(&config).await;
    let api = Companion::start(&config).await;
    let key = Companion::key(&home.owner, tenant).await;
    let client = reqwest::Client::new();
    let ask = async |path: &str, body: serde_json::Value| -> serde_json::Value {
        let url = format!("{}/v1/webhooks{path}", api.url());
        let asked = client.post(url).bearer_auth(key.reveal()).json(&body).send().await;
        let answer = asked.expect("ask");
        assert!(answer.status().is_success(), "{:?}", answer.text().await);
        answer.json().await.expect("JSON")
    };
    // One event at a time; the first is not taken at once.
    let asked_of_ann = AtomicUsize::new(0);
    let one = Hook::answering(move |events, _| {
        let of_ann = events.iter().any(|event| event["data"]["to"] == "ann@example.org");
        if of_ann && asked_of_ann.fetch_add(1, Ordering::Relaxed) == 0 { 503 } else { 204 }
    })
    .await;
    let url = format!("{}?token=hidden", one.url());
    let made = ask("", json!({"url": url, "types": ["delivered"]})).await;
    let header = format!("00-{TRACE}-{CALLER}-01");
    api.submit(&key, &message("ann@example.org"), &[("traceparent", &header)]).await;
    // Nobody keeps this one.
    api.submit(&key, &message("bob@example.org"), &[]).await;
    one.until("both events", |hook| hook.taken().len() == 2).await;

    let told = receiver.has(5).await;
    println!("{}", page(&told));
    let attempts = named(&told, "attempt");
    let [attempt] = &attempts[..] else { panic!("one attempt is kept") };
    let requests = named(&told, "webhook");
    let [refused, taken] = &requests[..] else { panic!("two requests about it") };
    for request in &requests {
        assert_eq!((request.trace().as_str(), request.parent()), (TRACE, attempt.id()));
        assert_eq!(request.service, "postriderd");
        assert_eq!(request.fact("postrider.webhook"), made["id"].as_str().expect("an id"));
        assert_eq!(request.fact("postrider.event"), "delivered");
        assert_eq!(request.fact("postrider.delivery"), attempt.fact("postrider.delivery"));
        assert_eq!(request.fact("postrider.events"), "1");
        assert!(request.span.links.is_empty());
    }
    assert_eq!(refused.fact("http.response.status_code"), "503");
    assert!(refused.span.status.as_ref().is_some_and(|status| status.code == 2));
    assert_eq!(taken.fact("http.response.status_code"), "204");
    assert!(taken.span.status.is_none());
    assert!(!page(&told).contains("hidden"), "nothing of the URL is told");

    // Several in one request: each in its trace, and linked to the others.
    let other = format!("00-{}-{CALLER}-01", TRACE.replace('4', "5"));
    api.submit(&key, &message("cid@example.org"), &[("traceparent", &other)]).await;
    one.until("the third event", |hook| hook.taken().len() == 3).await;
    let batches = Hook::new().await;
    let made = ask("", json!({"url": batches.url(), "types": ["delivered"], "batch": 100})).await;
    let replay = format!("/{}/replay", made["id"].as_str().expect("an id"));
    ask(&replay, json!({"since": "2026-01-01T00:00:00Z"})).await;
    batches.until("all of them", |hook| hook.taken().len() == 3).await;
    let told = receiver.has(5 + 4 + 2).await;
    let of_batch: Vec<_> = named(&told, "webhook")
        .into_iter()
        .filter(|request| request.fact("postrider.events") == "3")
        .collect();
    let [first, second] = &of_batch[..] else { panic!("{}", page(&told)) };
    assert_ne!(first.trace(), second.trace());
    assert_eq!(first.span.links[0].span_id, second.span.span_id);
    assert_eq!(second.span.links[0].span_id, first.span.span_id);
    assert_eq!(daemon.terminate().await, Some(0));
}
