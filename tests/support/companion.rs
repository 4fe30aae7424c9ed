//! A running postrider-api beside an installation's daemons.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use postrider::tenant::key::ApiKey;
use serde_json::Value;
use sqlx::PgPool;

use super::command;
use super::ports::free_address;

/// Longest wait for the start; only a broken program reaches it.
const PATIENCE: Duration = Duration::from_secs(60);

/// The process. Killed when dropped.
pub struct Companion {
    child: Child,
    listen: SocketAddr,
    log: PathBuf,
}

impl Companion {
    /// Starts it with the installation's configuration and waits until it answers.
    pub async fn start(config: &Path) -> Self {
        let listen = free_address();
        let log = config.with_file_name(format!("api-{}.log", listen.port()));
        let mut child = Command::new(env!("CARGO_BIN_EXE_postrider-api"))
            .arg("--config")
            .arg(config)
            .env("POSTRIDER__API__LISTEN", listen.to_string())
            .env("POSTRIDER_KEY", command::KEY)
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).expect("make a log"))
            .spawn()
            .expect("start postrider-api");
        let started = Instant::now();
        loop {
            let answer = reqwest::get(format!("http://{listen}/readyz")).await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Self { child, listen, log };
            }
            let ended = child.try_wait().expect("ask for the child");
            let words = || fs::read_to_string(&log).unwrap_or_default();
            assert!(ended.is_none(), "postrider-api ended:\n{}", words());
            assert!(started.elapsed() < PATIENCE, "never ready:\n{}", words());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A key for a tenant.
    pub async fn key(owner: &PgPool, tenant: i64) -> ApiKey {
        let key = ApiKey::generate();
        sqlx::query("insert into postrider.api_key(tenant_id, prefix, hash) values ($1, $2, $3)")
            .bind(tenant)
            .bind(key.prefix())
            .bind(key.hash().as_slice())
            .execute(owner)
            .await
            .expect("add a key");
        key
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://{}", self.listen)
    }

    /// Submits a message with these headers; the answer.
    pub async fn submit(&self, key: &ApiKey, body: &Value, headers: &[(&str, &str)]) -> Value {
        let client = reqwest::Client::new();
        let mut request = client
            .post(format!("http://{}/v1/messages", self.listen))
            .bearer_auth(key.reveal())
            .json(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.expect("ask");
        assert_eq!(answer.status(), 202, "{:?}", answer.text().await);
        answer.json().await.expect("JSON")
    }

    /// What it logged.
    pub fn words(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        // Ended already, or a test failed: nothing to be done about an error here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
