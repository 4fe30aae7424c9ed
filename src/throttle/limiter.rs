//! All limits and their counts.
//!
//! A limiter is alone ([`Limiter::new`]: what it grants is the whole limit) or one of many
//! ([`Limiter::shared`]: it grants what the [exchange](super::exchange) brings, and
//! without one nothing).
//!
//! Counts belong to keys and outlive every change of the rules: a reload or an
//! override is seen by each gate at its next request, with the tokens and
//! slots that were in use before. (Permits handed out while no rule spoke of a
//! key are not counted when a rule appears; they end soon.) What is neither
//! held by anyone nor remembers anything is forgotten now and then, so memory
//! follows what is in use.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

use super::account::{Account, Dealt};
use super::gate::Gate;
use super::key::{Key, Plan};
use super::metrics::ThrottleMetrics;
use super::overrides::Override;
use super::rules::{Bounds, Closed, Held, Rules};
use super::slots::Slots;
use crate::config::ThrottleRule;
use crate::domain::outcome::WaitReason;

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
    /// Only of a shared limiter.
    pub(super) dealer: Option<Dealer>,
    pub(super) metrics: ThrottleMetrics,
    base: Instant,
}

/// The counts of one key.
#[derive(Debug)]
pub(super) struct Count {
    pub(super) key: Key,
    pub(super) account: Account,
    pub(super) slots: Slots,
}

/// Who has something to exchange.
#[derive(Debug, Default)]
pub(super) struct Dealer {
    pub(super) listed: Mutex<Vec<Arc<Count>>>,
    /// Told when somebody is dry and nothing is foretold.
    pub(super) kick: Notify,
}

impl Limiter {
    /// Limits by these rules in this process alone.
    pub fn new(rules: &[ThrottleRule]) -> Self {
        Self::with(rules, None)
    }

    /// Limits by these rules together with all processes that share a database.
    pub fn shared(rules: &[ThrottleRule]) -> Self {
        Self::with(rules, Some(Dealer::default()))
    }

    fn with(rules: &[ThrottleRule], dealer: Option<Dealer>) -> Self {
        let rules = Rules {
            generation: 0,
            list: rules.to_vec(),
            overrides: Vec::new(),
            paces: HashMap::new(),
        };
        let core = Core {
            rules: RwLock::new(Arc::new(rules)),
            generation: AtomicU64::new(0),
            counts: Mutex::new(Sweeping::new()),
            eased: Notify::new(),
            dealer,
            metrics: ThrottleMetrics::register(),
            base: Instant::now(),
        };
        Self { core: Arc::new(core), gates: Mutex::new(Sweeping::new()) }
    }

    /// Puts other rules in force, for the gates that exist as well.
    pub fn apply(&self, rules: &[ThrottleRule]) {
        self.core.change(|now| Rules {
            list: rules.to_vec(),
            overrides: now.overrides.clone(),
            paces: now.paces.clone(),
            ..*now
        });
    }

    /// Puts an operator's overrides in force before the rules. Whether anything changed.
    pub fn set_overrides(&self, overrides: Vec<Override>) -> bool {
        if self.core.rules().overrides == overrides {
            return false;
        }
        self.core.change(|now| Rules {
            list: now.list.clone(),
            overrides,
            paces: now.paces.clone(),
            ..*now
        });
        true
    }

    /// Puts what receivers ask for in force, within the rules. Whether anything changed.
    pub fn set_paces(&self, mut paces: HashMap<Key, Held>) -> bool {
        /// Ends that are told apart by less than this are one.
        const SAME: u64 = 500_000_000;
        let rules = self.core.rules();
        for (key, held) in &mut paces {
            let before = rules.paces.get(key).and_then(|known| known.closed);
            if let (Some(closed), Some(before)) = (&mut held.closed, before)
                && closed.reason == before.reason
                && closed.until.abs_diff(before.until) < SAME
            {
                closed.until = before.until;
            }
        }
        if rules.paces == paces {
            return false;
        }
        self.core.change(|now| Rules {
            list: now.list.clone(),
            overrides: now.overrides.clone(),
            paces,
            ..*now
        });
        true
    }

    /// A time from now in which nothing is granted.
    pub fn closed_for(&self, time: Duration, reason: WaitReason) -> Closed {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Closed { until: self.core.now().saturating_add(nanos), reason }
    }

    /// What a receiver asks for of a key, if it does. For whoever explains a wait.
    pub fn held(&self, key: &Key) -> Option<Held> {
        self.core.rules().paces.get(key).cloned()
    }

    /// Grows with every change of the rules: what was foretold before may be wrong.
    pub fn generation(&self) -> u64 {
        self.core.generation()
    }

    pub(super) fn core(&self) -> &Arc<Core> {
        &self.core
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
        self.core.rules().rule(key)
    }

    /// Resolves when a limit has eased in a way that no wait foretells: a slot
    /// that somebody asked for in vain is free, an exchange brought something, or the
    /// rules changed. Call this *before* [`Gate::take`] and await it after: a release
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
            Arc::strong_count(count) > 1
                || count.account.remembers(now, rules.bounds(&count.key).as_ref())
        });
        let account = match self.dealer {
            Some(_) => Account::Dealt(Box::default()),
            None => Account::Own(Default::default()),
        };
        let count = Arc::new(Count { key: key.clone(), account, slots: Slots::default() });
        counts.map.insert(key.clone(), count.clone());
        count
    }

    /// Notes what somebody wanted of a shared key, and how many tokens and slots in vain, and
    /// has it exchanged: at once when it is dry and nothing is foretold.
    pub(super) fn note(&self, count: &Arc<Count>, bounds: &Bounds, missed: [u32; 2], now: u64) {
        let [missed_tokens, missed_slots] = missed;
        let (Some(dealer), Account::Dealt(dealt)) = (&self.dealer, &count.account) else { return };
        let mut guard = dealt.lock();
        let dealt: &mut Dealt = &mut guard;
        if dealt.bounds != *bounds {
            dealt.bounds = bounds.clone();
        }
        let mut dry = false;
        for (stock, quota) in dealt.stocks.iter_mut().zip(&bounds.quotas) {
            if missed_tokens > 0 && stock.available(now, *quota) == 0 {
                stock.starve(now);
                dry |= stock.next(now, *quota, 1).is_none();
            }
        }
        if let Some(limit) = bounds.slots {
            let used = count.slots.used();
            dealt.seat.took(now, used);
            let cap = dealt.seat.cap(now);
            if missed_slots > 0 && used >= cap && cap < limit {
                dealt.seat.miss(now, missed_slots);
                dry = true;
            }
        }
        dealt.awaited |= dry;
        if !std::mem::replace(&mut dealt.listed, true) {
            dealer.listed.lock().push(Arc::clone(count));
            dry = true;
        }
        drop(guard);
        if dry {
            dealer.kick.notify_one();
        }
    }

    /// A slot came back: has it passed on if others are to have it.
    pub(super) fn released(&self, count: &Count) {
        if let (Some(dealer), Account::Dealt(dealt)) = (&self.dealer, &count.account)
            && dealt.lock().seat.passes_on(count.slots.used())
        {
            dealer.kick.notify_one();
        }
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
