//! Promise: every panel of the dashboards shows something. A real Prometheus with the shipped
//! configuration and rules scrapes a daemon and an API at work, and answers every expression.

mod support;

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use postrider::sink::FaultMix;
use serde_json::{Value, json};
use support::builders;
use support::command::KEY;
use support::dashboards::{queries, shipped};
use support::installation::Installation;
use tempfile::TempDir;

/// Longest wait for anything here; only a broken program reaches it.
const PATIENCE: Duration = Duration::from_secs(120);

/// Ends a process with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The program, installed or unpacked by scripts/setup.sh.
fn prometheus() -> PathBuf {
    let target = PathBuf::from(env!("CARGO_BIN_EXE_postriderd"));
    let target = target.ancestors().nth(2).expect("a target folder").to_path_buf();
    [target.join("tools/usr/bin/prometheus"), PathBuf::from("/usr/bin/prometheus")]
        .into_iter()
        .find(|path| path.exists())
        .expect("there is no Prometheus: run make setup")
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("address")
}

/// Prometheus as shipped, but scraping these addresses every second.
fn start(
    program: &Path,
    folder: &TempDir,
    daemon: SocketAddr,
    api: SocketAddr,
) -> (Running, SocketAddr) {
    let shipped_config = fs::read_to_string(shipped("prometheus/prometheus.yml")).expect("read");
    assert!(shipped_config.contains("127.0.0.1:9025") && shipped_config.contains("127.0.0.1:9026"));
    let config = shipped_config
        .replace("127.0.0.1:9025", &daemon.to_string())
        .replace("127.0.0.1:9026", &api.to_string())
        .replace("15s", "1s");
    fs::write(folder.path().join("prometheus.yml"), config).expect("write");
    for rules in ["recording.rules.yml", "alerts.rules.yml"] {
        let from = shipped(&format!("prometheus/{rules}"));
        fs::copy(from, folder.path().join(rules)).expect("copy");
    }
    let listen = free_address();
    let child = Command::new(program)
        .arg(format!("--config.file={}", folder.path().join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
        .arg(format!("--web.listen-address={listen}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start Prometheus");
    (Running(child), listen)
}

/// What a query gives, as Prometheus says it.
async fn ask(prometheus: SocketAddr, query: &str) -> Result<Vec<Value>, String> {
    let mut url = reqwest::Url::parse(&format!("http://{prometheus}/api/v1/query")).expect("URL");
    url.query_pairs_mut().append_pair("query", query);
    let answer = reqwest::get(url).await.map_err(|error| error.to_string())?;
    let answer: Value = answer.json().await.map_err(|error| error.to_string())?;
    match answer["data"]["result"].as_array() {
        Some(series) => Ok(series.clone()),
        None => Err(answer.to_string()),
    }
}

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
    let _api = Running(
        Command::new(env!("CARGO_BIN_EXE_postrider-api"))
            .arg("--config")
            .arg(&config)
            .env("POSTRIDER_KEY", KEY)
            .stderr(Stdio::null())
            .spawn()
            .expect("start postrider-api"),
    );
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
