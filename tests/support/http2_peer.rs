//! A server of HTTP/2 under TLS, for the name `localhost`, that breaks off where it is told.
#![allow(unreachable_pub, reason = "a test's support")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::server::{self, SendResponse};
use h2::{Reason, RecvStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::server::TlsStream;

use crate::support::http_peer::acceptor;

/// How far a request comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// Its head is read, and nothing of its body.
    Head,
    /// All of it.
    Whole,
}

/// What the server does then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// 200 with this body.
    Answer(&'static str),
    /// The same, and says that the connection takes no more.
    AnswerAndLeave(&'static str),
    /// Says that the connection ends, and ends it.
    GoAway(Reason),
    /// Ends this request.
    Reset(Reason),
    /// Closes the connection without a word.
    Close,
}

type Script = Arc<dyn Fn(usize) -> (Read, End) + Send + Sync>;

/// A running one; it ends with the test.
pub struct Http2Peer {
    pub address: SocketAddr,
    /// Its authority.
    pub pem: String,
    requests: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
}

impl Http2Peer {
    /// The script is told how many requests came before.
    pub async fn start(script: impl Fn(usize) -> (Read, End) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has ports");
        let address = listener.local_addr().expect("it is bound");
        let (acceptor, pem) = acceptor();
        let (requests, connections) =
            (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (of_requests, of_connections) = (Arc::clone(&requests), Arc::clone(&connections));
        let script: Script = Arc::new(script);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                of_connections.fetch_add(1, Ordering::SeqCst);
                let (acceptor, script) = (acceptor.clone(), Arc::clone(&script));
                let requests = Arc::clone(&of_requests);
                tokio::spawn(async move {
                    let stream = acceptor.accept(stream).await.expect("TLS");
                    // Whatever the client does about it, the test asks the client.
                    let _ = serve(stream, script, requests).await;
                });
            }
        });
        Self { address, pem, requests, connections }
    }

    /// Requests whose head was read.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// Connections taken.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn serve(
    stream: TlsStream<TcpStream>,
    script: Script,
    requests: Arc<AtomicUsize>,
) -> Result<(), h2::Error> {
    let mut connection = server::handshake(stream).await?;
    let (tell, mut told) = mpsc::unbounded_channel();
    loop {
        tokio::select! {
            accepted = connection.accept() => {
                let Some(accepted) = accepted else { return Ok(()) };
                let (request, respond) = accepted?;
                let act = script(requests.fetch_add(1, Ordering::SeqCst));
                tokio::spawn(one(request.into_body(), respond, act, tell.clone()));
            }
            Some(end) = told.recv() => match end {
                End::GoAway(reason) => connection.abrupt_shutdown(reason),
                End::AnswerAndLeave(_) => connection.graceful_shutdown(),
                _ => return Ok(()),
            }
        }
    }
}

async fn one(
    mut body: RecvStream,
    mut respond: SendResponse<Bytes>,
    (read, end): (Read, End),
    tell: mpsc::UnboundedSender<End>,
) {
    while read == Read::Whole
        && let Some(Ok(piece)) = body.data().await
    {
        let _ = body.flow_control().release_capacity(piece.len());
    }
    match end {
        End::Answer(text) | End::AnswerAndLeave(text) => {
            let head = hyper::Response::new(());
            let mut out = respond.send_response(head, false).expect("it listens");
            out.send_data(Bytes::from_static(text.as_bytes()), true).expect("it listens");
        }
        End::Reset(reason) => respond.send_reset(reason),
        End::GoAway(_) | End::Close => {}
    }
    if !matches!(end, End::Answer(_) | End::Reset(_)) {
        // The connection may be gone by now.
        let _ = tell.send(end);
        // Until then the request stays open.
        std::future::pending::<()>().await;
    }
}
