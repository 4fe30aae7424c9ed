//! One connection to one host: spoken over, and ended (`open.rs` sets it up).
//!
//! Promises: each phase has one deadline for the whole of it, however slowly bytes
//! trickle in; what is read is bounded by the reply parser; nothing is said while
//! unread bytes lie in the buffer that no command of ours asked for, so a reply
//! slipped in before the handshake (CVE-2021-38371) or ahead of its command ends
//! the session. On any fault the connection is dropped by its owner.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use futures_util::FutureExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::capability::Capabilities;
use super::command::{BodyWriter, Command, LONE_DOT, Unwritable};
use super::metrics::{Metrics, OpenConnection};
use super::reply::{MAX_LINE, Reply, ReplyParser};
use super::stream::Stream;
use super::transaction::Standing;
use crate::domain::trace::Notes;
use crate::domain::verdict::Cause;
use crate::telemetry::traces;

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

/// A body did not get through.
#[derive(Debug)]
pub struct Cut {
    /// What broke.
    pub fault: Fault,
    /// Whether the body's end may have reached the peer all the same: something was to go
    /// out behind it.
    pub end_may_be_out: bool,
}

/// A session with a peer, ready for mail.
pub struct Connection {
    stream: Stream,
    inbound: BytesMut,
    outbound: Vec<u8>,
    /// How much of that has left.
    written: usize,
    parser: ReplyParser,
    capabilities: Capabilities,
    tls: Option<Arc<str>>,
    /// What the last transaction left; `None` when the session cannot go on.
    standing: Option<Standing>,
    mails: u32,
    /// How long the last body's reply took.
    took: Option<Duration>,
    /// What was passed since the last letter, for the trace of the one at hand.
    notes: Notes,
    counted: OpenConnection,
}

/// What stays of a connection while its socket shakes hands.
pub(super) struct Bare(OpenConnection, Notes);

/// Pieces of a body that are written at once.
const BODY_PIECE: usize = 64 * 1024;

/// Memory that a parked connection may keep for writing.
const PARKED_OUTBOUND: usize = 16 * 1024;

impl Connection {
    /// A connection over which nothing was said yet.
    pub(super) fn new(stream: TcpStream, metrics: &Metrics) -> Self {
        let mut notes = Notes::new(traces::are_on());
        notes.mark("connected");
        Self::over(Stream::Clear(stream), OpenConnection::new(&metrics.open), notes)
    }

    fn over(stream: Stream, counted: OpenConnection, notes: Notes) -> Self {
        Self {
            stream,
            inbound: BytesMut::new(),
            outbound: Vec::new(),
            written: 0,
            parser: ReplyParser::default(),
            capabilities: Capabilities::default(),
            tls: None,
            standing: Some(Standing::Clean),
            mails: 0,
            took: None,
            notes,
            counted,
        }
    }

    /// What the peer can do.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// Notes what the peer can do.
    pub(super) fn learn(&mut self, capabilities: Capabilities) {
        self.capabilities = capabilities;
    }

    /// Takes the socket out, to put it under TLS; `None` if it is already.
    pub(super) fn into_clear(self) -> Option<(TcpStream, Bare)> {
        let Stream::Clear(stream) = self.stream else { return None };
        Some((stream, Bare(self.counted, self.notes)))
    }

    /// The same connection under TLS. Nothing of what was said in clear is kept
    /// (RFC 3207 4.2).
    pub(super) fn under_tls(bare: Bare, stream: TlsStream<TcpStream>) -> Self {
        let Bare(counted, mut notes) = bare;
        notes.mark("encrypted");
        let stream = Stream::Tls(Box::new(stream));
        let tls = stream.tls();
        Self { tls, ..Self::over(stream, counted, notes) }
    }

    /// What was passed since it was asked last.
    pub fn notes(&mut self) -> &mut Notes {
        &mut self.notes
    }

    /// Protocol version and cipher suite; `None` in clear.
    pub fn tls(&self) -> Option<&Arc<str>> {
        self.tls.as_ref()
    }

    /// Mails begun over this connection.
    pub fn mails(&self) -> u32 {
        self.mails
    }

    /// Notes how long the reply to a body took.
    pub fn answered_within(&mut self, took: Duration) {
        self.took = Some(took);
    }

    /// How long the reply to the last body took.
    pub fn last_answer(&self) -> Option<Duration> {
        self.took
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
        matches!(self.standing, Some(Standing::Clean | Standing::Open)) && !self.has_unread()
    }

    /// Whether the next mail's envelope is on its way already.
    pub fn has_begun(&self) -> bool {
        self.standing == Some(Standing::Begun)
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

    /// Sends a body, the final dot, and in the same write what goes behind it: commands of
    /// the next mail, or nothing. When this fails with nothing behind, the dot has not
    /// reached the peer: bytes leave in order, and an error means that the last of them
    /// did not.
    pub async fn send_body(
        &mut self,
        body: &[u8],
        behind: &[u8],
        limit: Duration,
    ) -> Result<(), Cut> {
        if self.has_unread() {
            return Err(Cut { fault: unasked(), end_may_be_out: false });
        }
        let mut end = usize::MAX;
        let sent = within(limit, async {
            let mut writer = BodyWriter::default();
            let mut pieces = body.chunks(BODY_PIECE).peekable();
            while let Some(piece) = pieces.next() {
                writer.push(piece, &mut self.outbound);
                if pieces.peek().is_some() {
                    self.flush().await?;
                }
            }
            writer.finish(&mut self.outbound);
            end = self.outbound.len();
            self.outbound.extend_from_slice(behind);
            self.flush().await
        })
        .await;
        sent.map_err(|fault| {
            let end_may_be_out = !behind.is_empty() && self.written >= end;
            Cut { fault, end_may_be_out }
        })
    }

    /// Sends a body in one chunk. Like [`Connection::send_body`], a failure means that the
    /// peer has not got all of it. Nothing of the body but its first piece is copied.
    pub async fn send_chunk(&mut self, body: &[u8], limit: Duration) -> Result<(), Fault> {
        if self.has_unread() {
            return Err(unasked());
        }
        within(limit, async {
            Command::LastChunk(body.len() as u64).write(&mut self.outbound)?;
            let (first, rest) = body.split_at(body.len().min(BODY_PIECE));
            self.outbound.extend_from_slice(first);
            self.flush().await?;
            self.stream.write_all(rest).await?;
            Ok(self.stream.flush().await?)
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

    /// One command, one reply.
    pub(super) async fn ask(
        &mut self,
        command: Command<'_>,
        limit: Duration,
    ) -> Result<Reply, Fault> {
        self.say(command)?;
        self.hear(limit).await
    }

    async fn flush(&mut self) -> Result<(), Fault> {
        self.written = 0;
        while let Some(rest) = self.outbound.get(self.written..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest).await? {
                0 => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                written => self.written += written,
            }
        }
        if self.written > 0 {
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
    pub(super) fn forget_outbound(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.outbound);
    }
}

/// Does a phase's work within its deadline.
pub(super) async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    timeout(limit, work).await.unwrap_or(Err(Fault::Timeout))
}

/// Bytes came that no command of ours asked for.
pub(super) fn unasked() -> Fault {
    Fault::Protocol("expected silence, found a reply to nothing".into())
}
