//! One connection to one host: set up, spoken over, ended.
//!
//! Promises: each phase has one deadline for the whole of it, however slowly bytes
//! trickle in; what is read is bounded by the reply parser; nothing is said while
//! unread bytes lie in the buffer that no command of ours asked for, so a reply
//! slipped in before the handshake (CVE-2021-38371) or ahead of its command ends
//! the session. On any fault the connection is dropped by its owner.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use futures_util::FutureExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::auth::{self, AuthRefusal, Mechanism};
use super::capability::Capabilities;
use super::command::{BodyWriter, Command, EhloName, LONE_DOT, Unwritable};
use super::metrics::{Metrics, OpenConnection};
use super::reply::{MAX_LINE, Reply, ReplyParser};
use super::stream::Stream;
use super::tls::{Tls, Trust};
use super::transaction::Standing;
use crate::config;
use crate::config::TlsMode;
use crate::domain::verdict::{Cause, Stage};
use crate::route::plan::Hop;

/// What broke while speaking.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// A deadline of ours ran out.
    #[error("timed out")]
    Timeout,
    /// The peer closed, or the network broke.
    #[error("{0}")]
    Lost(String),
    /// The peer does not speak SMTP as it should.
    #[error("{0}")]
    Protocol(String),
    /// Something of ours cannot be said in SMTP.
    #[error(transparent)]
    Unwritable(#[from] Unwritable),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Lost(error.to_string())
    }
}

impl From<Fault> for Cause {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Timeout => Self::Timeout,
            Fault::Lost(text) => Self::Connection(text),
            Fault::Protocol(text) => Self::Protocol(text),
            Fault::Unwritable(error) => Self::Capability(error.to_string()),
        }
    }
}

/// Why no session came about.
#[derive(Debug)]
pub struct OpenFailure {
    /// How far it came.
    pub stage: Stage,
    /// What was said or what broke.
    pub cause: Cause,
    /// Whether it was TLS that broke, so that a session in clear might do.
    pub tls_is_broken: bool,
}

/// All that setting up a connection needs.
#[derive(Clone, Copy)]
pub struct Opening<'a> {
    /// Where to.
    pub hop: &'a Hop,
    /// From which address, and under which name.
    pub source: &'a config::Source,
    /// The source's name, checked.
    pub ehlo: &'a EhloName,
    /// How much TLS; it may be less than the hop asks for.
    pub tls_mode: TlsMode,
    /// The client's side of TLS.
    pub tls: &'a Tls,
    /// Deadlines.
    pub limits: &'a config::Smtp,
    /// What to count.
    pub metrics: &'a Metrics,
}

/// A session with a peer, ready for mail.
pub struct Connection {
    stream: Stream,
    inbound: BytesMut,
    outbound: Vec<u8>,
    parser: ReplyParser,
    capabilities: Capabilities,
    tls: Option<Arc<str>>,
    /// What the last transaction left; `None` when the session cannot go on.
    standing: Option<Standing>,
    mails: u32,
    _counted: OpenConnection,
}

/// Pieces of a body that are written at once.
const BODY_PIECE: usize = 64 * 1024;

/// Memory that a parked connection may keep for writing.
const PARKED_OUTBOUND: usize = 16 * 1024;

impl Connection {
    /// Connects, greets, encrypts and logs in, as the hop asks.
    pub async fn open(opening: Opening<'_>) -> Result<Self, OpenFailure> {
        let Opening { hop, limits, tls_mode, .. } = opening;
        let stream = connect(hop.address, opening.source, limits.connect_timeout)
            .await
            .map_err(at(Stage::Connect))?;
        let mut connection = Self::new(stream, opening.metrics);
        if tls_mode == TlsMode::Implicit {
            connection = connection.encrypt(opening, Trust::Verified).await?;
        }
        connection.banner(limits.banner_timeout).await?;
        connection.hello(opening.ehlo, limits.ehlo_timeout).await?;
        let trust = match tls_mode {
            TlsMode::None | TlsMode::Implicit => None,
            TlsMode::Opportunistic if !connection.capabilities.starttls => None,
            TlsMode::Opportunistic | TlsMode::Required => Some(Trust::Anyone),
            TlsMode::Verified => Some(Trust::Verified),
        };
        if let Some(trust) = trust {
            connection = connection.start_tls(opening, trust).await?;
        }
        if let Some(auth) = &hop.auth {
            connection.log_in(auth, hop.address, limits.auth_timeout).await?;
        }
        Ok(connection)
    }

    fn new(stream: TcpStream, metrics: &Metrics) -> Self {
        Self {
            stream: Stream::Clear(stream),
            inbound: BytesMut::new(),
            outbound: Vec::new(),
            parser: ReplyParser::default(),
            capabilities: Capabilities::default(),
            tls: None,
            standing: Some(Standing::Clean),
            mails: 0,
            _counted: OpenConnection::new(&metrics.open),
        }
    }

    /// What the peer can do.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// Protocol version and cipher suite; `None` in clear.
    pub fn tls(&self) -> Option<&Arc<str>> {
        self.tls.as_ref()
    }

