//! `[[route]]`, `[[rule]]`, `[[source]]`, `[[mailbox_provider]]`, `[dns]`: which way mail leaves.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::config::secret::Secret;

/// A way out.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// By which rules, limits, metrics and the attempt history call it.
    pub name: String,
    /// Direct or by a relay.
    pub kind: RouteKind,
    /// How much TLS is asked for.
    pub tls: TlsMode,
    /// Names of the sources to send from, tried in turn; empty: every source.
    pub sources: Vec<String>,
    /// Connections to one host at once (20).
    pub max_connections_per_host: u32,
    /// Mails after which a connection is closed (100).
    pub messages_per_connection: u32,
}

/// Where a route leads.
#[derive(Debug, Clone, PartialEq)]
pub enum RouteKind {
    /// To the recipient's mail exchangers, by DNS.
    Mx {
        /// 25 but in tests.
        port: u16,
    },
    /// To one relay.
    Relay {
        /// Name or address of the relay.
        host: String,
        /// 587, 465 or 25.
        port: u16,
        /// Login at the relay.
        auth: Option<Auth>,
    },
}

/// A login; the password comes from a file, a credential or the environment.
#[derive(Debug, Clone, PartialEq)]
pub struct Auth {
    /// User name.
    pub username: String,
    /// Password.
    pub password: Secret,
}

/// How much TLS a route asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TlsMode {
    /// Never (only sensible on loopback).
    None,
    /// STARTTLS when offered, any certificate, in clear when not offered or broken.
    Opportunistic,
    /// STARTTLS or nothing; any certificate.
    Required,
    /// STARTTLS or nothing; the certificate must verify for the host's name.
    Verified,
    /// TLS from the first byte (port 465), verified.
    Implicit,
}

/// Sends matching deliveries over a route. Fields left out match everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteRule {
    /// A tenant's name.
    pub tenant: Option<String>,
    /// A stream's name.
    pub stream: Option<String>,
    /// A mailbox provider's name.
    pub mailbox_provider: Option<String>,
    /// The route to take.
    pub route: String,
}

/// An egress address and the name it gives itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// By which routes, limits and metrics call it.
    pub name: String,
    /// Local address to bind; `None`: the system chooses.
    pub address: Option<IpAddr>,
    /// Name in EHLO: a fully qualified host name.
    pub ehlo: String,
}

/// Which destinations count as one mailbox provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailboxProviderRule {
    /// `google`, `microsoft`, …
    pub name: String,
    /// Recipient domains, lower case.
    pub domains: Vec<String>,
    /// Ends of MX host names, with the leading dot, lower case.
    pub mx_suffixes: Vec<String>,
}

/// `[dns]`
#[derive(Debug, Clone, PartialEq)]
pub struct Dns {
    /// Resolvers to ask; empty: those of the system.
    pub servers: Vec<SocketAddr>,
    /// Longest wait for one answer (5 s).
    pub timeout: Duration,
    /// Whether mail may go to loopback, private and link-local addresses found by DNS (false).
    pub allow_private_addresses: bool,
}

impl Default for Dns {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            timeout: Duration::from_secs(5),
            allow_private_addresses: false,
        }
    }
}
