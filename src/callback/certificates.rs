//! Keys behind signatures of SNS: fetched once over TLS, remembered, and bounded.
//!
//! Anybody can name a certificate, so few are fetched in a while, one at a time, and few are
//! remembered. Who answers is proven by TLS: the host is that of the topic's region, or the one
//! that is configured.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use parking_lot::Mutex;
use reqwest::{Client, Url};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, RootCertStore};

use super::refusal::Refusal;
use crate::config::SesCallbacks;

/// Keys that are remembered: SNS has one at a time for each region, and its successor.
const REMEMBERED: usize = 32;

/// How long a key is believed.
const FRESH: Duration = Duration::from_secs(86_400);

/// Questions at once after a pause, and in a minute.
const QUESTIONS: NonZeroU32 = NonZeroU32::new(10).expect("not zero");

/// Longest time for one question: SNS waits 15 s for our answer.
const LONGEST: Duration = Duration::from_secs(8);

/// Most bytes of an answer: a certificate has some 2,000.
const MOST: usize = 64 << 10;

/// A key, and when it was fetched.
type Fetched = (Arc<[u8]>, Instant);

/// Fetches and remembers keys.
#[derive(Debug)]
pub(super) struct Certificates {
    client: Client,
    known: Mutex<HashMap<String, Fetched>>,
    turn: tokio::sync::Mutex<()>,
    questions: DefaultDirectRateLimiter,
}

/// Why nothing can be fetched.
#[derive(Debug, thiserror::Error)]
pub enum NoClient {
    /// The authority of `callbacks.ses.ca_file` cannot be read.
    #[error("the authority's certificate cannot be read: {0}")]
    Authority(#[from] rustls::pki_types::pem::Error),
    /// TLS cannot be had.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The HTTP client cannot be built.
    #[error("the HTTP client: {0}")]
    Client(#[from] reqwest::Error),
}

impl Certificates {
    pub(super) fn new(ses: &SesCallbacks) -> Result<Self, NoClient> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        if let Some(pem) = &ses.authority {
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                roots.add(certificate?)?;
            }
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .https_only(true)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .user_agent(concat!("postrider/", env!("CARGO_PKG_VERSION")))
            .timeout(LONGEST)
            .build()?;
        let questions = RateLimiter::direct(Quota::per_minute(QUESTIONS));
        Ok(Self { client, known: Mutex::default(), turn: tokio::sync::Mutex::default(), questions })
    }

    /// The key in the certificate at `url`, which is where SNS keeps them.
    pub(super) async fn key(&self, url: &Url) -> Result<Arc<[u8]>, Refusal> {
        if let Some(key) = self.remembered(url) {
            return Ok(key);
        }
        // One asks, and those behind find its answer.
        let _turn = self.turn.lock().await;
        if let Some(key) = self.remembered(url) {
            return Ok(key);
        }
        let body = self.ask(url).await?;
        let key = key_in(&body).ok_or_else(|| {
            tracing::warn!(%url, "expected a certificate in PEM, found something else");
            Refusal::NoKey
        })?;
        let mut known = self.known.lock();
        known.retain(|_, (_, at)| at.elapsed() < FRESH);
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(url.as_str().to_owned(), (Arc::clone(&key), Instant::now()));
        Ok(key)
    }

    /// Confirms a subscription: asks `url`, which is at the topic's host.
    pub(super) async fn confirm(&self, url: &Url) -> Result<(), Refusal> {
        let _turn = self.turn.lock().await;
        self.ask(url).await.map(drop)
    }

    fn remembered(&self, url: &Url) -> Option<Arc<[u8]>> {
        let known = self.known.lock();
        let (key, at) = known.get(url.as_str())?;
        (at.elapsed() < FRESH).then(|| Arc::clone(key))
    }

    async fn ask(&self, url: &Url) -> Result<Vec<u8>, Refusal> {
        if self.questions.check().is_err() {
            return Err(Refusal::NoKey);
        }
        let host = url.host_str().unwrap_or_default();
        let lost = |error: reqwest::Error| {
            tracing::warn!(host, error = %error.without_url(), "SNS does not answer");
            Refusal::NoKey
        };
        let mut response = self.client.get(url.clone()).send().await.map_err(lost)?;
        if !response.status().is_success() {
            tracing::warn!(host, status = response.status().as_u16(), "SNS refuses to answer");
            return Err(Refusal::NoKey);
        }
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(lost)? {
            if body.len() + piece.len() > MOST {
                return Err(Refusal::NoKey);
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }
}

/// The key of the first certificate, as `SubjectPublicKeyInfo`.
fn key_in(pem: &[u8]) -> Option<Arc<[u8]>> {
    let der = CertificateDer::from_pem_slice(pem).ok()?;
    let parsed = ParsedCertificate::try_from(&der).ok()?;
    Some(parsed.subject_public_key_info().as_ref().into())
}
