//! An endpoint that takes every event at once and counts.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Bytes that one read may bring.
const CHUNK: usize = 64 << 10;

/// A running endpoint; stops on drop.
pub(crate) struct Consumer {
    address: SocketAddr,
    told: Arc<AtomicU64>,
    accepting: JoinHandle<()>,
}

impl Consumer {
    /// Listens on a free port of this machine.
    pub(crate) async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (address, told) = (listener.local_addr()?, Arc::new(AtomicU64::new(0)));
        let counted = Arc::clone(&told);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let told = Arc::clone(&counted);
                // A client that goes away is no concern of ours.
                tokio::spawn(async move { serve(stream, &told).await });
            }
        });
        Ok(Self { address, told, accepting })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Events taken so far.
    pub(crate) fn told(&self) -> u64 {
        self.told.load(Ordering::Relaxed)
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(mut stream: TcpStream, told: &AtomicU64) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut input = Vec::with_capacity(CHUNK);
    loop {
        while let Some((head, length)) = request(&input) {
            if input.len() < head + length {
                break;
            }
            let body = &input[head..head + length];
            let events = memchr::memmem::find_iter(body, b"\"id\":\"evt_").count();
            told.fetch_add(events as u64, Ordering::Relaxed);
            input.drain(..head + length);
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await?;
        }
        input.reserve(CHUNK);
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
    }
}

/// Bytes of the head of a request, and of its body.
fn request(input: &[u8]) -> Option<(usize, usize)> {
    let head = memchr::memmem::find(input, b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&input[..head]).to_ascii_lowercase();
    let length = text.split("content-length:").nth(1)?.split("\r\n").next()?.trim().parse().ok()?;
    Some((head, length))
}
