//! The mailbox at the other end, written for this proof and for nothing else: it shares no
//! code with the sender, so that its records are evidence.
//!
//! Every mail is recorded when its dot has been read, before it is answered: recipient,
//! Message-ID, author, sender's name, time, and whether the 250 was handed to the kernel.
//! The records also go to a file as they come. A [`Trap`] tells a case of the moment when a
//! sender has come to a certain point, and holds that sender there.

use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::io::{self, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// One mail, taken for one recipient.
#[derive(Debug, Clone)]
pub(crate) struct Taken {
    /// Since the receiver started.
    pub(crate) at: Duration,
    /// Envelope recipient.
    pub(crate) recipient: String,
    /// The header, with its brackets.
    pub(crate) message_id: String,
    /// Envelope sender.
    pub(crate) from: String,
    /// What the sender calls itself in EHLO: one name per replica.
    pub(crate) sender: String,
}

/// Where a sender is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Point {
    /// It has been told 354 and its body is coming.
    InData,
    /// Its mail is recorded and the 250 not yet written.
    BeforeReply,
    /// The 250 is written.
    AfterReply,
}

/// Held at a [`Point`]: who it is, and the string that lets it go on.
pub(crate) struct Caught {
    /// Its EHLO name.
    pub(crate) sender: String,
    /// Dropping it lets the sender go on.
    pub(crate) hold: CancellationToken,
}

struct Trap {
    point: Point,
    /// Passes so many before it catches one.
    after: u32,
    told: oneshot::Sender<Caught>,
}

/// A running receiver.
pub(crate) struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: CancellationToken,
}

struct Shared {
    started: Instant,
    taken: Mutex<Vec<Taken>>,
    file: Mutex<File>,
    trap: Mutex<Option<Trap>>,
    manners: Mutex<Manners>,
    connections: AtomicUsize,
    most_connections: AtomicUsize,
    illegal: Mutex<Vec<String>>,
}

/// How it behaves towards everyone.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Manners {
    /// Wait before the banner.
    pub(crate) banner: Duration,
    /// Wait before the answer to the dot.
    pub(crate) dot: Duration,
}

