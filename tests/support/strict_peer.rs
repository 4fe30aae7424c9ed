//! A receiver that takes so many mails in each second of its clock and defers the rest as a
//! large provider would; recipients whose names begin with `odd` it answers in words that
//! nobody knows.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::quota::Quota;

/// What a large mailbox provider says beyond its limit, and closes the connection.
pub const TOO_FAST: &str = "421 4.7.28 Gmail has detected an unusual rate of unsolicited mail \
                            originating from your IP address. To protect our users from spam, mail \
                            sent from your IP address has been temporarily rate limited.";

/// What Amazon SES says over SMTP beyond the account's rate.
pub const THROTTLED: &str = "454 Throttling failure: Maximum sending rate exceeded.";

/// A running one; it ends with this value.
pub struct StrictPeer {
    pub address: SocketAddr,
    pub quota: Arc<Quota>,
    _tasks: JoinSet<()>,
}

impl StrictPeer {
    /// Takes `limit` a second, on a port of its own.
    pub async fn start(limit: u32) -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), limit).await
    }

    /// The same where it is told.
    pub async fn start_at(address: SocketAddr, limit: u32) -> Self {
        Self::saying(TOO_FAST, address, limit).await
    }

    /// The same with these words for what it defers; after a 421 it closes the connection.
    pub async fn saying(words: &'static str, address: SocketAddr, limit: u32) -> Self {
        let listener = TcpListener::bind(address).await.expect("a port of loopback");
        let address = listener.local_addr().expect("it is bound");
        let quota = Arc::new(Quota::new(limit));
        let mut tasks = JoinSet::new();
        let of_sessions = Arc::clone(&quota);
        tasks.spawn(async move {
            let mut sessions = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                sessions.spawn(session(Arc::clone(&of_sessions), words, stream));
            }
        });
        Self { address, quota, _tasks: tasks }
    }
}

/// A client that leaves ends its session; nothing is to be done about it.
async fn session(quota: Arc<Quota>, words: &'static str, stream: TcpStream) -> Option<()> {
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
                let takes = quota.takes_one();
                say(&mut stream, if takes { "250 2.0.0 taken" } else { words }).await?;
                if !takes && words.starts_with("421") {
                    return None;
                }
            }
            "QUIT" => return say(&mut stream, "221 2.0.0 bye").await,
            _ => say(&mut stream, "250 2.0.0 ok").await?,
        }
    }
}

async fn say(stream: &mut BufReader<TcpStream>, text: &str) -> Option<()> {
    stream.write_all(format!("{text}\r\n").as_bytes()).await.ok()
}
