//! A real Prometheus with the shipped configuration and rules.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::command::KEY;
use super::dashboards::shipped;
use super::ports::free_address;

/// Ends a process with the test.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The program, installed or unpacked by scripts/setup.sh.
pub fn prometheus() -> PathBuf {
    let target = PathBuf::from(env!("CARGO_BIN_EXE_postriderd"));
    let target = target.ancestors().nth(2).expect("a target folder").to_path_buf();
    [target.join("tools/usr/bin/prometheus"), PathBuf::from("/usr/bin/prometheus")]
        .into_iter()
        .find(|path| path.exists())
        .expect("there is no Prometheus: run make setup")
}

/// `postrider-api` with this configuration, whose addresses it names. It is not ready yet.
pub fn api(config: &Path) -> Running {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postrider-api"));
    command.arg("--config").arg(config).env("POSTRIDER_KEY", KEY).stderr(Stdio::null());
    Running(command.spawn().expect("start postrider-api"))
}

/// Prometheus as shipped, but scraping these addresses every second.
pub fn start(
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
        .arg("--enable-feature=exemplar-storage")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start Prometheus");
    (Running(child), listen)
}

/// What a query gives, as Prometheus says it.
pub async fn ask(prometheus: SocketAddr, query: &str) -> Result<Vec<Value>, String> {
    let answer = answer(prometheus, "query", &[("query", query)]).await?;
    match answer["data"]["result"].as_array() {
        Some(series) => Ok(series.clone()),
        None => Err(answer.to_string()),
    }
}

/// The exemplars of the series of a query, of the last minutes.
pub async fn exemplars(prometheus: SocketAddr, query: &str) -> Result<Vec<Value>, String> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.expect("after 1970").as_secs();
    let (start, end) = ((now - 600).to_string(), (now + 60).to_string());
    let asked = [("query", query), ("start", &start), ("end", &end)];
    let answer = answer(prometheus, "query_exemplars", &asked).await?;
    let series = answer["data"].as_array().ok_or_else(|| answer.to_string())?;
    Ok(series.iter().filter_map(|one| one["exemplars"].as_array()).flatten().cloned().collect())
}

async fn answer(
    prometheus: SocketAddr,
    what: &str,
    asked: &[(&str, &str)],
) -> Result<Value, String> {
    let mut url = reqwest::Url::parse(&format!("http://{prometheus}/api/v1/{what}")).expect("URL");
    url.query_pairs_mut().extend_pairs(asked);
    let answer = reqwest::get(url).await.map_err(|error| error.to_string())?;
    answer.json().await.map_err(|error| error.to_string())
}
