//! A whole small installation: a database, a sink, and daemons as real processes.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use postrider::domain::ids::MessageId;
use postrider::sink::{FaultMix, Options, Sink};
use sqlx::PgPool;
use tempfile::TempDir;

use super::builders;
use super::command::{self, Ran};
use super::ports::free_address;
use super::postgres::{Role, TestDb};

/// Longest wait for anything in these tests; only a broken program reaches it.
const PATIENCE: Duration = Duration::from_secs(90);

/// Everything a daemon needs around it.
pub struct Installation {
    url: String,
    /// Dropped with the installation; none when the database is the test's own.
    db: Option<TestDb>,
    pub owner: PgPool,
    pub api: PgPool,
    pub sink: Sink,
    folder: TempDir,
}

impl Installation {
    /// A database of the shared test server, and a sink with `faults`.
    pub async fn new(faults: Option<FaultMix>) -> Self {
        let db = TestDb::new().await;
        let (owner, api) = (db.pool(Role::Owner).await, db.pool(Role::Api).await);
        Self::over(db.url(), Some(db), owner, api, faults).await
    }

    /// The same on a migrated database of the test's own.
    pub async fn on(url: String) -> Self {
        let owner = PgPool::connect(&url).await.expect("connect");
        Self::over(url, None, owner.clone(), owner, None).await
    }

    async fn over(
        url: String,
        db: Option<TestDb>,
        owner: PgPool,
        api: PgPool,
        faults: Option<FaultMix>,
    ) -> Self {
        let sink = Sink::start(Options { faults, keep: 50_000, ..Options::default() })
            .await
            .expect("start the sink");
        let folder = TempDir::new().expect("make a folder");
        Self { url, db, owner, api, sink, folder }
    }

    /// Its database of the shared test server.
    pub fn database(&self) -> &TestDb {
        self.db.as_ref().expect("a database of the shared server")
    }

    /// Writes the configuration: everything goes to the sink; `more` is added to it.
    pub fn configure(&self, more: &str) -> PathBuf {
        self.configure_worker("", more)
    }

    /// The same with other keys in `[worker]`.
    pub fn configure_worker(&self, worker: &str, more: &str) -> PathBuf {
        let path = self.folder.path().join("postrider.toml");
        let text = format!(
            r#"
[database]
url = "{url}"

[queue]
beat_interval = "200ms"
session_ttl = "4s"
rescue_delay = "500ms"

[worker]
shutdown_deadline = "4s"
{worker}

[[source]]
name = "default"
ehlo = "sender.example.org"

[[route]]
name = "sink"
kind = "relay"
host = "127.0.0.1"
port = {port}
tls = "none"
max_connections_per_host = 50

{more}
"#,
            url = self.url,
            port = self.sink.smtp().port(),
        );
        fs::write(&path, text).expect("write the configuration");
        path
    }

    /// Starts a daemon and waits until it is ready.
    pub async fn daemon(&self, config: &PathBuf) -> Daemon {
        let mut daemon = self.start(config);
        let started = Instant::now();
        while !daemon.answers("readyz").await {
            if let Some(status) = daemon.child.try_wait().expect("ask for the child") {
                panic!("postriderd ended with {status}:\n{}", daemon.words());
            }
            assert!(started.elapsed() < PATIENCE, "never ready:\n{}", daemon.words());
            pause().await;
        }
        daemon
    }

    /// Starts a daemon.
    pub fn start(&self, config: &PathBuf) -> Daemon {
        self.launch(config, &[])
    }

    /// Starts a daemon with these variables in its environment and does not wait for it.
    pub fn launch(&self, config: &PathBuf, variables: &[(&str, &str)]) -> Daemon {
        let probes = free_address();
        let log = fs::File::create(self.folder.path().join(format!("{}.log", probes.port())))
            .expect("make a log");
        let child = Command::new(env!("CARGO_BIN_EXE_postriderd"))
            .arg("--config")
            .arg(config)
            .env("POSTRIDER__TELEMETRY__LISTEN", probes.to_string())
            .env("POSTRIDER_KEY", command::KEY)
            // A test says itself when a file that it wrote is to be read.
            .env("POSTRIDER__RELOAD__WATCH_FILE", "false")
            .envs(variables.iter().copied())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("start postriderd");
        let log = self.folder.path().join(format!("{}.log", probes.port()));
        Daemon { child, probes, log }
    }

    /// A message of tenant `acme` to `to`.
    pub async fn submit(&self, tenant: i64, stream: &str, to: &[String]) -> MessageId {
        builders::submit(&self.api, tenant, "acme", stream, to).await
    }

    /// Runs the operator's tool on this installation.
    pub fn postrider(&self, args: &[&str]) -> Ran {
        command::ran(&command::command(&self.url, args).output().expect("run postrider"))
    }

    /// Waits until nothing waits any more.
    pub async fn drained(&self, daemon: &Daemon) {
        self.drained_as_seen_by(&self.owner, daemon).await;
    }

