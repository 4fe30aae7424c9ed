//! The plan of one attempt: the hops to try, in order.

use std::net::SocketAddr;
use std::sync::Arc;

use super::tls_policy::TlsPolicy;
use crate::config::{Auth, ClientCertificate, Source, TlsMode};
use crate::domain::ids::MailboxProvider;

/// Where one delivery goes.
#[derive(Debug, Clone)]
pub struct RoutePlan {
    /// The route's name.
    pub route: Arc<str>,
    /// Who receives, as far as the domain and its MX tell.
    pub mailbox_provider: MailboxProvider,
    /// What we send from.
    pub source: Arc<Source>,
    /// Addresses to try, best first; never empty.
    pub hops: Vec<Hop>,
}

/// One address of one host, and what is asked of a session with it.
#[derive(Debug, Clone)]
pub struct Hop {
    /// Name of the host (for the certificate, the history and the limits).
    pub host: Arc<str>,
    /// Where to connect.
    pub address: SocketAddr,
    /// How much TLS, with what the receiver publishes taken into account.
    pub tls: TlsMode,
    /// What the receiver publishes.
    pub policy: TlsPolicy,
    /// Login, for relays.
    pub auth: Option<Arc<Auth>>,
    /// Shown to the host if it asks, for relays.
    pub certificate: Option<Arc<ClientCertificate>>,
    /// Connections to this host at once.
    pub max_connections: u32,
    /// Mails after which a connection is closed.
    pub messages_per_connection: u32,
}
