//! Permits for one plan, from all of its limits at once.
//!
//! `take` looks at every limit, takes what the tightest allows from each, and
//! gives everything back and looks again if another gate was faster at one of
//! them. So gates that share a limit never overdraw it, and a gate never keeps
//! what it cannot use.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use smallvec::SmallVec;

use super::bucket::Quota;
use super::key::Key;
use super::limiter::{Core, Count};
use super::rules::Bounds;
use super::slots::Release;
use crate::domain::outcome::WaitReason;

/// Hands out permits for one plan. Made by [`Limiter::gate`](super::limiter::Limiter::gate).
#[derive(Debug)]
pub struct Gate {
    keys: [Key; 6],
    terms: RwLock<Arc<Terms>>,
    core: Arc<Core>,
}

/// What a request for permits got.
#[derive(Debug)]
pub struct Taken {
    /// Permits, at most as many as wanted.
    pub permits: Vec<Permit>,
    /// When it is worth asking again, if a rate stands in the way: not for each
    /// token at high rates, exactly the next token at low ones, and never more
    /// than ten seconds (unused permits may have come back).
    pub wait: Option<Duration>,
    /// What gave fewer than wanted. With no `wait` it is a concurrency: ask
    /// again after [`Limiter::eased`](super::limiter::Limiter::eased).
    pub blocked_by: Option<Key>,
}

/// Leave to send one delivery. Holds a slot of each concurrency until dropped;
/// unless [`spend`](Self::spend) was called, dropping also gives the tokens back.
#[derive(Debug)]
#[must_use = "dropping a permit gives it back"]
pub struct Permit {
    terms: Arc<Terms>,
    spent: bool,
}

impl Gate {
    pub(super) fn new(keys: [Key; 6], core: Arc<Core>) -> Self {
        let terms = RwLock::new(Terms::read(&keys, &core));
        Self { keys, terms, core }
    }

    /// Takes up to `want` permits, as the limits stand now.
    pub fn take(&self, want: u32) -> Taken {
        let terms = self.terms();
        let grant = terms.take(want);
        let permits = (0..grant.n).map(|_| Permit { terms: terms.clone(), spent: false }).collect();
        self.core.metrics.taken.increment(u64::from(grant.n));
        let Some((limit, bound)) = grant.bound_by.map(|(at, bound)| (&terms.limits[at], bound))
        else {
            return Taken { permits, wait: None, blocked_by: None };
        };
        self.core.metrics.refused(limit.count.key.scope(), bound);
        let wait = match bound {
            Bound::Rate => Some(terms.wait(want - grant.n)),
            Bound::Concurrency => None,
        };
        Taken { permits, wait, blocked_by: Some(limit.count.key.clone()) }
    }

    /// The limits of the rules in force.
    fn terms(&self) -> Arc<Terms> {
        let known = self.terms.read().clone();
        if known.generation == self.core.generation() {
            return known;
        }
        let fresh = Terms::read(&self.keys, &self.core);
        *self.terms.write() = fresh.clone();
        fresh
    }
}

impl Taken {
    /// Why there are fewer permits than wanted; `None` when there are not.
    pub fn reason(&self) -> Option<WaitReason> {
        self.blocked_by.as_ref().map(|_| match self.wait {
            Some(_) => WaitReason::Rate,
            None => WaitReason::Concurrency,
        })
    }
}

impl Permit {
    /// The delivery was really tried: the tokens are gone for good.
    pub fn spend(&mut self) {
        self.spent = true;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.terms.give_back(1, if self.spent { Tokens::Spent } else { Tokens::Unused });
    }
}

/// Which side of a limit gave fewest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound {
    Rate,
    Concurrency,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tokens {
    Spent,
    Unused,
}

/// The limits of a plan under one generation of the rules. A permit keeps the
/// terms under which it was taken, so it gives back just what it took.
#[derive(Debug)]
struct Terms {
    generation: u64,
    limits: SmallVec<[Limit; 2]>,
    core: Arc<Core>,
}

#[derive(Debug)]
struct Limit {
    count: Arc<Count>,
    bounds: Bounds,
}

