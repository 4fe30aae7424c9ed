//! The plan of one attempt: the hops to try, in order.

use std::net::SocketAddr;
use std::sync::Arc;

use super::tls_policy::TlsPolicy;
use crate::config::{Auth, ClientCertificate, Provider, Source, TlsMode};
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
    /// Addresses to try, best first; empty only where a provider sends.
    pub hops: Vec<Hop>,
    /// The provider that sends, on a route to one.
    pub provider: Option<Arc<Provider>>,
}

/// Whom deliveries stand in line for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Counter {
    /// A host.
    Host(SocketAddr),
    /// The provider of the route of this name.
    Provider(Arc<str>),
}

impl RoutePlan {
    /// Whom a delivery stands in line for first, and how many are served at once there.
    /// `None`: nothing would be sent.
    pub fn counter(&self) -> Option<(Counter, u32)> {
        if let Some(provider) = &self.provider {
            return Some((Counter::Provider(Arc::clone(&self.route)), provider.max_requests));
        }
        let hop = self.hops.first()?;
        Some((Counter::Host(hop.address), hop.max_connections))
    }
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
