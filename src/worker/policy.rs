//! What each stream wants done with its failures, from the settings in force.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;

use crate::config::{Settings, Stream};
use crate::domain::backoff::Backoff;
use crate::queue::retry::{OnDoubt, RetryPolicy};

/// Longest wait that a peer's reply may ask for.
const LONGEST_HINT: Duration = Duration::from_secs(6 * 3600);

/// Retry policies by stream; a stream that is not configured follows `bulk`.
#[derive(Debug)]
pub struct Policies {
    by_stream: RwLock<Arc<HashMap<String, RetryPolicy>>>,
}

impl Policies {
    /// The policies of `settings`.
    pub fn new(settings: &Settings) -> Self {
        Self { by_stream: RwLock::new(Arc::new(read(settings))) }
    }

    /// Takes over changed settings.
    pub fn apply(&self, settings: &Settings) {
        *self.by_stream.write() = Arc::new(read(settings));
    }

    /// The policy of a stream.
    pub fn of(&self, stream: &str) -> RetryPolicy {
        let policies = self.by_stream.read();
        policies
            .get(stream)
            .or_else(|| policies.get("bulk"))
            .copied()
            .unwrap_or_else(|| policy(&Stream::bulk(), 5))
    }
}

fn read(settings: &Settings) -> HashMap<String, RetryPolicy> {
    settings
        .streams
        .iter()
        .map(|(name, stream)| (name.clone(), policy(stream, settings.queue.max_interruptions)))
        .collect()
}

fn policy(stream: &Stream, max_crashes: u16) -> RetryPolicy {
    let retry = stream.retry;
    RetryPolicy {
        // The settings were checked when they were read; the shipped waits stand in for
        // values that only a test could have made.
        backoff: Backoff::try_new(retry.first, retry.factor, retry.cap).unwrap_or_default(),
        longest_hint: LONGEST_HINT,
        doubt_wait: stream.doubt_wait,
        on_doubt: if stream.resend_in_doubt { OnDoubt::Resend } else { OnDoubt::Hold },
        max_crashes,
    }
}
