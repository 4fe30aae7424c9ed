//! Proof of acceptance, and the trail that an attempt leaves.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::trace::Notes;
use super::verdict::PeerReply;

/// Which way an attempt went. Fields are filled as far as it came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trail {
    /// The route's name in the configuration.
    pub route: Option<Arc<str>>,
    /// The source's name in the configuration.
    pub source: Option<Arc<str>>,
    /// The host talked to, as resolved or configured.
    pub host: Option<Arc<str>>,
    /// The address connected to.
    pub peer: Option<IpAddr>,
    /// Protocol version and cipher suite; `None` for a session in clear.
    pub tls: Option<Arc<str>>,
    /// The id that a provider gave the mail: by it, its reports speak of it.
    pub provider_id: Option<Arc<str>>,
    /// From the start of the attempt to its end.
    pub took: Duration,
    /// For its trace.
    pub notes: Notes,
}

/// The peer took responsibility for the mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The reply to the final dot, or the provider's answer.
    pub reply: PeerReply,
}
