//! How much is in hand: slots of this process, in all and by tenant.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::domain::ids::TenantId;

/// Counts jobs from the claim until their settlement is handed over.
#[derive(Debug)]
pub struct Slots {
    limit: usize,
    tenant_limit: usize,
    used: AtomicUsize,
    /// Of all cells of this process together.
    total: Arc<AtomicUsize>,
    by_tenant: Mutex<HashMap<TenantId, Arc<AtomicUsize>>>,
    freed: Notify,
}

/// One job in hand; gives the slot back when dropped.
#[derive(Debug)]
pub struct Slot {
    slots: Arc<Slots>,
    tenant: Arc<AtomicUsize>,
}

impl Slots {
    /// Room for `limit` jobs, of which one tenant may have `tenant_limit`.
    pub fn new(limit: u32, tenant_limit: u32) -> Arc<Self> {
        Self::beside(limit, tenant_limit, Arc::default())
    }

    /// The same beside the slots of other cells, which count into the same `total`.
    pub fn beside(limit: u32, tenant_limit: u32, total: Arc<AtomicUsize>) -> Arc<Self> {
        Arc::new(Self {
            total,
            limit: limit as usize,
            tenant_limit: tenant_limit as usize,
            used: AtomicUsize::new(0),
            by_tenant: Mutex::default(),
            freed: Notify::new(),
        })
    }

    /// Jobs in hand.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Jobs in hand of the whole process.
    pub fn used_by_all(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    /// Jobs that may be in hand.
    pub const fn limit(&self) -> usize {
        self.limit
    }

    /// Jobs for which there is room.
    pub fn free(&self) -> usize {
        self.limit.saturating_sub(self.used())
    }

    /// Jobs of `tenant` for which there is room.
    pub fn room(&self, tenant: TenantId) -> usize {
        let used = self.by_tenant.lock().get(&tenant).map_or(0, |n| n.load(Ordering::Relaxed));
        self.tenant_limit.saturating_sub(used)
    }

    /// Takes a slot. Only the claimer does, after it has looked at [`Self::free`].
    pub fn take(self: &Arc<Self>, tenant: TenantId) -> Slot {
        self.used.fetch_add(1, Ordering::Relaxed);
        self.total.fetch_add(1, Ordering::Relaxed);
        let count = Arc::clone(self.by_tenant.lock().entry(tenant).or_default());
        count.fetch_add(1, Ordering::Relaxed);
        Slot { slots: Arc::clone(self), tenant: count }
    }

    /// A quarter of all slots, at least one.
    pub fn quarter(&self) -> usize {
        (self.limit / 4).max(1)
    }

    /// A quarter of what one tenant may have.
    pub fn tenant_quarter(&self) -> usize {
        (self.tenant_limit / 4).max(1)
    }

    /// Waits until `n` slots are free. Only the claimer waits.
    pub async fn freed_up_to(&self, n: usize) {
        while self.free() < n {
            self.freed.notified().await;
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.tenant.fetch_sub(1, Ordering::Relaxed);
        self.slots.used.fetch_sub(1, Ordering::Relaxed);
        self.slots.total.fetch_sub(1, Ordering::Relaxed);
        self.slots.freed.notify_one();
    }
}
