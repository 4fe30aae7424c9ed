//! A receiver that takes so many mails in each second of its clock and defers the rest as a
//! large provider would, closing the connection; recipients whose names begin with `odd` it
//! answers in words that nobody knows. The number may change while it runs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What it says beyond its limit.
pub const TOO_FAST: &str = "421 4.7.28 Gmail has detected an unusual rate of unsolicited mail \
                            originating from your IP address. To protect our users from spam, mail \
                            sent from your IP address has been temporarily rate limited.";

/// Longest wait for anything; only a broken program reaches it.
const PATIENCE: Duration = Duration::from_secs(90);

/// A running one; it ends with this value.
pub struct StrictPeer {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

struct Shared {
    limit: AtomicU32,
    taken: AtomicU64,
    deferred: AtomicU64,
    began: Instant,
    second: Mutex<(u64, u32)>,
}

impl StrictPeer {
    /// Takes `limit` a second, on a port of its own.
    pub async fn start(limit: u32) -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), limit).await
    }

    /// The same where it is told.
    pub async fn start_at(address: SocketAddr, limit: u32) -> Self {
        let listener = TcpListener::bind(address).await.expect("a port of loopback");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            limit: AtomicU32::new(limit),
            taken: AtomicU64::new(0),
            deferred: AtomicU64::new(0),
            began: Instant::now(),
            second: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        let server = Arc::clone(&shared);
        tasks.spawn(async move {
            let mut sessions = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                sessions.spawn(session(Arc::clone(&server), stream));
            }
        });
        Self { address, shared, _tasks: tasks }
    }

    /// Takes so many a second from now on.
    pub fn relent(&self, limit: u32) {
        self.shared.limit.store(limit, Ordering::Relaxed);
    }

    /// Mails taken and deferred so far.
    pub fn counts(&self) -> (u64, u64) {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (of(&self.shared.taken), of(&self.shared.deferred))
    }

    /// Waits until so many were taken.
    pub async fn has_taken(&self, n: u64) {
        let started = Instant::now();
        while self.counts().0 < n {
            assert!(started.elapsed() < PATIENCE, "{:?} of {n}", self.counts());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Shared {
    fn takes_one(&self) -> bool {
        let now = self.began.elapsed().as_secs();
        let mut second = self.second.lock();
        if second.0 != now {
            *second = (now, 0);
        }
        let takes = second.1 < self.limit.load(Ordering::Relaxed);
        second.1 += u32::from(takes);
        let count = if takes { &self.taken } else { &self.deferred };
        count.fetch_add(1, Ordering::Relaxed);
        takes
    }
}

/// A client that leaves ends its session; nothing is to be done about it.
async fn session(shared: Arc<Shared>, stream: TcpStream) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut stream = BufReader::new(stream);
    say(&mut stream, "220 strict.test ESMTP").await?;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_ascii_uppercase();
        let verb = line.split([' ', ':']).next().unwrap_or_default();
        match verb {
            "EHLO" => say(&mut stream, "250-strict.test\r\n250-PIPELINING\r\n250 8BITMIME").await?,
            "RCPT" if line.contains("<ODD") => {
                let address = line.split(['<', '>']).nth(1).unwrap_or_default().to_lowercase();
                let text = format!("550 <{address}> was frobnicated, ticket 88127{}", line.len());
                say(&mut stream, &text).await?;
            }
            "DATA" => {
                say(&mut stream, "354 go ahead").await?;
                let mut text = Vec::new();
                while text != b".\r\n" {
                    text.clear();
                    if stream.read_until(b'\n', &mut text).await.ok()? == 0 {
                        return None;
                    }
                }
                if !shared.takes_one() {
                    return say(&mut stream, TOO_FAST).await;
                }
                say(&mut stream, "250 2.0.0 taken").await?;
            }
            "QUIT" => return say(&mut stream, "221 2.0.0 bye").await,
            _ => say(&mut stream, "250 2.0.0 ok").await?,
        }
    }
}

async fn say(stream: &mut BufReader<TcpStream>, text: &str) -> Option<()> {
    stream.write_all(format!("{text}\r\n").as_bytes()).await.ok()
}
