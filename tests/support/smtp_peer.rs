//! An SMTP server that does what a test tells it: answers each command as scripted,
//! keeps silent, waits for a signal, drops the connection, speaks real TLS; and
//! writes down all it receives.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

pub use super::certificate::Certificate;

/// What the peer does when a command comes.
#[derive(Debug, Clone)]
pub enum Act {
    /// Writes this, and CRLF behind it.
    Reply(String),
    /// Writes this and closes.
    ReplyAndDrop(String),
    /// Closes.
    Drop,
    /// Never answers.
    Silence,
    /// Writes a byte of this each time so many milliseconds went by.
    Trickle(String, u64),
    /// Waits for the signal, then goes on.
    After(Arc<Notify>, Box<Act>),
}

impl Act {
    pub fn reply(text: &str) -> Self {
        Self::Reply(text.into())
    }
}

/// How the peer behaves. Stages: `connect`, a command's first word in upper case,
/// `handshake`, `body` (the 354 is out), `.` (the dot came).
#[derive(Clone, Default)]
pub struct Script {
    offers: Vec<String>,
    offers_under_tls: Option<Vec<String>>,
    once: HashMap<&'static str, VecDeque<Act>>,
    always: HashMap<&'static str, Act>,
    certificate: Option<Certificate>,
    implicit: bool,
    deaf_behind_bodies: bool,
}

impl Script {
    /// An agreeable server with these capabilities.
    pub fn offering(capabilities: &[&str]) -> Self {
        let offers = capabilities.iter().map(|&c| c.to_owned()).collect();
        Self { offers, ..Self::default() }
    }

    /// The usual one.
    pub fn pipelining() -> Self {
        Self::offering(&["PIPELINING", "8BITMIME", "SIZE 1000000"])
    }

    /// The usual one, with TLS.
    pub fn with_tls(certificate: &Certificate) -> Self {
        let mut script = Self::offering(&["PIPELINING", "8BITMIME", "STARTTLS"]);
        script.offers_under_tls = Some(vec!["PIPELINING".into(), "8BITMIME".into()]);
        script.certificate = Some(certificate.clone());
        script
    }

    /// TLS from the first byte.
    pub fn implicit(mut self) -> Self {
        self.implicit = true;
        self
    }

    /// Capabilities once TLS is on.
    pub fn offering_under_tls(mut self, capabilities: &[&str]) -> Self {
        self.offers_under_tls = Some(capabilities.iter().map(|&c| c.to_owned()).collect());
        self
    }

    /// Offers PIPELINING and drops what came behind a body.
    pub fn deaf_behind_bodies(mut self) -> Self {
        self.deaf_behind_bodies = true;
        self
    }

    /// Does this every time.
    pub fn on(mut self, stage: &'static str, act: Act) -> Self {
        self.always.insert(stage, act);
        self
    }

    /// Does this the next time only; several calls line up.
    pub fn once(mut self, stage: &'static str, act: Act) -> Self {
        self.once.entry(stage).or_default().push_back(act);
        self
    }

    pub async fn start(self) -> Peer {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has ports");
        let address = listener.local_addr().expect("it is bound");
        let (record, seen) = watch::channel(Record::default());
        let shared = Arc::new(Shared { script: Mutex::new(self), record });
        let mut tasks = JoinSet::new();
        let server = Arc::clone(&shared);
        tasks.spawn(async move {
            let mut sessions = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).expect("a socket");
                sessions.spawn(session(Arc::clone(&server), Box::new(stream)));
            }
        });
        Peer { address, seen, shared, _tasks: tasks }
    }
}

/// A running server; it ends with this value.
pub struct Peer {
    pub address: SocketAddr,
    seen: watch::Receiver<Record>,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

/// All that came.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Connections ever accepted.
    pub connections: usize,
    /// Connections open now.
    pub open: usize,
    /// The most that ever were open at once.
    pub most_open: usize,
    /// Connection number and command line.
    pub commands: Vec<(usize, String)>,
    /// Bodies whose dot came.
    pub bodies: Vec<Body>,
    /// How many bytes came in one piece with MAIL, RCPT and DATA.
    pub pipelined: bool,
}

/// One body.
#[derive(Debug, Clone)]
pub struct Body {
    pub connection: usize,
    /// With doubled dots, without the last one's line.
    pub raw: Vec<u8>,
    /// As the sender meant it.
    pub bytes: Vec<u8>,
    pub encrypted: bool,
    /// Whether a 2xx was the answer to its dot.
    pub accepted: bool,
    /// Whether MAIL, RCPT and DATA of the next one came in one piece with its end.
    pub followed: bool,
}

