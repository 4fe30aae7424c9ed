//! An installation over two clusters: the home cell `main` (0) and the cell `b` (1).

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::{Method, StatusCode};
use postrider::api::{self, Api};
use postrider::boot::{self, Role};
use postrider::cell::Cell;
use postrider::cli::dev::binaries::Binaries;
use postrider::cli::dev::cluster::{Cluster, Durability};
use postrider::config::load::load;
use postrider::domain::clock::Clock;
use postrider::tenant::key::ApiKey;
use serde_json::Value;
use sqlx::{Connection, PgConnection, PgPool};
use tempfile::TempDir;
use tokio::sync::watch;
use tower::ServiceExt;

use super::api::request;
use super::builders;
use super::command::{self, Ran};
use super::installation::Installation;

/// Only a broken program reaches it.
const PATIENCE: Duration = Duration::from_secs(90);

/// Both clusters, migrated, and what is over them.
pub struct TwoCells {
    /// Sink, folder, and daemons over both.
    pub home: Installation,
    /// Its configuration.
    pub config: PathBuf,
    /// A pool of the home cell that may do everything.
    pub main: PgPool,
    /// The same of the other cell.
    pub b: PgPool,
    /// The home cell's cluster.
    _main_cluster: Cluster,
    /// The other cell's.
    pub b_cluster: Option<Cluster>,
    folder: TempDir,
}

impl TwoCells {
    /// Both cells, migrated, with a sink.
    pub async fn new() -> Self {
        let folder = TempDir::new().expect("make a folder");
        let (main_cluster, main_url) = cluster(&folder.path().join("main")).await;
        let (b_cluster, b_url) = cluster(&folder.path().join("b")).await;
        let home = Installation::on(main_url.clone()).await;
        let more = format!("[[cell]]\nname = \"b\"\nnumber = 1\nurl = \"{b_url}\"\n");
        let config = home.configure(&more);
        let two = Self {
            home,
            config,
            main: PgPool::connect(&main_url).await.expect("connect"),
            b: PgPool::connect(&b_url).await.expect("connect"),
            _main_cluster: main_cluster,
            b_cluster: Some(b_cluster),
            folder,
        };
        two.facts(&["migrate"]);
        two
    }

    /// Starts the other cell again after it was stopped.
    pub fn start_b(&mut self) {
        let binaries = Binaries::find(None).unwrap_or_else(|error| panic!("{error}"));
        let cluster = Cluster::start(&self.folder.path().join("b"), Durability::Fast, &binaries)
            .unwrap_or_else(|error| panic!("{error}"));
        self.b_cluster = Some(cluster);
    }

    /// The tool over both cells.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = command::bare(args);
        command.arg("--config").arg(&self.config);
        command
    }

    /// Runs the tool.
    pub fn run(&self, args: &[&str]) -> Ran {
        command::ran(&self.command(args).output().expect("run postrider"))
    }

    /// Runs it with `--json`; it must succeed.
    pub fn facts(&self, args: &[&str]) -> Value {
        let ran = self.run(&[args, &["--json"]].concat());
        assert_eq!(ran.code, 0, "{args:?}: {} {}", ran.out, ran.err);
        serde_json::from_str(&ran.out).expect("JSON on standard output")
    }

    /// Runs the tool until a line on standard error holds `until`, then kills it with -9.
    /// False when it ended before.
    pub fn kill_at(&self, args: &[&str], until: &str) -> bool {
        use std::io::BufRead;

        let mut child = self
            .command(args)
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("start postrider");
        let lines = std::io::BufReader::new(child.stderr.take().expect("piped")).lines();
        for line in lines.map_while(Result::ok) {
            if line.contains(until) {
                child.kill().expect("kill");
                child.wait().expect("reap");
                return true;
            }
        }
        child.wait().expect("reap");
        false
    }

    /// A tenant with the domain `NAME.example` and a key, in a cell.
    pub fn tenant(&self, name: &str, cell: &str) -> Tenant {
        let made = self.facts(&["tenant", "create", name, "--cell", cell]);
        let domain = format!("{name}.example");
        self.facts(&["domain", "add", "--tenant", name, &domain, "--algorithm", "none"]);
        let key = self.facts(&["key", "create", "--tenant", name]);
        Tenant {
            id: made["id"].as_i64().expect("a number"),
            key: ApiKey::parse(key["key"].as_str().expect("a key")).expect("a key"),
        }
    }

    /// An API over both.
    pub fn api(&self) -> Router {
        let settings = load(Some(&self.config), std::iter::empty()).expect("sound");
        let (_, watched) = watch::channel(std::sync::Arc::new(settings));
        api::router(Api::over(watched, &self.pools(Role::Api), Clock::System))
    }

    fn pools(&self, role: Role) -> Vec<Cell> {
        let settings = load(Some(&self.config), std::iter::empty()).expect("sound");
        let pool = |database| boot::connect_when_asked(database, role).expect("an address");
        settings.all_cells().map(|database| Cell::new(database, pool(database))).collect()
    }

    /// Waits until nothing waits in either cell, nor is on the move.
    pub async fn drained(&self) {
        let started = Instant::now();
        loop {
            let mut left = 0;
            for pool in [&self.main, &self.b] {
                for table in ["ready", "lease", "deferred", "transit"] {
                    left += builders::rows(pool, table).await;
                }
            }
            if left == 0 {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "{left} still wait");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// A tenant with a key.
#[derive(Clone)]
pub struct Tenant {
    pub id: i64,
    pub key: ApiKey,
}

/// Sends a request to an API; status and body.
pub async fn ask(
    api: &Router,
    method: Method,
    path: &str,
    key: &ApiKey,
    once: &str,
    body: Option<&Value>,
) -> (StatusCode, Value) {
    let mut asked = request(method, path, key);
    if !once.is_empty() {
        asked = asked.header("idempotency-key", once);
    }
    let body = match body {
        Some(body) => {
            asked = asked.header("content-type", "application/json");
            Body::from(body.to_string())
        }
        None => Body::empty(),
    };
    let answer = api.clone().oneshot(asked.body(body).expect("a request")).await.expect("answered");
    let status = answer.status();
    let bytes = axum::body::to_bytes(answer.into_body(), 1 << 20).await.expect("a body");
    let body = serde_json::from_slice(&bytes)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
    (status, body)
}

async fn cluster(home: &Path) -> (Cluster, String) {
    let binaries = Binaries::find(None).unwrap_or_else(|error| panic!("{error}"));
    let cluster =
        Cluster::start(home, Durability::Fast, &binaries).unwrap_or_else(|error| panic!("{error}"));
    let mut admin = PgConnection::connect(&cluster.url("postgres")).await.expect("connect");
    sqlx::raw_sql("create database mail").execute(&mut admin).await.expect("create");
    let url = cluster.url("mail");
    (cluster, url)
}
