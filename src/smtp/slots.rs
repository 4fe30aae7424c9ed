//! A number of slots, given out in the order of asking; the number may change.
//!
//! Knows nothing of mail. When the number shrinks below what is given out, slots
//! that come back are taken away until it fits: the new limit is never exceeded
//! by a slot given out after the change.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The slots; clones share them.
#[derive(Debug, Clone)]
pub struct Slots {
    semaphore: Arc<Semaphore>,
    size: Arc<Mutex<Size>>,
}

#[derive(Debug)]
struct Size {
    wanted: usize,
    /// Slots that are given out and must not come back.
    debt: usize,
}

/// A slot in use; it comes back when dropped.
#[derive(Debug)]
pub struct Slot {
    permit: Option<OwnedSemaphorePermit>,
    size: Arc<Mutex<Size>>,
}

impl Slots {
    /// So many slots; at least one.
    pub fn new(number: u32) -> Self {
        let wanted = number.max(1) as usize;
        Self {
            semaphore: Arc::new(Semaphore::new(wanted)),
            size: Arc::new(Mutex::new(Size { wanted, debt: 0 })),
        }
    }

    /// Waits for a slot. Whoever asked first is served first.
    pub async fn take(&self) -> Option<Slot> {
        let permit = Arc::clone(&self.semaphore).acquire_owned().await.ok()?;
        Some(Slot { permit: Some(permit), size: Arc::clone(&self.size) })
    }

    /// A slot if one is free at once.
    pub fn try_take(&self) -> Option<Slot> {
        let permit = Arc::clone(&self.semaphore).try_acquire_owned().ok()?;
        Some(Slot { permit: Some(permit), size: Arc::clone(&self.size) })
    }

    /// Changes the number of slots.
    pub fn resize(&self, number: u32) {
        let number = number.max(1) as usize;
        let mut size = self.size.lock();
        if number > size.wanted {
            let grown = number - size.wanted;
            let forgiven = grown.min(size.debt);
            size.debt -= forgiven;
            self.semaphore.add_permits(grown - forgiven);
        } else if number < size.wanted {
            let shrunk = size.wanted - number;
            size.debt += shrunk - self.semaphore.forget_permits(shrunk);
        }
        size.wanted = number;
    }

    /// The number of slots.
    pub fn number(&self) -> usize {
        self.size.lock().wanted
    }

    /// Slots given out now.
    pub fn in_use(&self) -> usize {
        let size = self.size.lock();
        (size.wanted + size.debt).saturating_sub(self.semaphore.available_permits())
    }

    /// Whether nobody holds or waits for a slot.
    pub fn is_unused(&self) -> bool {
        // Slots and waiters each keep the semaphore alive.
        Arc::strong_count(&self.semaphore) == 1 && self.in_use() == 0
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // The permit goes back under the lock, so that no change of the number can
        // come between looking at the debt and giving back.
        let mut size = self.size.lock();
        let Some(permit) = self.permit.take() else { return };
        if size.debt > 0 {
            size.debt -= 1;
            permit.forget();
        } else {
            drop(permit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn slots_are_given_out_up_to_their_number() {
        let slots = Slots::new(2);
        let (first, second) = (slots.take().await, slots.try_take());
        assert!(first.is_some() && second.is_some() && slots.try_take().is_none());
        assert_eq!(slots.in_use(), 2);
        drop(first);
        assert!(slots.try_take().is_some());
        drop(second);
        assert!(slots.is_unused());
    }

    #[tokio::test]
    async fn a_smaller_number_holds_as_slots_come_back() {
        let slots = Slots::new(3);
        let mut held: Vec<_> = (0..3).filter_map(|_| slots.try_take()).collect();
        slots.resize(1);
        assert_eq!((slots.number(), slots.in_use()), (1, 3));
        held.pop();
        held.pop();
        assert!(slots.try_take().is_none());
        held.pop();
        let one = slots.try_take();
        assert!(one.is_some() && slots.try_take().is_none());
        drop(one);
        slots.resize(4);
        let all: Vec<_> = (0..5).filter_map(|_| slots.try_take()).collect();
        assert_eq!(all.len(), 4);
    }

    #[tokio::test]
    async fn growing_forgives_what_shrinking_took() {
        let slots = Slots::new(2);
        let held: Vec<_> = (0..2).filter_map(|_| slots.try_take()).collect();
        slots.resize(1);
        slots.resize(2);
        drop(held);
        let all: Vec<_> = (0..3).filter_map(|_| slots.try_take()).collect();
        assert_eq!(all.len(), 2);
    }
}
