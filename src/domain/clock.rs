//! Wall-clock time, and a fixed one for tests.
//!
//! Only for what ends up in a mail or a log (Date, DKIM `t=`). Deadlines use
//! monotonic time, and everything the queue decides by time uses the clock of
//! the database.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where wall-clock time comes from.
#[derive(Debug, Clone, Default)]
pub enum Clock {
    /// The machine's clock.
    #[default]
    System,
    /// Seconds since 1970 that only a test moves.
    Fixed(Arc<AtomicU64>),
}

impl Clock {
    /// A clock that stands at `seconds` since 1970.
    pub fn fixed(seconds: u64) -> Self {
        Self::Fixed(Arc::new(AtomicU64::new(seconds)))
    }

    /// The time now.
    pub fn now(&self) -> SystemTime {
        match self {
            #[allow(clippy::disallowed_methods, reason = "the one place that asks the machine")]
            Self::System => SystemTime::now(),
            Self::Fixed(seconds) => {
                UNIX_EPOCH + Duration::from_secs(seconds.load(Ordering::Relaxed))
            }
        }
    }

    /// Whole seconds since 1970.
    pub fn unix_seconds(&self) -> u64 {
        self.now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }
}
