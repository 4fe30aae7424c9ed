//! A scripted HTTP server: answers as a provider's API would, or misbehaves.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

/// What the server does about a request.
#[derive(Debug, Clone)]
pub enum Act {
    /// Status, headers and body.
    Answer(u16, Vec<(&'static str, String)>, String),
    /// A head that promises a body, some of it, and then nothing more.
    HeadOnly(u16, String),
    /// Reads the whole request and closes.
    CutAfterRequest,
    /// Reads the head and closes.
    CutEarly,
    /// Reads the whole request and says nothing.
    Silence,
}

impl Act {
    /// An answer in JSON.
    pub fn json(status: u16, body: &str) -> Self {
        Self::Answer(status, vec![("content-type", "application/json".into())], body.into())
    }

    /// The same with one more header.
    #[must_use]
    pub fn with(self, name: &'static str, value: &str) -> Self {
        match self {
            Self::Answer(status, mut headers, body) => {
                headers.push((name, value.into()));
                Self::Answer(status, headers, body)
            }
            other => other,
        }
    }
}

/// A request as it came in.
#[derive(Debug, Clone, Default)]
pub struct Recorded {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Recorded {
    /// The value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("a body in JSON")
    }
}

type Script = Arc<dyn Fn(usize, &Recorded) -> Act + Send + Sync>;

/// A running server; it ends with the test.
pub struct HttpPeer {
    pub address: SocketAddr,
    requests: Arc<Mutex<Vec<Recorded>>>,
    connections: Arc<AtomicUsize>,
    more: Arc<Notify>,
}

impl HttpPeer {
    /// In clear, HTTP/1.1. The script is told how many requests came before.
    pub async fn start(script: impl Fn(usize, &Recorded) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has ports");
        let peer = Self::of(&listener);
        let (requests, connections, more) =
            (Arc::clone(&peer.requests), Arc::clone(&peer.connections), Arc::clone(&peer.more));
        let script: Script = Arc::new(script);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                let (requests, more) = (Arc::clone(&requests), Arc::clone(&more));
                tokio::spawn(serve(stream, Arc::clone(&script), requests, more));
            }
        });
        peer
    }

    /// The same answer to everything.
    pub async fn always(act: Act) -> Self {
        Self::start(move |_, _| act.clone()).await
    }

    /// Under TLS with HTTP/2, for the name `localhost`; and the PEM of its authority.
    pub async fn start_http2(body: &'static str) -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has ports");
        let peer = Self::of(&listener);
        let (acceptor, pem) = acceptor();
        let (requests, connections, more) =
            (Arc::clone(&peer.requests), Arc::clone(&peer.connections), Arc::clone(&peer.more));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                let (acceptor, requests, more) =
                    (acceptor.clone(), Arc::clone(&requests), Arc::clone(&more));
                tokio::spawn(async move {
                    // Who does not trust the certificate takes leave during the handshake.
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve_http2(stream, body, requests, more).await;
                    }
                });
            }
        });
        (peer, pem)
    }

    fn of(listener: &TcpListener) -> Self {
        Self {
            address: listener.local_addr().expect("it is bound"),
            requests: Arc::default(),
            connections: Arc::default(),
            more: Arc::default(),
        }
    }

    /// Its address as an endpoint in clear.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Recorded> {
        self.requests.lock().clone()
    }

    /// The only request so far.
    pub fn request(&self) -> Recorded {
        let all = self.requests();
        assert_eq!(all.len(), 1, "one request");
        all.into_iter().next().expect("one")
    }

    /// Connections taken so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Waits until so many requests came in.
    pub async fn has(&self, n: usize) {
        loop {
            let more = self.more.notified();
            if self.requests.lock().len() >= n {
                return;
            }
            more.await;
        }
    }
}

async fn serve(
    mut stream: TcpStream,
    script: Script,
    requests: Arc<Mutex<Vec<Recorded>>>,
    more: Arc<Notify>,
) {
    let mut read = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = read.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let mut request = head(&read[..end]);
        let n = requests.lock().len();
        let act = script(n, &request);
        if matches!(act, Act::CutEarly) {
            requests.lock().push(request);
            more.notify_waiters();
            return;
        }
        let length: usize = request.header("content-length").parse().unwrap_or(0);
        while read.len() < end + length {
            if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
                return;
            }
        }
        request.body = read[end..end + length].to_vec();
        read.drain(..end + length);
        requests.lock().push(request);
        more.notify_waiters();
        match act {
            Act::Answer(status, headers, body) => {
                let mut fields = String::new();
                for (name, value) in &headers {
                    for part in [name, ": ", value, "\r\n"] {
                        fields.push_str(part);
                    }
                }
                let length = body.len();
                let text = format!(
                    "HTTP/1.1 {status} scripted\r\n{fields}content-length: {length}\r\n\r\n{body}"
                );
                if stream.write_all(text.as_bytes()).await.is_err() {
                    return;
                }
            }
            Act::HeadOnly(status, body) => {
                let text =
                    format!("HTTP/1.1 {status} scripted\r\ncontent-length: 1000000\r\n\r\n{body}");
                let _ = stream.write_all(text.as_bytes()).await;
                std::future::pending::<()>().await;
            }
            Act::Silence => std::future::pending::<()>().await,
            Act::CutAfterRequest | Act::CutEarly => return,
        }
    }
}

fn head(bytes: &[u8]) -> Recorded {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines();
    let mut first = lines.next().unwrap_or_default().split(' ');
    let mut word = || first.next().unwrap_or_default().to_owned();
    Recorded {
        method: word(),
        path: word(),
        headers: lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect(),
        body: Vec::new(),
    }
}

async fn serve_http2(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    answer: &'static str,
    requests: Arc<Mutex<Vec<Recorded>>>,
    more: Arc<Notify>,
) {
    use http_body_util::{BodyExt, Full};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let service =
        hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            let (requests, more) = (Arc::clone(&requests), Arc::clone(&more));
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await?.to_bytes().to_vec();
                let header =
                    |(name, value): (&hyper::header::HeaderName, &hyper::header::HeaderValue)| {
                        (name.to_string(), value.to_str().unwrap_or_default().to_owned())
                    };
                requests.lock().push(Recorded {
                    method: head.method.to_string(),
                    path: format!("{:?} {}", head.version, head.uri.path()),
                    headers: head.headers.iter().map(header).collect(),
                    body,
                });
                more.notify_waiters();
                Ok::<_, hyper::Error>(hyper::Response::new(Full::new(bytes::Bytes::from(answer))))
            }
        });
    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// A certificate for `localhost` that vouches for itself, for HTTP/2.
pub fn acceptor() -> (TlsAcceptor, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a valid name");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a chain");
    config.alpn_protocols = vec![b"h2".to_vec()];
    (TlsAcceptor::from(Arc::new(config)), made.cert.pem())
}
