//! All limits and their counts.
//!
//! Counts belong to keys and outlive every change of the rules: a reload or a
//! new share is seen by each gate at its next request, with the tokens and
//! slots that were in use before. (Permits handed out while no rule spoke of a
//! key are not counted when a rule appears; they end soon.) What is neither
//! held by anyone nor remembers anything is forgotten now and then, so memory
//! follows what is in use.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

use super::bucket::Bucket;
use super::gate::Gate;
use super::key::{Key, Plan};
use super::metrics::ThrottleMetrics;
use super::rules::Rules;
use super::share::Share;
use super::slots::Slots;
use crate::config::ThrottleRule;

/// Makes gates and tells them the rules.
#[derive(Debug)]
pub struct Limiter {
    core: Arc<Core>,
    gates: Mutex<Sweeping<Plan, Arc<Gate>>>,
}

/// What gates share.
#[derive(Debug)]
pub(super) struct Core {
    rules: RwLock<Arc<Rules>>,
    /// [`Rules::generation`], to be read without the lock.
    generation: AtomicU64,
    counts: Mutex<Sweeping<Key, Arc<Count>>>,
    pub(super) eased: Notify,
    pub(super) metrics: ThrottleMetrics,
    base: Instant,
}

/// The counts of one key.
#[derive(Debug)]
pub(super) struct Count {
    pub(super) key: Key,
    pub(super) bucket: Bucket,
    pub(super) slots: Slots,
}

impl Limiter {
    /// Limits by these rules, whole (see [`set_share`](Self::set_share)).
    pub fn new(rules: &[ThrottleRule]) -> Self {
        let rules = Rules { generation: 0, list: rules.to_vec(), share: Share::WHOLE };
        let core = Core {
            rules: RwLock::new(Arc::new(rules)),
            generation: AtomicU64::new(0),
            counts: Mutex::new(Sweeping::new()),
            eased: Notify::new(),
            metrics: ThrottleMetrics::register(),
            base: Instant::now(),
        };
        Self { core: Arc::new(core), gates: Mutex::new(Sweeping::new()) }
    }

    /// Puts other rules in force, for the gates that exist as well.
    pub fn apply(&self, rules: &[ThrottleRule]) {
        self.core.change(|now| Rules { list: rules.to_vec(), ..*now });
    }

    /// Makes every limit this node's part of it.
    pub fn set_share(&self, share: Share) {
        self.core.change(|now| Rules { list: now.list.clone(), share, ..*now });
    }

    /// The gate for a plan; the same one for the same plan as long as it is in use.
    pub fn gate(&self, plan: &Plan) -> Arc<Gate> {
        let mut gates = self.gates.lock();
        if let Some(gate) = gates.map.get(plan) {
            return gate.clone();
        }
        gates.sweep(|gate| Arc::strong_count(gate) > 1);
        let gate = Arc::new(Gate::new(plan.keys(), self.core.clone()));
        gates.map.insert(plan.clone(), gate.clone());
        gate
    }

    /// The rule that limits a key, whole; `None` when none does. For whoever explains a wait.
    pub fn rule(&self, key: &Key) -> Option<ThrottleRule> {
        self.core.rules().rule(key).cloned()
    }

    /// Resolves when a limit has eased in a way that no wait foretells: a slot
    /// that somebody asked for in vain is free, or the rules or the share
    /// changed. Call this *before* [`Gate::take`] and await it after: a release
    /// in between counts.
    pub fn eased(&self) -> Notified<'_> {
        self.core.eased.notified()
    }
}

impl Core {
    fn change(&self, change: impl FnOnce(&Rules) -> Rules) {
        let mut rules = self.rules.write();
        let generation = rules.generation + 1;
        *rules = Arc::new(Rules { generation, ..change(&rules) });
        self.generation.store(generation, Ordering::Release);
        drop(rules);
        self.eased.notify_waiters();
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(super) fn rules(&self) -> Arc<Rules> {
        self.rules.read().clone()
    }

    pub(super) fn count(&self, key: &Key) -> Arc<Count> {
        let mut counts = self.counts.lock();
        if let Some(count) = counts.map.get(key) {
            return count.clone();
        }
        let (rules, now) = (self.rules(), self.now());
        counts.sweep(|count| {
            let quota = rules.bounds(&count.key).and_then(|bounds| bounds.quota);
            let remembers = quota.is_some_and(|quota| !count.bucket.is_full(now, quota));
            Arc::strong_count(count) > 1 || remembers
        });
        let (bucket, slots) = (Bucket::default(), Slots::default());
        let count = Arc::new(Count { key: key.clone(), bucket, slots });
        counts.map.insert(key.clone(), count.clone());
        count
    }

    /// Nanoseconds on the scale of the buckets. It starts high, so that a new
    /// bucket (empty at 0) is a full one.
    pub(super) fn now(&self) -> u64 {
        const START: u64 = 1 << 62;
        START + self.base.elapsed().as_nanos() as u64
    }
}

/// A map that is swept each time it has doubled.
#[derive(Debug)]
struct Sweeping<K, V> {
    map: HashMap<K, V>,
    sweep_at: usize,
}

impl<K: std::hash::Hash + Eq, V> Sweeping<K, V> {
    const FIRST_SWEEP: usize = 1024;

    fn new() -> Self {
        Self { map: HashMap::new(), sweep_at: Self::FIRST_SWEEP }
    }

    /// Before an insertion: drops what is not kept, if it is time.
    fn sweep(&mut self, keep: impl Fn(&V) -> bool) {
        if self.map.len() >= self.sweep_at {
            self.map.retain(|_, value| keep(value));
            self.sweep_at = (self.map.len() * 2).max(Self::FIRST_SWEEP);
        }
    }
}
