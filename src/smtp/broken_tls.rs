//! Remembers hosts whose TLS is broken, so that opportunistic TLS does not stumble
//! over the same handshake for every mail. Bounded in number and time; a host
//! that is forgotten is simply tried again.

use std::net::SocketAddr;
use std::time::Duration;

use quick_cache::sync::Cache;
use tokio::time::Instant;

/// How long a host's TLS counts as broken.
const MEMORY: Duration = Duration::from_secs(3600);

/// How many hosts are remembered.
const HOSTS: usize = 10_000;

/// Hosts that offered STARTTLS and failed in it.
#[derive(Debug)]
pub struct BrokenTls(Cache<SocketAddr, Instant>);

impl Default for BrokenTls {
    fn default() -> Self {
        Self(Cache::new(HOSTS))
    }
}

impl BrokenTls {
    /// Notes a failure.
    pub fn remember(&self, host: SocketAddr) {
        self.0.insert(host, Instant::now());
    }

    /// Whether the host failed of late.
    pub fn knows(&self, host: SocketAddr) -> bool {
        self.0.get(&host).is_some_and(|since| since.elapsed() < MEMORY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_broken_host_is_tried_again_after_a_while() {
        let broken = BrokenTls::default();
        let host = SocketAddr::from(([192, 0, 2, 1], 25));
        assert!(!broken.knows(host));
        broken.remember(host);
        assert!(broken.knows(host));
        tokio::time::advance(MEMORY).await;
        assert!(!broken.knows(host));
    }
}
