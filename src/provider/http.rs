//! Requests over pooled connections: HTTP/2 where the server speaks it under TLS, else 1.1.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, Request, Uri};
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::{Instant, timeout_at};

use super::link::{Connector, LinkFault};
use super::metrics::Metrics;
use super::outgoing::{Outgoing, Written};
use crate::config::{Endpoint, Provider};
use crate::domain::verdict::{Cause, Stage};

/// Most bytes of an answer that are read: the longest real ones have some hundred.
const LONGEST_ANSWER: usize = 64 << 10;

/// Idle connections are closed after this.
const IDLE: Duration = Duration::from_secs(60);

/// Liveness of an HTTP/2 connection is asked for this often while requests are under way.
const PING: Duration = Duration::from_secs(15);

/// A client of one provider.
pub(super) struct Http {
    client: Client<Connector, Outgoing>,
    metrics: Metrics,
}

/// One request.
pub(super) struct Ask {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Bytes,
}

/// What came back, as far as it came: the status decides, and what follows may be cut short.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// Whether the server may have had the whole request.
    pub(super) whole: bool,
}

/// Nothing came back.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) stage: Stage,
    pub(super) cause: Cause,
    /// Whether the server may have had the whole request.
    pub(super) whole: bool,
}

/// No client can be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpFault {
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("the authority's certificate cannot be read: {0}")]
    Authority(#[from] rustls::pki_types::pem::Error),
}

impl Http {
    pub(super) fn new(provider: &Provider) -> Result<Self, HttpFault> {
        let metrics = Metrics::of(provider.name());
        let connector = Connector {
            tls: Arc::new(tls(provider.authority.as_deref())?),
            within: provider.connect_timeout,
            metrics: metrics.clone(),
        };
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(provider.max_requests as usize)
            .http2_adaptive_window(true)
            .http2_keep_alive_interval(PING)
            .http2_keep_alive_timeout(PING)
            .build(connector);
        Ok(Self { client, metrics })
    }

    /// Asks, and reads the answer, all within a time.
    pub(super) async fn ask(
        &self,
        to: &Endpoint,
        ask: Ask,
        within: Duration,
    ) -> Result<Answer, Lost> {
        let started = Instant::now();
        let deadline = started + within;
        let (body, written) = Outgoing::new(ask.body);
        let lost = |stage, cause| Lost { stage, cause, whole: written.is_whole() };
        let request = Uri::try_from(format!("{to}{}", ask.path))
            .map_err(hyper::http::Error::from)
            .and_then(|uri| Request::builder().method(ask.method).uri(uri).body(body));
        let mut request =
            request.map_err(|error| lost(Stage::Data, Cause::Protocol(error.to_string())))?;
        request.headers_mut().extend(ask.headers);

        let answered = timeout_at(deadline, self.client.request(request)).await;
        let answer = match answered {
            Ok(Ok(response)) => {
                let (head, body) = response.into_parts();
                let body = read(body, deadline).await;
                let status = head.status.as_u16();
                Ok(Answer { status, headers: head.headers, body, whole: written.is_whole() })
            }
            Ok(Err(error)) => Err(why(&error, &written)),
            Err(_late) if written.is_whole() => Err(lost(Stage::Dot, Cause::Timeout)),
            Err(_late) => Err(lost(Stage::Data, Cause::Timeout)),
        };
        let result = match &answer {
            Ok(answer) => match answer.status / 100 {
                2 => "2xx",
                4 => "4xx",
                5 => "5xx",
                _ => "other",
            },
            Err(lost) if lost.whole => "doubtful",
            Err(_) => "lost",
        };
        self.metrics.request(result, started.elapsed());
        answer
    }
}

/// The well-known roots, and one more authority where a private endpoint has its own.
fn tls(authority: Option<&str>) -> Result<ClientConfig, HttpFault> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(pem) = authority {
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            roots.add(certificate?)?;
        }
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// The body up to the longest that is wanted, or to where it broke off.
async fn read(mut body: Incoming, deadline: Instant) -> Bytes {
    let mut read = BytesMut::new();
    while let Ok(Some(Ok(frame))) = timeout_at(deadline, body.frame()).await {
        let Ok(piece) = frame.into_data() else { continue };
        let room = LONGEST_ANSWER - read.len();
        read.extend_from_slice(&piece[..piece.len().min(room)]);
        if read.len() == LONGEST_ANSWER {
            break;
        }
    }
    read.freeze()
}

/// Where and why a request was lost.
fn why(error: &ClientError, written: &Written) -> Lost {
    let mut source: Option<&(dyn Error + 'static)> = Some(error);
    let mut text = String::new();
    while let Some(inner) = source {
        if let Some(fault) = inner.downcast_ref::<LinkFault>() {
            return Lost { stage: fault.stage, cause: fault.cause.clone(), whole: false };
        }
        text = inner.to_string();
        // The server's word that it has not begun (RFC 9113 8.7).
        if let Some(fault) = inner.downcast_ref::<h2::Error>()
            && fault.is_remote()
            && fault.reason() == Some(h2::Reason::REFUSED_STREAM)
        {
            return Lost { stage: Stage::Data, cause: Cause::Connection(text), whole: false };
        }
        source = inner.source();
    }
    let whole = written.is_whole();
    let stage = if whole { Stage::Dot } else { Stage::Data };
    Lost { stage, cause: Cause::Connection(text), whole }
}
