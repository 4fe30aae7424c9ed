//! An HTTPS server: gives out what was put there by host and path, takes what is posted, and
//! counts what it is asked.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::support::smtp_peer::Certificate;

/// Runs until dropped.
pub struct PolicyHost {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

struct Shared {
    pages: Mutex<HashMap<String, String>>,
    asked: Mutex<Vec<String>>,
    posted: Mutex<Vec<Posted>>,
}

/// A request with a body.
#[derive(Debug, Clone)]
pub struct Posted {
    /// `host/path`
    pub to: String,
    pub content_type: String,
    pub body: Vec<u8>,
}

impl PolicyHost {
    pub async fn start(certificate: &Certificate) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has ports");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            pages: Mutex::default(),
            asked: Mutex::default(),
            posted: Mutex::default(),
        });
        let acceptor = TlsAcceptor::from(certificate.server());
        let server = Arc::clone(&shared);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut sessions = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, server) = (acceptor.clone(), Arc::clone(&server));
                sessions.spawn(async move {
                    let _ = answer(&server, &acceptor, stream).await;
                });
            }
        });
        Self { address, shared, _tasks: tasks }
    }

    /// From now on `host/path` answers with these bytes, status line and all.
    pub fn put(&self, page: &str, response: &str) {
        self.shared.pages.lock().insert(page.to_owned(), response.to_owned());
    }

    /// Publishes an MTA-STS policy.
    pub fn publish(&self, domain: &str, policy: &str) {
        let length = policy.len();
        self.put(
            &format!("mta-sts.{domain}/.well-known/mta-sts.txt"),
            &format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{policy}"
            ),
        );
    }

    /// Publishes nothing any more.
    pub fn withdraw(&self, domain: &str) {
        self.shared.pages.lock().remove(&format!("mta-sts.{domain}/.well-known/mta-sts.txt"));
    }

    /// How often a domain's policy was asked for.
    pub fn times(&self, domain: &str) -> usize {
        let page = format!("mta-sts.{domain}/.well-known/mta-sts.txt");
        self.shared.asked.lock().iter().filter(|asked| **asked == page).count()
    }

    /// How often `host/path` was asked for.
    pub fn asked(&self, page: &str) -> usize {
        self.shared.asked.lock().iter().filter(|asked| *asked == page).count()
    }

    pub fn posted(&self) -> Vec<Posted> {
        self.shared.posted.lock().clone()
    }
}

async fn answer(shared: &Shared, acceptor: &TlsAcceptor, stream: TcpStream) -> io::Result<()> {
    let mut stream = BufReader::new(acceptor.accept(stream).await?);
    let (mut first, mut host, mut kind, mut length) =
        (String::new(), String::new(), String::new(), 0);
    stream.read_line(&mut first).await?;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let Some((key, value)) = line.trim_end().split_once(':') else { break };
        match key.to_ascii_lowercase().as_str() {
            "host" => value.trim().clone_into(&mut host),
            "content-type" => value.trim().clone_into(&mut kind),
            "content-length" => length = value.trim().parse().unwrap_or(0),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let page = format!("{host}{}", first.split(' ').nth(1).unwrap_or_default());
    if first.starts_with("POST") {
        shared.posted.lock().push(Posted { to: page.clone(), content_type: kind, body });
    }
    shared.asked.lock().push(page.clone());
    let missing = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned();
    let response = shared.pages.lock().get(&page).cloned().unwrap_or(missing);
    stream.write_all(response.as_bytes()).await?;
    stream.flush().await?;
    stream.shutdown().await
}