    /// Mails begun over this connection.
    pub fn mails(&self) -> u32 {
        self.mails
    }

    /// Begins a mail: from here until [`Connection::end_mail`] the session is not usable
    /// for another one.
    pub fn begin_mail(&mut self) -> Option<Standing> {
        self.mails = self.mails.saturating_add(1);
        self.standing.take()
    }

    /// The mail is over and the session can go on.
    pub fn end_mail(&mut self, standing: Standing) {
        self.standing = Some(standing);
    }

    /// Whether another mail may be begun.
    pub fn is_usable(&self) -> bool {
        self.standing.is_some() && !self.has_unread()
    }

    /// Whether the peer still is there, as far as can be told without asking it: it
    /// has neither closed nor said anything unasked (as a 421 for idling).
    pub fn is_alive(&mut self) -> bool {
        self.is_usable() && self.stream.read_buf(&mut self.inbound).now_or_never().is_none()
    }

    /// Whether bytes were read that no command asked for yet.
    pub fn has_unread(&self) -> bool {
        !self.inbound.is_empty() || self.parser.is_inside_a_reply()
    }

    /// Puts a command into the buffer; [`Connection::hear`] sends it.
    pub fn say(&mut self, command: Command<'_>) -> Result<(), Fault> {
        if self.has_unread() {
            return Err(unasked());
        }
        Ok(command.write(&mut self.outbound)?)
    }

    /// Sends what waits and reads one reply, all within `limit`.
    pub async fn hear(&mut self, limit: Duration) -> Result<Reply, Fault> {
        if self.outbound.is_empty()
            && let Some(reply) = self.parse()?
        {
            return Ok(reply);
        }
        within(limit, async {
            self.flush().await?;
            loop {
                if let Some(reply) = self.parse()? {
                    return Ok(reply);
                }
                self.inbound.reserve(MAX_LINE);
                if self.stream.read_buf(&mut self.inbound).await? == 0 {
                    return Err(Fault::Lost("the peer closed the connection".into()));
                }
            }
        })
        .await
    }

    /// Sends a body and the final dot. When this fails, the dot has not reached the
    /// peer: bytes leave in order, and an error means that the last of them did not.
    pub async fn send_body(&mut self, body: &[u8], limit: Duration) -> Result<(), Fault> {
        if self.has_unread() {
            return Err(unasked());
        }
        within(limit, async {
            let mut writer = BodyWriter::default();
            let mut pieces = body.chunks(BODY_PIECE).peekable();
            while let Some(piece) = pieces.next() {
                writer.push(piece, &mut self.outbound);
                if pieces.peek().is_some() {
                    self.flush().await?;
                }
            }
            writer.finish(&mut self.outbound);
            self.flush().await
        })
        .await
    }

    /// Ends a body that must not be delivered.
    pub async fn send_lone_dot(&mut self, limit: Duration) -> Result<(), Fault> {
        self.outbound.extend_from_slice(LONE_DOT);
        within(limit, self.flush()).await
    }

    /// Reads one more reply after a write failed, without sending what is left.
    pub async fn last_words(&mut self, limit: Duration) -> Result<Reply, Fault> {
        self.outbound.clear();
        self.hear(limit).await
    }

    /// Gives back memory before a time of waiting.
    pub fn slim_down(&mut self) {
        self.outbound.shrink_to(PARKED_OUTBOUND);
    }

    /// Takes leave. The peer's answer is awaited but does not matter.
    pub async fn quit(mut self, limit: Duration) {
        if self.say(Command::Quit).is_ok() {
            let _ = self.hear(limit).await;
        }
    }

    async fn banner(&mut self, limit: Duration) -> Result<(), OpenFailure> {
        let reply = self.hear(limit).await.map_err(at(Stage::Banner))?;
        if reply.code() == 220 { Ok(()) } else { Err(unwelcome(Stage::Banner, reply)) }
    }

    async fn hello(&mut self, name: &EhloName, limit: Duration) -> Result<(), OpenFailure> {
        let reply = self.ask(Command::Ehlo(name), limit).await.map_err(at(Stage::Ehlo))?;
        self.capabilities = if reply.is_positive() {
            Capabilities::from_ehlo(&reply)
        } else if reply.code() >= 500 {
            let reply = self.ask(Command::Helo(name), limit).await.map_err(at(Stage::Ehlo))?;
            if !reply.is_positive() {
                return Err(unwelcome(Stage::Ehlo, reply));
            }
            Capabilities::default()
        } else {
            return Err(unwelcome(Stage::Ehlo, reply));
        };
        Ok(())
    }

