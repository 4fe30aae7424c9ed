//! `[worker]`: the daemon's own limits.

use std::time::Duration;

use crate::config::reader::Reader;
use crate::config::word::{NAME, is_name};

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
    /// Cells this daemon serves, by name (empty: all of them). `concurrency` is divided among them.
    pub cells: Vec<String>,
}

impl Default for Worker {
    fn default() -> Self {
        Self {
            concurrency: 512,
            tenant_concurrency: 256,
            shutdown_deadline: Duration::from_secs(25),
            message_cache_bytes: 64 << 20,
            cells: Vec::new(),
        }
    }
}

impl Worker {
    pub(in crate::config) fn read(section: Reader<'_>) -> Self {
        let default = Self::default();
        let second = Duration::from_secs(1);
        let worker = Self {
            concurrency: section.integer("concurrency", default.concurrency, 1..=100_000),
            tenant_concurrency: section.integer(
                "tenant_concurrency",
                default.tenant_concurrency,
                1..=100_000,
            ),
            shutdown_deadline: section.duration(
                "shutdown_deadline",
                default.shutdown_deadline,
                second..=second * 3_600,
            ),
            message_cache_bytes: section.size(
                "message_cache_bytes",
                default.message_cache_bytes,
                1 << 20..=64 << 30,
            ),
            cells: section
                .list("cells", NAME, |name| is_name(name).then(|| name.to_owned()))
                .unwrap_or(default.cells),
        };
        section.end();
        worker
    }
}
