//! A client for HTTPS requests to hosts that strangers name: MTA-STS policies and report
//! collectors.
//!
//! Promises: the certificate verifies for the host's name; the address is one that mail may go
//! to as well (`reachable.rs`); there are no redirects, no cookies, no proxy; all of a request
//! has one deadline, and an answer is bounded.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::dns::{HostsFile, Resolver, ResolverError, absolute};
use super::reachable::{Private, is_reachable};
use crate::config::{Dns, Settings, TlsPolicies};

/// Longest time for one request, from the question for the address to the last byte.
pub const LONGEST: Duration = Duration::from_secs(15);

/// Addresses of a host that are tried.
const ADDRESSES: usize = 3;

/// Speaks HTTPS.
#[derive(Clone)]
pub struct Https {
    resolver: Arc<Resolver>,
    private: Private,
    connector: TlsConnector,
    port: u16,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// Its status.
    pub status: StatusCode,
    /// Its media type, if it says one.
    pub content_type: Option<String>,
    /// Its body.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpsFault {
    /// The host has no address that may be connected to.
    #[error("{0} has no address that can be connected to")]
    NoAddress(String),
    /// Nobody could be connected to, or the connection broke.
    #[error("{0}")]
    Connection(String),
    /// The certificate does not verify.
    #[error("{0}")]
    Certificate(String),
    /// It took too long.
    #[error("no answer within {LONGEST:?}")]
    Timeout,
    /// The answer is longer than is wanted.
    #[error("expected at most {0} bytes, found more")]
    TooLarge(usize),
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum NoClient {
    /// There is no name server to ask.
    #[error(transparent)]
    Resolver(#[from] ResolverError),
    /// TLS cannot be had, or one of `tls.roots_file` is no authority.
    #[error("TLS for HTTPS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

impl Https {
    /// Asks `resolver`, and trusts what browsers trust and the operator.
    pub(super) fn with(
        resolver: Arc<Resolver>,
        dns: &Dns,
        tls: &TlsPolicies,
    ) -> Result<Self, NoClient> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        for root in &tls.roots {
            roots.add(root.clone())?;
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let private = if dns.allow_private_addresses { Private::Allowed } else { Private::Refused };
        let connector = TlsConnector::from(Arc::new(config));
        Ok(Self { resolver, private, connector, port: tls.https_port })
    }

    /// By the name servers and roots of these settings.
    pub fn new(settings: &Settings) -> Result<Self, NoClient> {
        let resolver = Arc::new(Resolver::new(&settings.dns, HostsFile::Ignored)?);
        Self::with(resolver, &settings.dns, &settings.tls)
    }

    /// Whom it asks for addresses.
    pub(super) fn resolver(&self) -> &Resolver {
        &self.resolver
    }

    /// GET, with an answer of at most `most` bytes; `port` where the URL names one.
    pub async fn get(
        &self,
        host: &str,
        port: Option<u16>,
        path: &str,
        most: usize,
    ) -> Result<Response, HttpsFault> {
        let request = Request::builder().method(Method::GET).uri(path).body(Full::default());
        self.ask(host, port.unwrap_or(self.port), request, most).await
    }

    /// POST; `port` where the URL names one.
    pub async fn post(
        &self,
        host: &str,
        port: Option<u16>,
        path: &str,
        content_type: &str,
        body: Vec<u8>,
    ) -> Result<Response, HttpsFault> {
        const MOST: usize = 64 << 10;
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(CONTENT_TYPE, content_type)
            .body(Full::from(body));
        self.ask(host, port.unwrap_or(self.port), request, MOST).await
    }

    async fn ask(
        &self,
        host: &str,
        port: u16,
        request: Result<Request<Full<Bytes>>, hyper::http::Error>,
        most: usize,
    ) -> Result<Response, HttpsFault> {
        let mut request = request.map_err(broken)?;
        let name = hyper::http::HeaderValue::from_str(host).map_err(broken)?;
        request.headers_mut().insert(HOST, name);
        let agent = hyper::http::HeaderValue::from_static("postrider");
        request.headers_mut().insert(USER_AGENT, agent);
        match tokio::time::timeout(LONGEST, self.exchange(host, port, request, most)).await {
            Ok(answer) => answer,
            Err(_) => Err(HttpsFault::Timeout),
        }
    }

    async fn exchange(
        &self,
        host: &str,
        port: u16,
        request: Request<Full<Bytes>>,
        most: usize,
    ) -> Result<Response, HttpsFault> {
        let name = ServerName::try_from(host.to_owned()).map_err(broken)?;
        let stream = self.connect(host, port).await?;
        let stream = self.connector.connect(name, stream).await.map_err(|error| {
            let text = error.to_string();
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            match inner {
                Some(rustls::Error::InvalidCertificate(_)) => HttpsFault::Certificate(text),
                _ => HttpsFault::Connection(text),
            }
        })?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let connection = tokio::spawn(connection);
        let answer = async {
            let (head, body) = sender.send_request(request).await.map_err(broken)?.into_parts();
            let body = Limited::new(body, most).collect().await.map_err(|error| {
                if error.is::<http_body_util::LengthLimitError>() {
                    HttpsFault::TooLarge(most)
                } else {
                    broken(error)
                }
            })?;
            let content_type = head.headers.get(CONTENT_TYPE);
            let content_type = content_type.and_then(|value| value.to_str().ok());
            Ok(Response {
                status: head.status,
                content_type: content_type.map(ToOwned::to_owned),
                body: body.to_bytes(),
            })
        }
        .await;
        connection.abort();
        answer
    }

    async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, HttpsFault> {
        let found = self.resolver.addresses(&absolute(host)).await;
        let nowhere = || HttpsFault::NoAddress(host.to_owned());
        let addresses = found.map_err(|_| nowhere())?.records;
        let reachable = |ip: &IpAddr| is_reachable(*ip, self.private);
        let mut last = nowhere();
        for ip in addresses.shuffled().filter(reachable).take(ADDRESSES) {
            let connecting = TcpStream::connect(SocketAddr::new(ip, port));
            match tokio::time::timeout(LONGEST / 3, connecting).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = broken(error),
                Err(_) => last = HttpsFault::Timeout,
            }
        }
        Err(last)
    }
}

impl std::fmt::Debug for Https {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Https").field("port", &self.port).finish()
    }
}

fn broken(error: impl std::fmt::Display) -> HttpsFault {
    HttpsFault::Connection(error.to_string())
}