    /// The same over other connections.
    pub async fn drained_as_seen_by(&self, owner: &PgPool, daemon: &Daemon) {
        let started = Instant::now();
        while waiting(owner).await > 0 {
            let left = waiting(owner).await;
            assert!(started.elapsed() < PATIENCE, "{left} still wait:\n{}", daemon.words());
            pause().await;
        }
    }

    /// Waits until the daemon has ended by itself (true) or nothing waits any more.
    #[cfg(feature = "failpoints")]
    pub async fn killed_or_drained(&self, daemon: &mut Daemon) -> bool {
        let started = Instant::now();
        loop {
            if daemon.child.try_wait().expect("ask for the child").is_some() {
                return true;
            }
            if waiting(&self.owner).await == 0 {
                return false;
            }
            assert!(started.elapsed() < PATIENCE, "neither:\n{}", daemon.words());
            pause().await;
        }
    }

    /// Waits until `n` deliveries reached the sink.
    pub async fn sink_has(&self, n: u64) {
        let started = Instant::now();
        while self.sink.stats().accepted < n {
            assert!(started.elapsed() < PATIENCE, "{:?}", self.sink.stats().accepted);
            pause().await;
        }
    }
}

/// Rows in ready, lease and deferred, in one snapshot: rows move between them.
async fn waiting(owner: &PgPool) -> i64 {
    sqlx::query_scalar(
        "select (select count(*) from postrider.ready) + (select count(*) from postrider.lease)
              + (select count(*) from postrider.deferred)",
    )
    .fetch_one(owner)
    .await
    .expect("count")
}

/// A running postriderd. Killed when dropped.
pub struct Daemon {
    child: Child,
    probes: SocketAddr,
    log: PathBuf,
}

impl Daemon {
    /// Sends a signal by name, such as `HUP`.
    pub fn signal(&self, name: &str) {
        let done = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.child.id().to_string())
            .status()
            .expect("run kill");
        assert!(done.success());
    }

    /// Where it shows itself.
    pub fn probes(&self) -> SocketAddr {
        self.probes
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("reap");
    }

    /// SIGTERM, and waits for the end; the exit code.
    pub async fn terminate(mut self) -> Option<i32> {
        self.signal("TERM");
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("ask for the child") {
                return status.code();
            }
            assert!(started.elapsed() < PATIENCE, "does not stop:\n{}", self.words());
            pause().await;
        }
    }

    /// Waits until it has ended by itself.
    pub async fn ended(&mut self) {
        let started = Instant::now();
        while self.child.try_wait().expect("ask for the child").is_none() {
            assert!(started.elapsed() < PATIENCE, "does not end:\n{}", self.words());
            pause().await;
        }
    }

    /// The text of `/metrics`.
    pub async fn metrics(&self) -> String {
        let url = format!("http://{}/metrics", self.probes);
        reqwest::get(url).await.expect("ask").text().await.expect("text")
    }

    /// The answer of `/scale`; null while there is none.
    pub async fn scale(&self) -> serde_json::Value {
        let url = format!("http://{}/scale", self.probes);
        let answer = reqwest::get(url).await.expect("ask");
        if !answer.status().is_success() {
            return serde_json::Value::Null;
        }
        answer.json().await.expect("JSON")
    }

    /// Asks `/scale` until it is as wanted.
    pub async fn scale_becomes(
        &self,
        what: &str,
        wanted: impl Fn(&serde_json::Value) -> bool,
    ) -> serde_json::Value {
        let started = Instant::now();
        loop {
            let scale = self.scale().await;
            if wanted(&scale) {
                return scale;
            }
            assert!(started.elapsed() < PATIENCE, "never {what}: {scale:#}\n{}", self.words());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The value of one series of `/metrics`, 0 if it is not there.
    pub async fn metric(&self, series: &str) -> f64 {
        let text = self.metrics().await;
        text.lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
            .unwrap_or(0.0)
    }

    /// Waits until it shows itself and counts this.
    pub async fn metric_appears(&self, name: &str) {
        let started = Instant::now();
        loop {
            let answer = reqwest::get(format!("http://{}/metrics", self.probes)).await;
            if let Ok(answer) = answer
                && answer.text().await.is_ok_and(|text| text.contains(name))
            {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "{name}:\n{}", self.words());
            pause().await;
        }
    }

    /// Waits until a series has at least this value.
    pub async fn metric_reaches(&self, series: &str, value: f64) {
        let started = Instant::now();
        while self.metric(series).await < value {
            assert!(started.elapsed() < PATIENCE, "{series}:\n{}", self.words());
            pause().await;
        }
    }

    /// What it logged.
    pub fn words(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// What `/readyz` says, whether it is ready or not.
    pub async fn readiness(&self) -> String {
        let url = format!("http://{}/readyz", self.probes);
        match reqwest::get(url).await {
            Ok(answer) => answer.text().await.unwrap_or_default(),
            Err(_) => String::new(),
        }
    }

    async fn answers(&self, path: &str) -> bool {
        let url = format!("http://{}/{path}", self.probes);
        reqwest::get(url).await.is_ok_and(|answer| answer.status().is_success())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Ended already, or a test failed: nothing to be done about an error here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Other processes give no signal to wait for, so their state is asked for in this rhythm.
async fn pause() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}
