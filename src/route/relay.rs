//! The addresses of a relay. An operator wrote its name, so `/etc/hosts` and
//! the system's search list count, private addresses are fine, and a name that
//! cannot be found is our own mistake: it passes.

use std::net::IpAddr;
use std::time::Duration;

use super::cache::Cache;
use super::dns::{Addresses, HostsFile, LONGEST, LONGEST_ABSENCE, Resolver, ResolverError};
use super::mx::no_answer;
use crate::config::Dns;
use crate::domain::verdict::{Class, Finality, Verdict};

/// Relays remembered.
const MAX_RELAYS: usize = 1000;
/// Shortest belief in addresses, and in trouble (a repaired relay is wanted soon).
const SHORTEST: Duration = Duration::from_secs(10);

/// Finds relays and remembers them.
#[derive(Debug)]
pub(super) struct RelayLookup {
    resolver: Resolver,
    known: Cache<Result<Addresses, Verdict>>,
}

impl RelayLookup {
    pub(super) fn new(dns: &Dns) -> Result<Self, ResolverError> {
        let resolver = Resolver::new(dns, HostsFile::Consulted)?;
        Ok(Self { resolver, known: Cache::new(MAX_RELAYS) })
    }

    /// The addresses of a relay.
    pub(super) async fn find(&self, host: &str) -> Result<Addresses, Verdict> {
        self.known
            .get(host, async || match self.resolver.addresses(host).await {
                Ok(found) => (Ok(found.records), found.lifetime.clamp(SHORTEST, LONGEST)),
                Err(miss) => {
                    let mut verdict = no_answer(&miss, &format!("address of relay {host}"));
                    if verdict.finality == Finality::Final {
                        verdict.class = Class::Configuration;
                        verdict.finality = Finality::Passing;
                    }
                    (Err(verdict), miss.lifetime().clamp(SHORTEST, LONGEST_ABSENCE))
                }
            })
            .await
    }
}

/// A relay's host if it is written as an address, in brackets or not.
pub(super) fn literal(host: &str) -> Option<IpAddr> {
    let inner = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    inner.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_from_names() {
        assert_eq!(literal("127.0.0.1"), Some(IpAddr::from([127, 0, 0, 1])));
        assert_eq!(literal("[::1]"), "::1".parse().ok());
        assert_eq!(literal("::1"), "::1".parse().ok());
        assert_eq!(literal("relay.example"), None);
        assert_eq!(literal("[127.0.0.1"), None);
    }
}
