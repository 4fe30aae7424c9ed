//! Hosts that something was learned about, remembered for an hour. Bounded in number;
//! a host that is forgotten is simply tried again.

use std::net::SocketAddr;
use std::time::Duration;

use quick_cache::sync::Cache;
use tokio::time::Instant;

/// How long it is remembered.
const MEMORY: Duration = Duration::from_secs(3600);

/// How many hosts are remembered.
const HOSTS: usize = 10_000;

/// See the file's header.
#[derive(Debug)]
pub struct HostMemory(Cache<SocketAddr, Instant>);

impl Default for HostMemory {
    fn default() -> Self {
        Self(Cache::new(HOSTS))
    }
}

impl HostMemory {
    /// Notes a host.
    pub fn remember(&self, host: SocketAddr) {
        self.0.insert(host, Instant::now());
    }

    /// Whether it was noted within the last hour.
    pub fn knows(&self, host: SocketAddr) -> bool {
        self.0.get(&host).is_some_and(|since| since.elapsed() < MEMORY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_host_is_forgotten_after_a_while() {
        let memory = HostMemory::default();
        let host = SocketAddr::from(([192, 0, 2, 1], 25));
        assert!(!memory.knows(host));
        memory.remember(host);
        assert!(memory.knows(host));
        tokio::time::advance(MEMORY).await;
        assert!(!memory.knows(host));
    }
}