impl Peer {
    pub fn record(&self) -> Record {
        self.seen.borrow().clone()
    }

    /// Bodies that were taken.
    pub fn accepted(&self) -> Vec<Body> {
        self.record().bodies.into_iter().filter(|body| body.accepted).collect()
    }

    /// Waits until the record is so.
    pub async fn until(&self, condition: impl FnMut(&Record) -> bool) -> Record {
        self.seen.clone().wait_for(condition).await.expect("the peer runs").clone()
    }

    /// First words of the commands of one connection.
    pub fn verbs(&self, connection: usize) -> Vec<String> {
        self.record()
            .commands
            .iter()
            .filter(|(number, _)| *number == connection)
            .map(|(_, line)| verb_of(line))
            .collect()
    }

    /// Changes the behaviour from now on.
    pub fn now_on(&self, stage: &'static str, act: Act) {
        self.shared.script.lock().always.insert(stage, act);
    }
}

struct Shared {
    script: Mutex<Script>,
    record: watch::Sender<Record>,
}

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

type Stream = BufReader<Box<dyn Io>>;

/// Counts a connection as open for as long as it lives.
struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.record.send_modify(|record| record.open -= 1);
    }
}

async fn session(shared: Arc<Shared>, stream: Box<dyn Io>) {
    let mut number = 0;
    shared.record.send_modify(|record| {
        number = record.connections;
        record.connections += 1;
        record.open += 1;
        record.most_open = record.most_open.max(record.open);
    });
    let open = Open(Arc::clone(&shared));
    // A client that leaves in the middle is what many tests are about.
    let _ = Session { shared, number, encrypted: false }.serve(BufReader::new(stream)).await;
    drop(open);
}

struct Session {
    shared: Arc<Shared>,
    number: usize,
    encrypted: bool,
}

