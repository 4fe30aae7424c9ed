//! [`Sender`]: one request to somebody else's URL, and what it came to.
//!
//! Follows no redirect, uses no proxy, connects to checked addresses only, and reads no more of
//! an answer than it takes to use the connection again.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, Url};
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::address::{self, Checked, UrlFault};
use super::outcome::Answer;
use super::secret::WebhookSecret;
use super::sign;
use crate::config::{Settings, Webhook};
use crate::domain::clock::Clock;
use crate::route::outside::{Inward, Outside, ResolverError};

/// Bytes of an answer that are read: whoever sends more loses the connection, nothing else.
const LONGEST_ANSWER: usize = 16 << 10;

/// Longest reason that is kept, in characters.
const LONGEST_REASON: usize = 200;

/// Longest wait that an endpoint may ask for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(86_400);

/// Idle connections to one host that are kept, and for how long.
const IDLE_CONNECTIONS: usize = 8;
const IDLE: Duration = Duration::from_secs(30);

/// Makes requests.
#[derive(Debug)]
pub struct Sender {
    client: Client,
    outside: Arc<Outside>,
    settings: Webhook,
    at_once: Semaphore,
    clock: Clock,
}

/// Why there is no sender.
#[derive(Debug, thiserror::Error)]
pub enum SenderError {
    /// There is no name server to ask.
    #[error(transparent)]
    Resolver(#[from] ResolverError),
    /// TLS cannot be had.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The HTTP client cannot be built.
    #[error("the HTTP client: {0}")]
    Client(#[from] reqwest::Error),
}

impl Sender {
    /// By `[webhook]` and `[dns]`.
    pub fn new(settings: &Settings) -> Result<Self, SenderError> {
        let webhook = settings.webhook.clone();
        let inward =
            if webhook.allow_private_addresses { Inward::Allowed } else { Inward::Refused };
        let outside = Arc::new(Outside::new(&settings.dns, inward)?);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .dns_resolver(Arc::new(Checked(Arc::clone(&outside))))
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .user_agent(concat!("postrider/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(webhook.timeout)
            .timeout(webhook.timeout)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .pool_idle_timeout(IDLE)
            .build()?;
        let at_once = Semaphore::new(webhook.concurrency as usize);
        Ok(Self { client, outside, settings: webhook, at_once, clock: Clock::System })
    }

    /// A URL that may be told.
    pub fn check(&self, url: &str) -> Result<Url, UrlFault> {
        address::check(url, &self.settings, &self.outside)
    }

    /// The settings it was made with.
    pub(super) const fn settings(&self) -> &Webhook {
        &self.settings
    }

    /// Milliseconds since 1970.
    pub(super) fn now_ms(&self) -> i64 {
        (self.clock.unix_seconds() * 1_000) as i64
    }

    /// A place among the requests of this process, if there is one before `until`.
    pub(super) async fn place(&self, until: Instant) -> Option<SemaphorePermit<'_>> {
        let place = tokio::time::timeout_at(until.into(), self.at_once.acquire()).await;
        place.ok().and_then(Result::ok)
    }

    /// Posts `body` under `id`, signed with each secret.
    pub(super) async fn post(
        &self,
        url: &str,
        secrets: &[WebhookSecret],
        id: &str,
        body: Vec<u8>,
    ) -> Answer {
        // The rules may have changed since the URL was stored.
        let url = match self.check(url) {
            Ok(url) => url,
            Err(fault) => return Answer::Unreached { why: short(&fault.to_string()) },
        };
        let timestamp = self.clock.unix_seconds();
        let signature = sign::signature(secrets, id, timestamp, &body);
        let request = self
            .client
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header(sign::ID, id)
            .header(sign::TIMESTAMP, timestamp)
            .header(sign::SIGNATURE, signature)
            .body(body);
        let started = Instant::now();
        let answer = match request.send().await {
            Ok(response) => read(response).await,
            Err(error) => Answer::Unreached { why: reason(&error) },
        };
        metrics::histogram!("postrider_webhook_send_seconds").record(started.elapsed());
        metrics::counter!("postrider_webhook_sends_total", "outcome" => answer.outcome())
            .increment(1);
        answer
    }
}

async fn read(mut response: reqwest::Response) -> Answer {
    let status = response.status().as_u16();
    let retry_after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.trim().parse().ok())
        .map(|seconds| Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER));
    let mut read = 0;
    // What an answer says is of no interest; one that breaks off has been given all the same.
    while let Ok(Some(chunk)) = response.chunk().await {
        read += chunk.len();
        if read > LONGEST_ANSWER {
            break;
        }
    }
    Answer::of(status, retry_after)
}

/// The innermost cause says most; the URL is the tenant's and may hold a token.
fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".into();
    }
    let mut cause: &dyn Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    short(&cause.to_string())
}

fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(LONGEST_REASON).collect()
}