struct Grant {
    n: u32,
    /// Place of the limit that gave fewer than wanted.
    bound_by: Option<(usize, Bound)>,
}

impl Terms {
    fn read(keys: &[Key], core: &Arc<Core>) -> Arc<Self> {
        let rules = core.rules();
        let limits = keys
            .iter()
            .filter_map(|key| Some(Limit { bounds: rules.bounds(key)?, count: core.count(key) }))
            .collect();
        Arc::new(Self { generation: rules.generation, limits, core: core.clone() })
    }

    fn take(&self, want: u32) -> Grant {
        if self.limits.is_empty() {
            return Grant { n: want, bound_by: None };
        }
        let now = self.core.now();
        let mut wanted = None;
        loop {
            let grant = self.room(want, now);
            if let Some((at, Bound::Concurrency)) = grant.bound_by
                && wanted != Some(at)
            {
                // Announced before the last look, so that no release slips through.
                self.limits[at].count.slots.want();
                wanted = Some(at);
                continue;
            }
            if self.commit(grant.n, now) {
                return grant;
            }
            // Another gate took some in between: it, at least, got on.
            wanted = None;
        }
    }

    /// The most that every limit allows, and the first that allows no more.
    fn room(&self, want: u32, now: u64) -> Grant {
        let mut grant = Grant { n: want, bound_by: None };
        for (at, Limit { count, bounds }) in self.limits.iter().enumerate() {
            let mut narrow = |free: u32, bound| {
                if free < grant.n {
                    grant = Grant { n: free, bound_by: Some((at, bound)) };
                }
            };
            narrow(count.slots.free(bounds.slots), Bound::Concurrency);
            if let Some(quota) = bounds.quota {
                narrow(count.bucket.available(now, quota), Bound::Rate);
            }
        }
        grant
    }

    /// Takes `n` from every limit, or from none. Returns whether it did.
    fn commit(&self, n: u32, now: u64) -> bool {
        if n == 0 {
            return true;
        }
        for (at, Limit { count, bounds }) in self.limits.iter().enumerate() {
            let slots = count.slots.take(bounds.slots, n);
            if slots && bounds.quota.is_none_or(|quota| count.bucket.take(now, quota, n)) {
                continue;
            }
            if slots {
                self.release(count, n);
            }
            for limit in &self.limits[..at] {
                self.undo(limit, n, Tokens::Unused);
            }
            return false;
        }
        true
    }

    fn give_back(&self, n: u32, tokens: Tokens) {
        for limit in &self.limits {
            self.undo(limit, n, tokens);
        }
        if tokens == Tokens::Unused {
            self.core.metrics.refunded.increment(u64::from(n));
        }
    }

    fn undo(&self, limit: &Limit, n: u32, tokens: Tokens) {
        if limit.bounds.quota.is_some()
            && tokens == Tokens::Unused
            && let Some(quota) = self.quota_now(limit)
        {
            limit.count.bucket.refund(quota, n);
        }
        self.release(&limit.count, n);
    }

    /// What a token is worth now; the rules may have changed since these terms.
    fn quota_now(&self, limit: &Limit) -> Option<Quota> {
        if self.generation == self.core.generation() {
            return limit.bounds.quota;
        }
        self.core.rules().bounds(&limit.count.key).and_then(|bounds| bounds.quota)
    }

    fn release(&self, count: &Count, n: u32) {
        if count.slots.release(n) == Release::Awaited {
            self.core.eased.notify_waiters();
        }
    }

    /// Time until every rate has a batch of up to `want` again: five
    /// milliseconds' worth of the slowest, at least one token.
    fn wait(&self, want: u32) -> Duration {
        const PACE: f64 = 0.005;
        const LONGEST: Duration = Duration::from_secs(10);
        let now = self.core.now();
        let rates = || self.limits.iter().filter_map(|l| Some((&l.count.bucket, l.bounds.quota?)));
        let batch = rates()
            .map(|(_, quota)| ((quota.rate * PACE) as u32).clamp(1, quota.whole_burst().max(1)))
            .fold(want.max(1), u32::min);
        let wait = rates().map(|(bucket, quota)| bucket.next(now, quota, batch)).max();
        wait.unwrap_or_default().min(LONGEST)
    }
}