impl Session {
    async fn serve(mut self, mut stream: Stream) -> io::Result<()> {
        if self.shared.script.lock().implicit {
            stream = self.handshake(stream).await?;
        }
        self.act(&mut stream, "connect", "220 peer.test ESMTP").await?;
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let rest = String::from_utf8_lossy(stream.buffer()).into_owned();
            let verb = verb_of(&line);
            self.shared.record.send_modify(|record| {
                record.commands.push((self.number, line.trim_end().to_owned()));
                record.pipelined |=
                    verb == "MAIL" && rest.contains("RCPT") && rest.contains("DATA");
            });
            match verb.as_str() {
                "EHLO" => {
                    let hello = self.hello();
                    self.act(&mut stream, "EHLO", &hello).await?;
                }
                "STARTTLS" => {
                    if self.act(&mut stream, "STARTTLS", "220 go ahead").await?.starts_with('2') {
                        stream = self.handshake(stream).await?;
                    }
                }
                "DATA" => {
                    if self.act(&mut stream, "DATA", "354 go ahead").await?.starts_with('3') {
                        self.act(&mut stream, "body", "").await?;
                        self.body(&mut stream).await?;
                    }
                }
                "BDAT" => {
                    let octets = line.split(' ').nth(1).and_then(|n| n.parse().ok());
                    let mut bytes = vec![0; octets.expect("a number of octets")];
                    self.act(&mut stream, "body", "").await?;
                    stream.read_exact(&mut bytes).await?;
                    self.took(&mut stream, bytes.clone(), bytes).await?;
                }
                "QUIT" => {
                    self.act(&mut stream, "QUIT", "221 bye").await?;
                    return Ok(());
                }
                "HELO" => drop(self.act(&mut stream, "HELO", "250 peer.test").await?),
                "MAIL" => drop(self.act(&mut stream, "MAIL", "250 2.1.0 ok").await?),
                "RCPT" => drop(self.act(&mut stream, "RCPT", "250 2.1.5 ok").await?),
                "RSET" => drop(self.act(&mut stream, "RSET", "250 2.0.0 ok").await?),
                "AUTH" => drop(self.act(&mut stream, "AUTH", "235 2.7.0 welcome").await?),
                _ => drop(self.act(&mut stream, "*", "500 5.5.1 what?").await?),
            }
        }
    }

    fn hello(&self) -> String {
        let script = self.shared.script.lock();
        let offers = match &script.offers_under_tls {
            Some(offers) if self.encrypted => offers,
            _ => &script.offers,
        };
        let mut hello = String::from("250-peer.test");
        for offer in offers {
            hello.push_str("\r\n250-");
            hello.push_str(offer);
        }
        hello + "\r\n250 HELP"
    }

    async fn handshake(&mut self, mut stream: Stream) -> io::Result<Stream> {
        if let Some(act) = self.next("handshake") {
            // What comes before the client's first word would be plaintext in the wrong place.
            stream.fill_buf().await?;
            perform(&mut stream, act).await?;
        }
        let config = self.shared.script.lock().certificate.clone().map(|c| c.server());
        let config = config.ok_or_else(|| io::Error::other("no certificate"))?;
        let stream = TlsAcceptor::from(config).accept(stream.into_inner()).await?;
        self.encrypted = true;
        Ok(BufReader::new(Box::new(stream)))
    }

    async fn body(&mut self, stream: &mut Stream) -> io::Result<()> {
        let (mut raw, mut bytes) = (Vec::new(), Vec::new());
        loop {
            let mut line = Vec::new();
            if stream.read_until(b'\n', &mut line).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if line == b".\r\n" {
                break;
            }
            raw.extend_from_slice(&line);
            bytes.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
        }
        self.took(stream, raw, bytes).await
    }

    /// A whole body came.
    async fn took(&mut self, stream: &mut Stream, raw: Vec<u8>, bytes: Vec<u8>) -> io::Result<()> {
        let (connection, encrypted) = (self.number, self.encrypted);
        let behind = String::from_utf8_lossy(stream.buffer()).into_owned();
        let followed = ["MAIL", "RCPT", "DATA"].iter().all(|verb| behind.contains(verb));
        if self.shared.script.lock().deaf_behind_bodies {
            let dropped = stream.buffer().len();
            stream.consume(dropped);
        }
        let mut index = 0;
        self.shared.record.send_modify(|record| {
            index = record.bodies.len();
            let accepted = false;
            record.bodies.push(Body { connection, raw, bytes, encrypted, accepted, followed });
        });
        let reply = self.next(".").unwrap_or(Act::reply("250 2.0.0 taken"));
        if let Act::Reply(text) | Act::ReplyAndDrop(text) = innermost(&reply)
            && text.starts_with('2')
        {
            self.shared.record.send_modify(|record| record.bodies[index].accepted = true);
        }
        perform(stream, reply).await.map(drop)
    }

    fn next(&self, stage: &'static str) -> Option<Act> {
        let mut script = self.shared.script.lock();
        let once = script.once.get_mut(stage).and_then(VecDeque::pop_front);
        once.or_else(|| script.always.get(stage).cloned())
    }

    /// Does what the script says, or what is usual; gives back what was replied.
    async fn act(
        &self,
        stream: &mut Stream,
        stage: &'static str,
        usual: &str,
    ) -> io::Result<String> {
        match self.next(stage) {
            Some(act) => perform(stream, act).await,
            None if usual.is_empty() => Ok(String::new()),
            None => perform(stream, Act::reply(usual)).await,
        }
    }
}

fn innermost(act: &Act) -> &Act {
    match act {
        Act::After(_, next) => innermost(next),
        act => act,
    }
}

async fn perform(stream: &mut Stream, act: Act) -> io::Result<String> {
    let mut act = act;
    loop {
        match act {
            Act::Reply(text) => {
                stream.write_all(format!("{text}\r\n").as_bytes()).await?;
                stream.flush().await?;
                return Ok(text);
            }
            Act::ReplyAndDrop(text) => {
                stream.write_all(format!("{text}\r\n").as_bytes()).await?;
                stream.flush().await?;
                stream.shutdown().await?;
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            Act::Drop => return Err(io::ErrorKind::ConnectionAborted.into()),
            Act::Silence => std::future::pending().await,
            Act::Trickle(text, pause) => {
                for byte in text.bytes() {
                    tokio::time::sleep(std::time::Duration::from_millis(pause)).await;
                    stream.write_all(&[byte]).await?;
                }
                return Ok(text);
            }
            Act::After(signal, next) => {
                signal.notified().await;
                act = *next;
            }
        }
    }
}

fn verb_of(line: &str) -> String {
    line.split([' ', '\r', '\n', ':']).next().unwrap_or_default().to_ascii_uppercase()
}
