//! A receiver that takes everything at once: it counts, and it remembers when marked mail came.
//!
//! It speaks just enough SMTP for the daemon, with PIPELINING, and answers a burst of
//! commands with one write. Mail is marked by its recipient's domain, [`MARK`]. Asked to, it
//! answers as one that is far away: each reply comes so much later than its command.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Domain of the recipients whose mail is timed.
pub(crate) const MARK: &str = "marked.example";

/// Bytes that one read may bring.
const CHUNK: usize = 64 << 10;

#[derive(Default)]
struct Ledger {
    taken: AtomicU64,
    /// Connections: open now, most at once, and ever opened.
    open: AtomicU64,
    most_open: AtomicU64,
    opened: AtomicU64,
    marked: Mutex<HashMap<String, Instant>>,
}

/// A running receiver; stops on drop.
pub(crate) struct Sink {
    address: SocketAddr,
    ledger: Arc<Ledger>,
    accepting: JoinHandle<()>,
}

impl Sink {
    /// Listens on a free port of this machine.
    pub(crate) async fn start() -> io::Result<Self> {
        Self::far_away("127.0.0.1", Duration::ZERO).await
    }

    /// Listens on `address`; replies take `delay` longer.
    pub(crate) async fn far_away(address: &str, delay: Duration) -> io::Result<Self> {
        let listener = TcpListener::bind((address, 0)).await?;
        let address = listener.local_addr()?;
        let ledger = Arc::new(Ledger::default());
        let accepting = tokio::spawn(accept(listener, Arc::clone(&ledger), delay));
        Ok(Self { address, ledger, accepting })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Mails taken so far.
    pub(crate) fn taken(&self) -> u64 {
        self.ledger.taken.load(Ordering::Relaxed)
    }

    /// Most connections that were open at once.
    pub(crate) fn most_open(&self) -> u64 {
        self.ledger.most_open.load(Ordering::Relaxed)
    }

    /// Connections that were ever opened.
    pub(crate) fn opened(&self) -> u64 {
        self.ledger.opened.load(Ordering::Relaxed)
    }

    /// When the final dot of the mail to `local`@[`MARK`] came.
    pub(crate) fn arrival(&self, local: &str) -> Option<Instant> {
        self.ledger.marked.lock().get(local).copied()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, ledger: Arc<Ledger>, delay: Duration) {
    while let Ok((stream, _)) = listener.accept().await {
        let ledger = Arc::clone(&ledger);
        tokio::spawn(async move {
            ledger.opened.fetch_add(1, Ordering::Relaxed);
            let open = ledger.open.fetch_add(1, Ordering::Relaxed) + 1;
            ledger.most_open.fetch_max(open, Ordering::Relaxed);
            // A client that goes away is no concern of ours.
            let _ = talk(stream, &ledger, delay).await;
            ledger.open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

async fn talk(stream: TcpStream, ledger: &Ledger, delay: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut reading, writing) = stream.into_split();
    let mut replies = Replies::new(writing, delay);
    replies.send(b"220 sink.example ready\r\n").await?;
    let mut session = Session::default();
    let mut input = Vec::with_capacity(CHUNK);
    let mut output = Vec::new();
    loop {
        input.reserve(CHUNK);
        if reading.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
        let used = session.take(&input, &mut output, ledger);
        input.drain(..used);
        replies.send(&output).await?;
        output.clear();
        if session.over {
            return Ok(());
        }
    }
}

/// Where replies go: onto the wire, or onto a long way.
enum Replies {
    Near(OwnedWriteHalf),
    Far(mpsc::UnboundedSender<(tokio::time::Instant, Vec<u8>)>, Duration),
}

impl Replies {
    fn new(mut writing: OwnedWriteHalf, delay: Duration) -> Self {
        if delay.is_zero() {
            return Self::Near(writing);
        }
        // As many may be under way as the client dares to send before the first answer.
        let (outbox, mut inbox) = mpsc::unbounded_channel::<(tokio::time::Instant, Vec<u8>)>();
        tokio::spawn(async move {
            while let Some((due, bytes)) = inbox.recv().await {
                tokio::time::sleep_until(due).await;
                if writing.write_all(&bytes).await.is_err() {
                    return;
                }
            }
        });
        Self::Far(outbox, delay)
    }

    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Near(writing) => writing.write_all(bytes).await,
            Self::Far(outbox, delay) => {
                let due = tokio::time::Instant::now() + *delay;
                outbox.send((due, bytes.to_vec())).map_err(|_gone| io::ErrorKind::BrokenPipe.into())
            }
        }
    }
}

#[derive(Default)]
struct Session {
    in_data: bool,
    over: bool,
    /// The recipient of the mail in progress, if it is marked.
    marked: Option<String>,
}

impl Session {
    /// Answers what is complete in `input`; how much of it that was.
    fn take(&mut self, input: &[u8], output: &mut Vec<u8>, ledger: &Ledger) -> usize {
        let mut used = 0;
        loop {
            let rest = &input[used..];
            if self.in_data {
                let Some(end) = memchr::memmem::find(rest, b"\r\n.\r\n") else {
                    // The end may lie across two reads.
                    return used + rest.len().saturating_sub(4);
                };
                used += end + 5;
                self.in_data = false;
                ledger.taken.fetch_add(1, Ordering::Relaxed);
                if let Some(local) = self.marked.take() {
                    ledger.marked.lock().entry(local).or_insert_with(Instant::now);
                }
                output.extend_from_slice(b"250 2.0.0 taken\r\n");
            } else {
                let Some(end) = memchr::memchr(b'\n', rest) else { return used };
                used += end + 1;
                self.command(&rest[..end], output);
            }
        }
    }

    fn command(&mut self, line: &[u8], output: &mut Vec<u8>) {
        let verb = line.get(..4).unwrap_or_default().to_ascii_uppercase();
        let reply: &[u8] = match verb.as_slice() {
            b"EHLO" => {
                b"250-sink.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES\r\n"
            }
            b"DATA" => {
                self.in_data = true;
                b"354 go on\r\n"
            }
            b"RCPT" => {
                self.marked = marked(line);
                b"250 2.1.5 ok\r\n"
            }
            b"QUIT" => {
                self.over = true;
                b"221 2.0.0 bye\r\n"
            }
            _ => b"250 2.0.0 ok\r\n",
        };
        output.extend_from_slice(reply);
    }
}

/// The local part of a marked recipient in `RCPT TO:<local@domain>`.
fn marked(line: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(line).ok()?;
    let address = text.split_once('<')?.1.split_once('>')?.0;
    let (local, domain) = address.rsplit_once('@')?;
    (domain == MARK).then(|| local.to_owned())
}
