//! [`Outside`]: where an HTTP request to somebody else's URL may go.
//!
//! Whoever gives us a URL chooses what its name means, and may change that between one look
//! and the next. So the addresses that are connected to are the ones that were checked here,
//! by the rules for mail hosts (`reachable.rs`), and nobody asks the DNS again.

use std::net::IpAddr;

pub use super::dns::ResolverError;
use super::dns::{HostsFile, Miss, Resolver, absolute};
use super::reachable::{Private, is_reachable};
use crate::config::Dns;

/// Finds and checks addresses.
#[derive(Debug)]
pub struct Outside {
    resolver: Resolver,
    private: Private,
}

/// Whether a request may go into our own network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inward {
    /// It may.
    Allowed,
    /// It may not.
    Refused,
}

/// Why there is no address to connect to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutsideError {
    /// All that the name or the literal stands for lies in our own network, or nowhere.
    #[error("{0} leads to no public address")]
    Inward(String),
    /// The name has no address.
    #[error("{0} has no address")]
    NoAddress(String),
    /// The DNS did not tell.
    #[error("the DNS does not tell the address of {host}: {why}")]
    NoAnswer {
        /// The name.
        host: String,
        /// What happened instead.
        why: String,
    },
}

impl Outside {
    /// Asks the name servers of `dns`.
    pub fn new(dns: &Dns, inward: Inward) -> Result<Self, ResolverError> {
        let private = match inward {
            Inward::Allowed => Private::Allowed,
            Inward::Refused => Private::Refused,
        };
        Ok(Self { resolver: Resolver::new(dns, HostsFile::Ignored)?, private })
    }

    /// An address that was written as such.
    pub fn literal(&self, address: IpAddr) -> Result<(), OutsideError> {
        if is_reachable(address, self.private) {
            Ok(())
        } else {
            Err(OutsideError::Inward(address.to_string()))
        }
    }

    /// The addresses of a host that may be connected to; never empty.
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, OutsideError> {
        let host = host.trim_end_matches('.');
        let found = match self.resolver.addresses(&absolute(host)).await {
            Ok(found) => found.records,
            Err(Miss::NoName(_) | Miss::NoRecord(_)) => {
                return Err(OutsideError::NoAddress(host.to_owned()));
            }
            Err(Miss::Timeout) => return Err(no_answer(host, "no answer in time")),
            Err(Miss::Failed(why)) => return Err(no_answer(host, &why)),
        };
        let usable: Vec<IpAddr> =
            found.shuffled().filter(|address| is_reachable(*address, self.private)).collect();
        if usable.is_empty() { Err(OutsideError::Inward(host.to_owned())) } else { Ok(usable) }
    }
}

fn no_answer(host: &str, why: &str) -> OutsideError {
    OutsideError::NoAnswer { host: host.to_owned(), why: why.to_owned() }
}
