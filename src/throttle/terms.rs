//! The limits of one plan as they stand: what they have room for, and what is taken of them.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::account::Tokens;
use super::bucket::Quota;
use super::gate::TokensUse;
use super::key::Key;
use super::limiter::{Core, Count};
use super::rules::Bounds;
use super::slots::Release;
use crate::domain::outcome::WaitReason;

/// Which side of a limit gave fewest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound {
    Rate,
    Concurrency,
    /// Nothing is granted for a while.
    Closed(WaitReason),
}

impl Bound {
    pub(super) const fn reason(self) -> WaitReason {
        match self {
            Self::Rate => WaitReason::Rate,
            Self::Concurrency => WaitReason::Concurrency,
            Self::Closed(reason) => reason,
        }
    }
}

/// The limits of a plan under one generation of the rules. A permit keeps the
/// terms under which it was taken, so it gives back just what it took.
#[derive(Debug)]
pub(super) struct Terms {
    pub(super) generation: u64,
    keys: [Key; 6],
    pub(super) limits: SmallVec<[Limit; 2]>,
    pub(super) core: Arc<Core>,
}

#[derive(Debug)]
pub(super) struct Limit {
    pub(super) count: Arc<Count>,
    bounds: Bounds,
}

/// The least that all limits have room for.
struct Room {
    n: u32,
    /// Place of the limit that has less than wanted.
    bound_by: Option<(usize, Bound)>,
}

pub(super) struct Grant {
    /// Of each permit.
    pub(super) tokens: Vec<Tokens>,
    pub(super) bound_by: Option<(usize, Bound)>,
}

impl Terms {
    pub(super) fn read(keys: &[Key; 6], core: &Arc<Core>) -> Arc<Self> {
        let rules = core.rules();
        let limits = keys
            .iter()
            .filter_map(|key| Some(Limit { bounds: rules.bounds(key)?, count: core.count(key) }))
            .collect();
        Arc::new(Self {
            generation: rules.generation,
            keys: keys.clone(),
            limits,
            core: core.clone(),
        })
    }

    /// The terms as they are now, if they let less through.
    pub(super) fn changed(&self) -> Option<Arc<Self>> {
        if self.generation == self.core.generation() {
            return None;
        }
        let now = Self::read(&self.keys, &self.core);
        let before = |key: &Key| self.limits.iter().find(|limit| limit.count.key == *key);
        let mut limits = now.limits.iter();
        let narrower = limits.any(|limit| match before(&limit.count.key) {
            Some(old) => limit.bounds.is_narrower_than(&old.bounds),
            None => true,
        });
        narrower.then_some(now)
    }

    /// Until everything that is closed opens.
    pub(super) fn closed_for(&self) -> Duration {
        let closed = self.limits.iter().filter_map(|limit| limit.bounds.closed);
        let until = closed.map(|closed| closed.until).max().unwrap_or(0);
        Duration::from_nanos(until.saturating_sub(self.core.now()))
    }

    pub(super) fn take(&self, want: u32) -> Grant {
        if self.limits.is_empty() {
            return Grant { tokens: vec![Tokens::new(); want as usize], bound_by: None };
        }
        let now = self.core.now();
        let mut wanted = None;
        loop {
            let room = self.room(want, now);
            if let Some((at, Bound::Concurrency)) = room.bound_by
                && wanted != Some(at)
            {
                // Announced before the last look, so that no release slips through.
                self.limits[at].count.slots.want();
                wanted = Some(at);
                continue;
            }
            if let Some(tokens) = self.commit(room.n, now) {
                self.note(want, &room, now);
                return Grant { tokens, bound_by: room.bound_by };
            }
            // Another gate took some in between: it, at least, got on.
            wanted = None;
        }
    }

    /// The most that every limit allows, and the first that allows no more.
    fn room(&self, want: u32, now: u64) -> Room {
        let mut room = Room { n: want, bound_by: None };
        for (at, Limit { count, bounds }) in self.limits.iter().enumerate() {
            let mut narrow = |free: u32, bound| {
                if free < room.n {
                    room = Room { n: free, bound_by: Some((at, bound)) };
                }
            };
            if let Some(closed) = bounds.closed.filter(|closed| closed.until > now) {
                narrow(0, Bound::Closed(closed.reason));
            }
            let cap = count.account.cap(now, bounds.slots);
            narrow(count.slots.free(cap), Bound::Concurrency);
            for (nth, quota) in bounds.quotas.iter().enumerate() {
                narrow(count.account.available(nth, now, *quota), Bound::Rate);
            }
        }
        room
    }

