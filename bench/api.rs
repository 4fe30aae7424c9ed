//! How long a submission takes at a given rate: requests begin by the clock whether or
//! not the ones before have ended, so a slow answer is not hidden by the next one's wait.

use std::fmt;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use postrider::tenant::store;
use reqwest::Client;
use serde_json::json;
use sqlx::PgPool;
use tokio::task::JoinSet;

use crate::daemon::spawn;
use crate::load::Load;

/// Length of the measured part.
const SECONDS: u32 = 20;

/// Requests before it, to fill caches and pools.
const WARM_UP: u32 = 50;

/// What was measured.
pub(crate) struct Measured {
    rate: u32,
    /// Sorted.
    latencies: Vec<Duration>,
    took: Duration,
}

struct Api(Child);

impl Drop for Api {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Submits `rate` messages of one recipient a second to a `postrider-api` of its own.
pub(crate) async fn run(folder: &Path, load: &Load, rate: u32) -> anyhow::Result<Measured> {
    let pool = PgPool::connect(&load.url).await?;
    let scope = store::scope(&pool, "bench").await?;
    let key = store::create_key(&pool, scope, "bench", "bench").await?;
    pool.close().await;

    let listen = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let _api = start(folder, load, listen, rate)?;
    let client = Client::new();
    ready(&client, listen).await?;
    let url = format!("http://{listen}/v1/messages");
    let submit = |n: u32| {
        let request = client
            .post(&url)
            .bearer_auth(key.reveal())
            .json(&json!({
                "from": "Bench <news@bench.example>", "subject": "Order {{ n }}",
                "text": "Hello {{ name }}, your order {{ n }} is on its way.", "stream": "transactional",
                "recipients": [{"to": format!("buyer{n}@example.org"), "vars": {"name": "Ann", "n": n}}],
            }));
        async move {
            let status = request.send().await?.status();
            if status.as_u16() != 202 {
                bail!("expected 202, found {status}");
            }
            Ok(())
        }
    };
    for n in 0..WARM_UP {
        submit(n).await?;
    }
    let began = Instant::now();
    let mut running = JoinSet::new();
    for n in 0..rate * SECONDS {
        let due = began + Duration::from_secs(1) * n / rate;
        tokio::time::sleep_until(due.into()).await;
        let request = submit(WARM_UP + n);
        running.spawn(async move { request.await.map(|()| due.elapsed()) });
    }
    let mut latencies = Vec::with_capacity(running.len());
    while let Some(ended) = running.join_next().await {
        latencies.push(ended.context("a request's task")??);
    }
    latencies.sort_unstable();
    Ok(Measured { rate, latencies, took: began.elapsed() })
}

fn start(folder: &Path, load: &Load, listen: SocketAddr, rate: u32) -> anyhow::Result<Api> {
    let config = folder.join("api.toml");
    fs::write(
        &config,
        format!(
            "[database]\nurl = \"{url}\"\npool_size = 16\n\
             [api]\nlisten = \"{listen}\"\ncalls_per_second = {limit}\ncalls_burst = {limit}\n\
             [log]\nlevel = \"warn\"\n[secrets]\nkey_file = \"key\"\n\
             [[source]]\nname = \"bench\"\nehlo = \"mail.bench.example\"\n",
            url = load.url,
            limit = rate * 10,
        ),
    )?;
    spawn(env!("CARGO_BIN_EXE_postrider-api"), &config, &folder.join("postrider-api.log")).map(Api)
}

async fn ready(client: &Client, listen: SocketAddr) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        let answer = client.get(format!("http://{listen}/readyz")).send().await;
        if answer.is_ok_and(|answer| answer.status().is_success()) {
            return Ok(());
        }
        if began.elapsed() > Duration::from_secs(20) {
            bail!("postrider-api is not ready: see target/bench/postrider-api.log");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

impl Measured {
    fn percentile(&self, percent: usize) -> Duration {
        let at = (self.latencies.len() * percent / 100).min(self.latencies.len().saturating_sub(1));
        self.latencies.get(at).copied().unwrap_or_default()
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let done = self.latencies.len() as f64 / self.took.as_secs_f64();
        write!(
            f,
            "API, {} submissions/s asked for, {done:.0}/s done: p50 {:.1?}, p95 {:.1?}, p99 {:.1?}",
            self.rate,
            self.percentile(50),
            self.percentile(95),
            self.percentile(99)
        )
    }
}
