//! `[worker]`: the daemon's own limits.

use std::time::Duration;

/// How much the daemon does at once and how it stops.
#[derive(Debug, Clone, PartialEq)]
pub struct Worker {
    /// Deliveries in hand at once (512). Bounds memory, connections and doubt.
    pub concurrency: u32,
    /// Deliveries of one tenant in hand at once (256).
    pub tenant_concurrency: u32,
    /// Time for what is in hand when stopping (25 s); must be below `queue.session_ttl` + rescue.
    pub shutdown_deadline: Duration,
    /// Compiled messages kept in memory, in bytes of their content (64 MiB).
    pub message_cache_bytes: u64,
}

impl Default for Worker {
    fn default() -> Self {
        Self {
            concurrency: 512,
            tenant_concurrency: 256,
            shutdown_deadline: Duration::from_secs(25),
            message_cache_bytes: 64 << 20,
        }
    }
}