    /// Takes `n` from every limit, or from none. The tokens of each permit, if it did.
    fn commit(&self, n: u32, now: u64) -> Option<Vec<Tokens>> {
        let mut permits = vec![Tokens::new(); n as usize];
        if n == 0 {
            return Some(permits);
        }
        for (at, Limit { count, bounds }) in self.limits.iter().enumerate() {
            let cap = count.account.cap(now, bounds.slots);
            let slots = count.slots.take(cap, n);
            let mut rates = bounds.quotas.iter().enumerate();
            if slots && rates.all(|(nth, quota)| count.account.take(nth, now, *quota, &mut permits))
            {
                continue;
            }
            for tokens in &permits {
                self.refund(tokens);
            }
            let held = if slots { at + 1 } else { at };
            for limit in &self.limits[..held] {
                self.release(&limit.count, n);
            }
            return None;
        }
        Some(permits)
    }

    /// One token of every rate, or none.
    pub(super) fn take_tokens(&self, now: u64) -> Option<Tokens> {
        let mut one = [Tokens::new()];
        for Limit { count, bounds } in &self.limits {
            for (nth, quota) in bounds.quotas.iter().enumerate() {
                if !count.account.take(nth, now, *quota, &mut one) {
                    self.refund(&one[0]);
                    self.note(1, &Room { n: 0, bound_by: None }, now);
                    return None;
                }
            }
        }
        self.note(1, &Room { n: 1, bound_by: None }, now);
        let [tokens] = one;
        Some(tokens)
    }

    /// Remembers for the next exchange what was wanted: more of those that gave all they had.
    fn note(&self, want: u32, room: &Room, now: u64) {
        let closed = matches!(room.bound_by, Some((_, Bound::Closed(_))));
        if self.core.dealer.is_none() || want == 0 || closed {
            // Tokens of what is closed would only grow old.
            return;
        }
        // With all allotted slots in use tokens would only grow old.
        let busy = room.bound_by.is_some_and(|(at, bound)| {
            let Limit { count, bounds } = &self.limits[at];
            bound == Bound::Concurrency && count.account.cap(now, bounds.slots) > Some(0)
        });
        let missed = want - room.n;
        for Limit { count, bounds } in &self.limits {
            self.core.note(count, bounds, [if busy { 0 } else { missed }, missed], now);
        }
    }

    pub(super) fn give_back(&self, tokens: &Tokens, used: TokensUse) {
        if used == TokensUse::Unused {
            self.refund(tokens);
            self.core.metrics.refunded.increment(1);
        }
        for limit in &self.limits {
            self.release(&limit.count, 1);
        }
    }

    /// Gives back the tokens of one permit, as many as it came to hold.
    pub(super) fn refund(&self, tokens: &Tokens) {
        let mut tokens = tokens.iter();
        for limit in &self.limits {
            for nth in 0..limit.bounds.quotas.len() {
                let Some(token) = tokens.next() else { return };
                if let Some(quota) = self.quota_now(limit, nth) {
                    limit.count.account.refund(nth, quota, *token);
                }
            }
        }
    }

    /// What a token is worth now; the rules may have changed since these terms.
    fn quota_now(&self, limit: &Limit, nth: usize) -> Option<Quota> {
        if self.generation == self.core.generation() {
            return limit.bounds.quotas.get(nth).copied();
        }
        self.core.rules().bounds(&limit.count.key)?.quotas.get(nth).copied()
    }

    fn release(&self, count: &Count, n: u32) {
        if count.slots.release(n) == Release::Awaited {
            self.core.eased.notify_waiters();
        }
        self.core.released(count);
    }

    /// Time until every rate has a batch of up to `want` again: five milliseconds' worth
    /// of the slowest, at least one token. `None`: the next exchange will tell.
    pub(super) fn wait(&self, want: u32) -> Option<Duration> {
        const PACE: f64 = 0.005;
        const LONGEST: Duration = Duration::from_secs(10);
        let now = self.core.now();
        let mut batch = want.max(1);
        for quota in self.limits.iter().flat_map(|limit| &limit.bounds.quotas) {
            batch = batch.min(((quota.rate * PACE) as u32).clamp(1, quota.whole_burst().max(1)));
        }
        let mut longest = Duration::ZERO;
        for Limit { count, bounds } in &self.limits {
            for (nth, quota) in bounds.quotas.iter().enumerate() {
                longest = longest.max(count.account.next(nth, now, *quota, batch)?);
            }
        }
        Some(longest.min(LONGEST))
    }
}