    async fn start_tls(mut self, opening: Opening<'_>, trust: Trust) -> Result<Self, OpenFailure> {
        if !self.capabilities.starttls {
            return Err(tls_failure("STARTTLS is not offered".into(), false));
        }
        let limits = opening.limits;
        let reply =
            self.ask(Command::StartTls, limits.tls_timeout).await.map_err(at(Stage::StartTls))?;
        if reply.code() != 220 {
            let tls_is_broken = reply.code() != 421;
            return Err(OpenFailure { tls_is_broken, ..unwelcome(Stage::StartTls, reply) });
        }
        if self.has_unread() {
            // Sent in clear, to be taken for an answer under TLS.
            return Err(at(Stage::StartTls)(unasked()));
        }
        let mut connection = self.encrypt(opening, trust).await?;
        connection.hello(opening.ehlo, limits.ehlo_timeout).await.map_err(|failure| {
            OpenFailure {
                // A peer may only now reject what was agreed in the handshake.
                tls_is_broken: matches!(failure.cause, Cause::Connection(_)),
                ..failure
            }
        })?;
        Ok(connection)
    }

    async fn encrypt(self, opening: Opening<'_>, trust: Trust) -> Result<Self, OpenFailure> {
        let Stream::Clear(stream) = self.stream else {
            return Err(tls_failure("the session is encrypted already".into(), false));
        };
        let handshake = opening.tls.connect(stream, &opening.hop.host, trust);
        let stream = match timeout(opening.limits.tls_timeout, handshake).await {
            Ok(Ok(stream)) => Stream::Tls(Box::new(stream)),
            Ok(Err(fault)) => return Err(tls_failure(fault.to_string(), true)),
            Err(_) => return Err(tls_failure("the handshake timed out".into(), true)),
        };
        let tls = stream.tls();
        Ok(Self { stream, tls, capabilities: Capabilities::default(), ..self })
    }

    async fn log_in(
        &mut self,
        auth: &config::Auth,
        peer: SocketAddr,
        limit: Duration,
    ) -> Result<(), OpenFailure> {
        let encrypted = self.tls.is_some();
        let mechanism =
            auth::choose(self.capabilities.auth, encrypted, peer.ip()).map_err(|refusal| {
                OpenFailure {
                    stage: Stage::Auth,
                    cause: match refusal {
                        AuthRefusal::InClear => Cause::Tls(refusal.to_string()),
                        AuthRefusal::NoMechanism => Cause::Protocol(refusal.to_string()),
                    },
                    tls_is_broken: false,
                }
            })?;
        let reply = within(limit, async {
            match mechanism {
                Mechanism::Plain => self.ask(Command::AuthPlain(&auth::plain(auth)), limit).await,
                Mechanism::Login => {
                    let mut reply = self.ask(Command::AuthLogin, limit).await?;
                    for answer in auth::login(auth) {
                        if reply.code() != 334 {
                            break;
                        }
                        reply = self.ask(Command::AuthAnswer(&answer), limit).await?;
                    }
                    Ok(reply)
                }
            }
        })
        .await;
        self.forget_outbound();
        let reply = reply.map_err(at(Stage::Auth))?;
        if reply.code() == 235 { Ok(()) } else { Err(unwelcome(Stage::Auth, reply)) }
    }

    /// One command, one reply.
    async fn ask(&mut self, command: Command<'_>, limit: Duration) -> Result<Reply, Fault> {
        self.say(command)?;
        self.hear(limit).await
    }

    async fn flush(&mut self) -> Result<(), Fault> {
        if !self.outbound.is_empty() {
            self.stream.write_all(&self.outbound).await?;
            self.stream.flush().await?;
            self.outbound.clear();
        }
        Ok(())
    }

    fn parse(&mut self) -> Result<Option<Reply>, Fault> {
        let (used, reply) =
            self.parser.feed(&self.inbound).map_err(|fault| Fault::Protocol(fault.to_string()))?;
        self.inbound.advance(used);
        Ok(reply)
    }

    /// Wipes what was written, for it held a password.
    fn forget_outbound(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.outbound);
    }
}

async fn connect(
    address: SocketAddr,
    source: &config::Source,
    limit: Duration,
) -> Result<TcpStream, Fault> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if let Some(local) = source.address {
        if local.is_ipv4() != address.is_ipv4() {
            let text = format!("source {} has no address of the host's family", source.name);
            return Err(Fault::Lost(text));
        }
        socket.bind(SocketAddr::new(local, 0))?;
    }
    // A mail is a few small writes, each of which the peer waits for.
    socket.set_nodelay(true)?;
    within(limit, async { Ok(socket.connect(address).await?) }).await
}

async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    timeout(limit, work).await.unwrap_or(Err(Fault::Timeout))
}

fn unasked() -> Fault {
    Fault::Protocol("expected silence, found a reply to nothing".into())
}

fn at(stage: Stage) -> impl FnOnce(Fault) -> OpenFailure {
    move |fault| OpenFailure { stage, cause: fault.into(), tls_is_broken: false }
}

fn unwelcome(stage: Stage, reply: Reply) -> OpenFailure {
    let cause = if reply.is_refusal() {
        Cause::Reply(reply.into_peer_reply())
    } else {
        Cause::Protocol(format!("unexpected reply {}", reply.into_peer_reply()))
    };
    OpenFailure { stage, cause, tls_is_broken: false }
}

fn tls_failure(text: String, tls_is_broken: bool) -> OpenFailure {
    OpenFailure { stage: Stage::StartTls, cause: Cause::Tls(text), tls_is_broken }
}
