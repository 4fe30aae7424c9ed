//! An application that submits as it should: with an idempotency key, repeating what was
//! not answered. What it was told is its ledger; the audit begins there.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::{Client, StatusCode};
use serde::Deserialize;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Longest wait for one answer: then the client repeats, as one behind a load balancer does.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long a submission is repeated before its client gives up.
const PERSISTENCE: Duration = Duration::from_secs(120);

/// Calls at once: a slow machine is not asked for more than it can do.
const AT_ONCE: usize = 16;

/// Share of the acknowledged submissions that are repeated all the same.
const NEEDLESS_REPEATS: f64 = 0.05;

/// One tenant's application.
#[derive(Debug, Clone)]
pub(crate) struct Tenant {
    /// Its name; its domain is `NAME.example`.
    pub(crate) name: String,
    /// Its API key.
    pub(crate) key: String,
}

/// One submission and what became of it as its client knows.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Whose.
    pub(crate) tenant: String,
    /// To whom; each address is used for one submission only.
    pub(crate) recipients: Vec<String>,
    /// Every id that was told in a 202; more than one is a fault.
    pub(crate) ids: Vec<String>,
    /// Recipients that the 202 said were accepted.
    pub(crate) accepted: usize,
    /// Answers that were neither 202 nor a wish to repeat.
    pub(crate) refusals: Vec<String>,
}

/// The ledger.
pub(crate) type Ledger = Arc<Mutex<Vec<Entry>>>;

/// How much is submitted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Submissions a second.
    pub(crate) rate: f64,
    /// Most recipients of one.
    pub(crate) most: usize,
}

/// Applications that submit until they are told to stop.
pub(crate) struct Load {
    stop: CancellationToken,
    running: tokio::task::JoinHandle<()>,
}

#[derive(Deserialize)]
struct Accepted {
    id: String,
    accepted: usize,
}

impl Load {
    /// Starts submitting to `api` for `tenants` in turn. `mark` begins every address.
    pub(crate) fn start(
        api: SocketAddr,
        tenants: &[Tenant],
        pace: Pace,
        mark: &str,
        seed: u64,
        ledger: &Ledger,
    ) -> Self {
        let stop = CancellationToken::new();
        let (tenants, mark) = (tenants.to_vec(), mark.to_owned());
        let (ledger, stopped) = (Arc::clone(ledger), stop.clone());
        let running = tokio::spawn(async move {
            let mut rng = StdRng::seed_from_u64(seed);
            let client = Client::new();
            let mut clock = tokio::time::interval(Duration::from_secs_f64(1.0 / pace.rate));
            clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            let mut calls = JoinSet::new();
            for n in 0.. {
                if stopped.run_until_cancelled(clock.tick()).await.is_none() {
                    break;
                }
                let tenant = &tenants[n % tenants.len()];
                let count = rng.random_range(1..=pace.most);
                let recipients =
                    (0..count).map(|r| format!("{mark}-{n}-{r}@{}.test", tenant.name)).collect();
                let call = Call {
                    client: client.clone(),
                    api,
                    tenant: tenant.clone(),
                    key: format!("{mark}-{n}"),
                    recipients,
                    again: rng.random_bool(NEEDLESS_REPEATS),
                };
                calls.spawn(call.make(Arc::clone(&ledger)));
                while calls.try_join_next().is_some() || calls.len() >= AT_ONCE {
                    if calls.len() >= AT_ONCE {
                        calls.join_next().await;
                    }
                }
            }
            while calls.join_next().await.is_some() {}
        });
        Self { stop, running }
    }

    /// No new submissions; waits until those under way are answered or given up.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        Ok(self.running.await?)
    }
}

/// Submits one mail and waits for its 202; the recipient.
pub(crate) async fn probe(
    api: SocketAddr,
    tenant: &Tenant,
    mark: &str,
    ledger: &Ledger,
) -> anyhow::Result<String> {
    let recipient = format!("{mark}@{}.test", tenant.name);
    let call = Call {
        client: Client::new(),
        api,
        tenant: tenant.clone(),
        key: mark.to_owned(),
        recipients: vec![recipient.clone()],
        again: false,
    };
    call.make(Arc::clone(ledger)).await;
    let acknowledged =
        ledger.lock().iter().any(|e| e.recipients.contains(&recipient) && !e.ids.is_empty());
    if !acknowledged {
        bail!("the API never took the probe {recipient}");
    }
    Ok(recipient)
}

struct Call {
    client: Client,
    api: SocketAddr,
    tenant: Tenant,
    key: String,
    recipients: Vec<String>,
    again: bool,
}

impl Call {
    async fn make(self, ledger: Ledger) {
        let mut entry = Entry {
            tenant: self.tenant.name.clone(),
            recipients: self.recipients.clone(),
            ids: Vec::new(),
            accepted: 0,
            refusals: Vec::new(),
        };
        let (started, mut wait) = (Instant::now(), Duration::from_millis(50));
        let mut more = if self.again { 2 } else { 1 };
        while more > 0 && started.elapsed() < PERSISTENCE {
            match self.ask().await {
                Ok(Ok(accepted)) => {
                    more -= 1;
                    entry.accepted = accepted.accepted;
                    if !entry.ids.contains(&accepted.id) {
                        entry.ids.push(accepted.id);
                    }
                }
                // 5xx and 429 ask for a repeat; no answer at all needs one.
                Ok(Err(status)) if !status.is_server_error() && status.as_u16() != 429 => {
                    entry.refusals.push(status.to_string());
                    break;
                }
                Ok(Err(_)) | Err(_) => {
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(Duration::from_secs(1));
                }
            }
        }
        ledger.lock().push(entry);
    }

    async fn ask(&self) -> Result<Result<Accepted, StatusCode>, reqwest::Error> {
        let tenant = &self.tenant.name;
        let recipients: Vec<_> = self.recipients.iter().map(|to| json!({ "to": to })).collect();
        let body = json!({
            "from": format!("Proof <proof@{tenant}.example>"),
            "subject": format!("Number {}", self.key),
            "text": "Every mail of these is accounted for.\n.\nA line with a dot is among them.\n",
            "recipients": recipients,
        });
        let answer = self
            .client
            .post(format!("http://{}/v1/messages", self.api))
            .bearer_auth(&self.tenant.key)
            .header("idempotency-key", &self.key)
            .timeout(TIMEOUT)
            .json(&body)
            .send()
            .await?;
        if answer.status() == StatusCode::ACCEPTED {
            return Ok(Ok(answer.json().await?));
        }
        Ok(Err(answer.status()))
    }
}
