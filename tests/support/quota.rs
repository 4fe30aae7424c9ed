//! How many mails a receiver takes in each second of its clock, and what it took and refused.
//! The number may change while it runs.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Longest wait for anything; only a broken program reaches it.
const PATIENCE: Duration = Duration::from_secs(90);

/// See the file's header.
pub struct Quota {
    limit: AtomicU32,
    taken: AtomicU64,
    refused: AtomicU64,
    began: Instant,
    second: Mutex<(u64, u32)>,
}

impl Quota {
    /// So many a second.
    pub fn new(limit: u32) -> Self {
        Self {
            limit: AtomicU32::new(limit),
            taken: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            began: Instant::now(),
            second: Mutex::default(),
        }
    }

    /// Counts one mail; whether it is taken.
    pub fn takes_one(&self) -> bool {
        let now = self.began.elapsed().as_secs();
        let mut second = self.second.lock();
        if second.0 != now {
            *second = (now, 0);
        }
        let takes = second.1 < self.limit.load(Ordering::Relaxed);
        second.1 += u32::from(takes);
        let count = if takes { &self.taken } else { &self.refused };
        count.fetch_add(1, Ordering::Relaxed);
        takes
    }

    /// So many a second from now on.
    pub fn relent(&self, limit: u32) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Mails taken and refused so far.
    pub fn counts(&self) -> (u64, u64) {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (of(&self.taken), of(&self.refused))
    }

    /// Waits until so many were taken.
    pub async fn has_taken(&self, n: u64) {
        let started = Instant::now();
        while self.counts().0 < n {
            assert!(started.elapsed() < PATIENCE, "{:?} of {n}", self.counts());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
