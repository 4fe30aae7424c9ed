//! Promise: every panel of the dashboards shows something. A real Prometheus with the shipped
//! configuration and rules scrapes a daemon and an API at work, and answers every expression.

use std::time::{Duration, Instant};

use crate::support::builders;
use crate::support::dashboards::queries;
use crate::support::installation::Installation;
use crate::support::ports::free_address;
use crate::support::prometheus::{api, ask, prometheus, start};
use postrider::sink::FaultMix;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Longest wait for anything here; only a broken program reaches it.
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_panel_shows_something() {
    let program = prometheus();
    let home = Installation::new(Some(FaultMix::of_everything(7))).await;
    let tenant = builders::tenant(&home.owner, "acme").await;
    // Something that is held back, whenever one looks.
    let held = builders::tenant(&home.owner, "held").await;
    let paused = home.postrider(&["queue", "pause", "--tenant", "held", "--reason", "on trial"]);
    assert_eq!(paused.code, 0, "{}", paused.err);
    builders::submit(&home.api, held, "held", "bulk", &builders::recipients(1, "example.org"))
        .await;
    let (listen, shows) = (free_address(), free_address());
    let config = home.configure(&format!(
        "[api]\nlisten = \"{listen}\"\n[telemetry]\napi_listen = \"{shows}\"\n\
         [[throttle]]\nscope = \"tenant\"\nrate = \"400/s\"\n"
    ));
    let daemon = home.daemon(&config).await;
    let _api = api(&config);
    let made = home.postrider(&["key", "create", "--tenant", "acme", "--json"]);
    let key: Value = serde_json::from_str(&made.out).expect("JSON");
    let key = key["key"].as_str().expect("a key").to_owned();
    let folder = TempDir::new().expect("folder");
    let (_prometheus, prometheus) = start(&program, &folder, daemon.probes(), shows);

    let client = reqwest::Client::new();
    let begun = Instant::now();
    let mut waiting = queries();
    let mut last = Vec::new();
    let mut turn = 0;
    while !waiting.is_empty() {
        let left: Vec<&str> = waiting.iter().map(|query| &*query.of).collect();
        assert!(begun.elapsed() < PATIENCE, "nothing is shown by {left:#?}\n{last:#?}");
        // Something to look at, of both streams.
        turn += 1;
        let to: Vec<Value> =
            (0..40).map(|n| json!({"to": format!("r{turn}-{n}@example.org")})).collect();
        let message = json!({"from": "a@acme.example", "subject": "s", "text": "t",
            "stream": if turn % 2 == 0 { "bulk" } else { "transactional" }, "recipients": to});
        // Refused while it starts; asked again with the next turn.
        let _answer = client
            .post(format!("http://{listen}/v1/messages"))
            .bearer_auth(&key)
            .json(&message)
            .send()
            .await;
        home.submit(tenant, "bulk", &builders::recipients(50, &format!("d{turn}.example.net")))
            .await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        last.clear();
        let mut still = Vec::new();
        for query in waiting {
            match ask(prometheus, &query.text).await {
                Ok(series) if !series.is_empty() => {}
                Ok(_) => still.push(query),
                Err(error) => {
                    last.push(format!("{}: {error}", query.of));
                    still.push(query);
                }
            }
        }
        waiting = still;
    }
    // The rules were taken, and nothing of a healthy run wakes anybody.
    let pages = ask(prometheus, r#"ALERTS{alertstate="firing",severity="page"}"#).await;
    assert_eq!(pages.expect("an answer"), Vec::<Value>::new());
}
