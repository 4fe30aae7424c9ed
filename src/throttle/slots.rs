//! Concurrency counter, pure: how many are in hand, against a limit that is
//! given with each call. A lower limit takes nothing back; it lets no more in.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Slots of one key.
#[derive(Debug, Default)]
pub struct Slots {
    used: AtomicU32,
    /// Somebody found it full since the last release.
    wanted: AtomicBool,
}

/// What a release means to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// Somebody had asked in vain: tell them.
    Awaited,
    /// Nobody had.
    Unnoticed,
}

impl Slots {
    /// Slots in use.
    pub fn used(&self) -> u32 {
        self.used.load(Ordering::SeqCst)
    }

    /// Slots free under `limit`; `None`: no limit.
    pub fn free(&self, limit: Option<u32>) -> u32 {
        limit.map_or(u32::MAX, |limit| limit.saturating_sub(self.used()))
    }

    /// Takes `n` slots, or none when fewer are free. Returns whether it did.
    pub fn take(&self, limit: Option<u32>, n: u32) -> bool {
        self.used
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |used| {
                used.checked_add(n).filter(|after| n == 0 || *after <= limit.unwrap_or(u32::MAX))
            })
            .is_ok()
    }

    /// Asks for the next release to be [`Release::Awaited`]. Look at
    /// [`free`](Self::free) once more afterwards: either that sees a release
    /// that came in between, or that release sees this.
    pub fn want(&self) {
        self.wanted.store(true, Ordering::SeqCst);
    }

    /// Gives `n` slots back.
    pub fn release(&self, n: u32) -> Release {
        // Only what was taken is given back (permits are not copied), so this does not wrap.
        self.used.fetch_sub(n, Ordering::SeqCst);
        if self.wanted.load(Ordering::SeqCst) && self.wanted.swap(false, Ordering::SeqCst) {
            Release::Awaited
        } else {
            Release::Unnoticed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_the_limit_and_tells_who_asked_in_vain() {
        let slots = Slots::default();
        assert!(slots.take(Some(3), 2));
        assert!(!slots.take(Some(3), 2), "all or nothing");
        assert_eq!(slots.free(Some(3)), 1);
        assert_eq!(slots.release(1), Release::Unnoticed);
        assert!(slots.take(Some(3), 2));
        slots.want();
        assert_eq!(slots.release(1), Release::Awaited);
        assert_eq!(slots.release(1), Release::Unnoticed);
    }

    #[test]
    fn a_lower_limit_lets_no_more_in() {
        let slots = Slots::default();
        assert!(slots.take(None, 10));
        assert_eq!(slots.free(Some(5)), 0);
        assert!(!slots.take(Some(5), 1));
        assert!(slots.take(Some(5), 0));
        slots.release(6);
        assert!(slots.take(Some(5), 1));
    }
}