impl Receiver {
    /// Listens on a free port and records to `file`.
    pub(crate) async fn start(file: &Path, manners: Manners) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            started: Instant::now(),
            taken: Mutex::default(),
            file: Mutex::new(File::create(file)?),
            trap: Mutex::default(),
            manners: Mutex::new(manners),
            connections: AtomicUsize::new(0),
            most_connections: AtomicUsize::new(0),
            illegal: Mutex::default(),
        });
        let stop = CancellationToken::new();
        let (ours, stopped) = (Arc::clone(&shared), stop.clone());
        tokio::spawn(async move {
            while let Some(accepted) = stopped.run_until_cancelled(listener.accept()).await {
                let Ok((stream, _)) = accepted else { continue };
                let (shared, stopped) = (Arc::clone(&ours), stopped.clone());
                tokio::spawn(async move {
                    let now = shared.connections.fetch_add(1, Ordering::Relaxed) + 1;
                    shared.most_connections.fetch_max(now, Ordering::Relaxed);
                    // Senders are killed here; how their connections end says nothing.
                    let _ = stopped.run_until_cancelled(shared.serve(stream)).await;
                    shared.connections.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        Ok(Self { address, shared, stop })
    }

    /// Where it takes mail.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// All records so far.
    pub(crate) fn taken(&self) -> Vec<Taken> {
        self.shared.taken.lock().clone()
    }

    /// Gives the records after so many, whenever it is asked.
    pub(crate) fn watch(&self) -> impl Fn(usize) -> Vec<Taken> + Send + 'static {
        let shared = Arc::clone(&self.shared);
        move |after| shared.taken.lock().get(after..).map(<[Taken]>::to_vec).unwrap_or_default()
    }

    /// How many mails were taken.
    pub(crate) fn count(&self) -> usize {
        self.shared.taken.lock().len()
    }

    /// Whether a mail to this recipient was taken.
    pub(crate) fn has(&self, recipient: &str) -> bool {
        self.shared.taken.lock().iter().rev().any(|taken| taken.recipient == recipient)
    }

    /// Most connections at once.
    pub(crate) fn most_connections(&self) -> usize {
        self.shared.most_connections.load(Ordering::Relaxed)
    }

    /// What came over the wire that must not.
    pub(crate) fn illegal(&self) -> Vec<String> {
        self.shared.illegal.lock().clone()
    }

    /// Changes its manners from now on.
    pub(crate) fn behave(&self, manners: Manners) {
        *self.shared.manners.lock() = manners;
    }

    /// Catches a sender at `point`, after so many have passed it.
    pub(crate) fn trap(&self, point: Point, after: u32) -> oneshot::Receiver<Caught> {
        let (told, caught) = oneshot::channel();
        *self.shared.trap.lock() = Some(Trap { point, after, told });
        caught
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Shared {
    async fn serve(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let (reader, mut out) = stream.into_split();
        let mut reader = BufReader::new(reader);
        let manners = *self.manners.lock();
        tokio::time::sleep(manners.banner).await;
        out.write_all(b"220 receiver.localhost ESMTP\r\n").await?;
        let (mut sender, mut from, mut to) = (String::new(), String::new(), Vec::new());
        let mut line = Vec::new();
        loop {
            line.clear();
            // A command longer than this is none of ours.
            if (&mut reader).take(4_096).read_until(b'\n', &mut line).await? == 0 {
                return Ok(());
            }
            let Some(text) = line.strip_suffix(b"\r\n").and_then(|l| std::str::from_utf8(l).ok())
            else {
                self.illegal.lock().push(format!("a command that is no line: {line:?}"));
                return Ok(());
            };
            let (verb, rest) = text.split_once([' ', ':']).unwrap_or((text, ""));
            let reply: &[u8] = match verb.to_ascii_uppercase().as_str() {
                "EHLO" | "HELO" => {
                    rest.clone_into(&mut sender);
                    b"250-receiver.localhost\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES\r\n"
                }
                "MAIL" => {
                    from = path(rest);
                    to.clear();
                    b"250 2.1.0 ok\r\n"
                }
                "RCPT" => {
                    to.push(path(rest));
                    b"250 2.1.5 ok\r\n"
                }
                "DATA" if to.is_empty() => b"554 5.5.1 nobody to write to\r\n",
                "DATA" => {
                    out.write_all(b"354 go on\r\n").await?;
                    self.pass(Point::InData, &sender).await;
                    let message_id = self.read_mail(&mut reader).await?;
                    self.record(&to, &from, &message_id, &sender);
                    let dot = self.manners.lock().dot;
                    tokio::time::sleep(dot).await;
                    self.pass(Point::BeforeReply, &sender).await;
                    out.write_all(b"250 2.0.0 taken\r\n").await?;
                    self.pass(Point::AfterReply, &sender).await;
                    continue;
                }
                "RSET" | "NOOP" => b"250 2.0.0 ok\r\n",
                "QUIT" => {
                    out.write_all(b"221 2.0.0 bye\r\n").await?;
                    return Ok(());
                }
                _ => b"500 5.5.1 unknown\r\n",
            };
            out.write_all(reply).await?;
        }
    }

    /// Reads up to the dot; gives back the Message-ID.
    async fn read_mail(&self, reader: &mut (impl AsyncBufReadExt + Unpin)) -> io::Result<String> {
        let (mut id, mut headers, mut line) = (String::new(), true, Vec::new());
        loop {
            line.clear();
            if reader.read_until(b'\n', &mut line).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let Some(text) = line.strip_suffix(b"\r\n") else {
                self.illegal.lock().push("a lone LF in a mail".into());
                continue;
            };
            if text == b"." {
                return Ok(id);
            }
            if text.len() > 998 || text.contains(&b'\r') || text.contains(&0) {
                self.illegal
                    .lock()
                    .push("a line of a mail that is too long or holds CR, NUL".into());
            }
            headers &= !text.is_empty();
            let is_id = text.len() > 11 && text[..11].eq_ignore_ascii_case(b"message-id:");
            if headers && is_id {
                id = String::from_utf8_lossy(&text[11..]).trim().to_owned();
            }
        }
    }

    fn record(&self, to: &[String], from: &str, message_id: &str, sender: &str) {
        let at = self.started.elapsed();
        for recipient in to {
            let line = format!("{}\t{recipient}\t{message_id}\t{from}\t{sender}\n", at.as_micros());
            // The list in memory is what is judged; the file is for people.
            let _ = self.file.lock().write_all(line.as_bytes());
            self.taken.lock().push(Taken {
                at,
                recipient: recipient.clone(),
                message_id: message_id.to_owned(),
                from: from.to_owned(),
                sender: sender.to_owned(),
            });
        }
    }

    /// Springs the trap if it is set for this point.
    async fn pass(&self, point: Point, sender: &str) {
        let sprung = {
            let mut trap = self.trap.lock();
            match trap.as_mut() {
                Some(set) if set.point == point && set.after == 0 => trap.take(),
                Some(set) if set.point == point => {
                    set.after -= 1;
                    None
                }
                _ => None,
            }
        };
        if let Some(trap) = sprung {
            let hold = CancellationToken::new();
            let caught = Caught { sender: sender.to_owned(), hold: hold.clone() };
            if trap.told.send(caught).is_ok() {
                hold.cancelled().await;
            }
        }
    }
}

/// `FROM:<a@b> SIZE=3` or `<a@b>` without the brackets.
fn path(rest: &str) -> String {
    let start = rest.find('<').map_or(0, |at| at + 1);
    let end = rest[start..].find('>').map_or(rest.len(), |at| start + at);
    rest[start..end].to_owned()
}
