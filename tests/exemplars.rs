//! Promise: a value on a panel leads to a trace. A real Prometheus that scrapes a daemon and an API
//! keeps exemplars of both.

use std::time::{Duration, Instant};

use crate::support::builders;
use crate::support::installation::Installation;
use crate::support::ports::free_address;
use crate::support::prometheus::{api, ask, exemplars, prometheus, start};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Longest wait for anything here; only a broken program reaches it.
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_trace_is_an_exemplar_in_prometheus() {
    let program = prometheus();
    let home = Installation::new(None).await;
    builders::tenant(&home.owner, "acme").await;
    let (listen, shows, nobody) = (free_address(), free_address(), free_address());
    let config = home.configure(&format!(
        "[api]\nlisten = \"{listen}\"\n[telemetry]\napi_listen = \"{shows}\"\n\
         [traces]\nendpoint = \"http://{nobody}/v1/traces\"\nratio = 1.0\n"
    ));
    let daemon = home.daemon(&config).await;
    let _api = api(&config);
    let made = home.postrider(&["key", "create", "--tenant", "acme", "--json"]);
    let key: Value = serde_json::from_str(&made.out).expect("JSON");
    let key = key["key"].as_str().expect("a key").to_owned();
    let folder = TempDir::new().expect("folder");
    let (_prometheus, prometheus) = start(&program, &folder, daemon.probes(), shows);

    let message = json!({"from": "a@acme.example", "subject": "s", "text": "t",
        "recipients": [{"to": "ann@example.org"}]});
    let client = reqwest::Client::new();
    let begun = Instant::now();
    let mut missing =
        vec!["postrider_delivery_seconds_bucket", "postrider_api_request_seconds_bucket"];
    while !missing.is_empty() {
        assert!(begun.elapsed() < PATIENCE, "no exemplars of {missing:?}");
        // Refused while it starts; asked again with the next turn.
        let _answer = client
            .post(format!("http://{listen}/v1/messages"))
            .bearer_auth(&key)
            .json(&message)
            .send()
            .await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let mut still = Vec::new();
        for name in missing {
            let kept = exemplars(prometheus, name).await.unwrap_or_default();
            if kept.is_empty() {
                still.push(name);
            }
            for one in kept {
                let trace = one["labels"]["trace_id"].as_str().expect("a trace");
                assert!(trace.len() == 32 && trace.bytes().all(|b| b.is_ascii_hexdigit()), "{one}");
            }
        }
        missing = still;
    }
    // Names of counters are the same in both formats.
    let counted = ask(prometheus, "postrider_deliveries_total").await.expect("an answer");
    assert!(!counted.is_empty());
}
