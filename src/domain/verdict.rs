//! What was refused, by whom, and how far the refusal reaches.
//!
//! A verdict keeps the peer's words apart from ours: `Cause::Reply` holds only
//! what was read from the wire; a timeout or a broken connection is a cause of
//! its own and never dressed up as a reply.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use super::bounce_class::Class;
use super::ruling::Ruling;

/// The step of a delivery at which something happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Finding out where to go (MX, A, AAAA).
    Resolve,
    /// TCP connect.
    Connect,
    /// The peer's 220.
    Banner,
    /// EHLO or HELO.
    Ehlo,
    /// STARTTLS and the handshake.
    StartTls,
    /// AUTH.
    Auth,
    /// MAIL FROM.
    Mail,
    /// RCPT TO.
    Rcpt,
    /// DATA up to the 354, or the body before the final dot; of a provider: writing the request.
    Data,
    /// After the final dot; of a provider: after the whole request.
    Dot,
}

impl Stage {
    /// Every stage, in the order of a delivery.
    pub const ALL: [Self; 10] = [
        Self::Resolve,
        Self::Connect,
        Self::Banner,
        Self::Ehlo,
        Self::StartTls,
        Self::Auth,
        Self::Mail,
        Self::Rcpt,
        Self::Data,
        Self::Dot,
    ];

    /// The name used in logs, metrics and the attempt history.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Banner => "banner",
            Self::Ehlo => "ehlo",
            Self::StartTls => "start_tls",
            Self::Auth => "auth",
            Self::Mail => "mail",
            Self::Rcpt => "rcpt",
            Self::Data => "data",
            Self::Dot => "dot",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An enhanced status code (RFC 3463). Three digits each: Microsoft uses 5.7.509.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EnhancedStatus {
    /// 2, 4 or 5.
    pub class: u8,
    /// 0 to 999.
    pub subject: u16,
    /// 0 to 999.
    pub detail: u16,
}

impl fmt::Display for EnhancedStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

/// A reply as it was read from the wire, bounded and free of control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerReply {
    /// 200 to 599.
    pub code: u16,
    /// The enhanced status, when the text starts with one of the code's class.
    pub enhanced: Option<EnhancedStatus>,
    /// The lines' text joined with single spaces, without codes.
    pub text: String,
}

impl fmt::Display for PeerReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(enhanced) = self.enhanced {
            write!(f, " {enhanced}")?;
        }
        if !self.text.is_empty() {
            write!(f, " {}", self.text)?;
        }
        Ok(())
    }
}

/// Where a refusal comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The peer said so.
    Reply(PeerReply),
    /// A deadline of ours ran out.
    Timeout,
    /// The connection could not be made or broke; the text is the system's.
    Connection(String),
    /// The peer broke the protocol (a reply too long, not a reply, …).
    Protocol(String),
    /// TLS could not be had where the policy demands it.
    Tls(String),
    /// The DNS gave an answer that forbids or hinders delivery.
    Dns(String),
    /// The peer cannot take this mail (size, SMTPUTF8): found before sending it.
    Capability(String),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reply(reply) => reply.fmt(f),
            Self::Timeout => f.write_str("timed out"),
            Self::Connection(text) => write!(f, "connection: {text}"),
            Self::Protocol(text) => write!(f, "protocol: {text}"),
            Self::Tls(text) => write!(f, "TLS: {text}"),
            Self::Dns(text) => write!(f, "DNS: {text}"),
            Self::Capability(text) => write!(f, "peer cannot take this mail: {text}"),
        }
    }
}

/// May it still succeed?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finality {
    /// Worth another try later.
    Passing,
    /// Trying again would not help.
    Final,
}

/// How far a refusal reaches, from the narrowest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// This recipient only.
    Recipient,
    /// This message's content, for any recipient.
    Message,
    /// This session: another connection may do better.
    Session,
    /// This host: another host of the destination may do better.
    Host,
    /// Our source address or identity at this mailbox provider.
    Source,
    /// Our account at a relay or provider: everything that leaves by this route.
    Route,
    /// The whole destination.
    Destination,
}

impl Reach {
    /// The name used in logs, metrics and the attempt history.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Recipient => "recipient",
            Self::Message => "message",
            Self::Session => "session",
            Self::Host => "host",
            Self::Source => "source",
            Self::Route => "route",
            Self::Destination => "destination",
        }
    }
}

/// A refusal, judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Where in the delivery it happened.
    pub stage: Stage,
    /// What was said or what broke.
    pub cause: Cause,
    /// What kind of refusal it is.
    pub class: Class,
    /// Whether another try makes sense.
    pub finality: Finality,
    /// How far it reaches.
    pub reach: Reach,
    /// The wait that the peer asked for, if it did.
    pub retry_after: Option<Duration>,
    /// The rule that knew the reply; `None`: no rule did, or it was no reply.
    pub ruling: Option<Arc<Ruling>>,
}

impl Verdict {
    /// Whether this says that the address itself is dead (and so may be suppressed).
    /// Policy, blocks and content never do.
    pub fn condemns_address(&self) -> bool {
        self.finality == Finality::Final
            && self
                .ruling
                .as_ref()
                .map_or(self.class == Class::AddressBad, |ruling| ruling.orders.suppress)
    }

    /// Whether it is the account or the host behind a route that is at fault, and no mail. Of
    /// a route to the recipients' exchangers that is never so.
    pub fn blames_route(&self) -> bool {
        matches!(self.reach, Reach::Route | Reach::Host | Reach::Session)
            || self.stage == Stage::Auth
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}: {}", self.class.as_str(), self.stage, self.cause)
    }
}
