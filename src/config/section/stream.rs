//! `[stream.NAME]`: how mail of one kind is treated, for every tenant.

use std::time::Duration;

/// A stream's policy. `transactional` and `bulk` always exist; a stream that is
/// not configured follows `bulk`.
#[derive(Debug, Clone, PartialEq)]
pub struct Stream {
    /// Bulk mail carries List-Unsubscribe headers.
    pub bulk: bool,
    /// 0 goes first, 3 last.
    pub priority: u8,
    /// Age at which a delivery is given up.
    pub expires_after: Duration,
    /// What to do with a delivery that may have been taken already: send again (true) or hold as a dead letter.
    pub resend_in_doubt: bool,
    /// Waits between tries.
    pub retry: Retry,
}

/// Exponential backoff with full jitter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retry {
    /// Longest first wait (2 min).
    pub first: Duration,
    /// Growth from one wait to the next (1.8).
    pub factor: f64,
    /// Longest wait (4 h).
    pub cap: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { first: Duration::from_secs(120), factor: 1.8, cap: Duration::from_secs(4 * 3600) }
    }
}

impl Stream {
    /// The shipped policy of `transactional`.
    pub fn transactional() -> Self {
        Self {
            bulk: false,
            priority: 0,
            expires_after: Duration::from_secs(48 * 3600),
            resend_in_doubt: true,
            retry: Retry::default(),
        }
    }

    /// The shipped policy of `bulk`.
    pub fn bulk() -> Self {
        Self {
            bulk: true,
            priority: 3,
            expires_after: Duration::from_secs(72 * 3600),
            ..Self::transactional()
        }
    }
}
