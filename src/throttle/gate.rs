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

use super::account::Tokens;
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
    /// When it is worth asking again, if a rate stands in the way and its next tokens
    /// are known: not for each token at high rates, exactly the next token at low ones,
    /// and never more than ten seconds (unused permits may have come back).
    pub wait: Option<Duration>,
    /// What gave fewer than wanted. With no `wait` it is a concurrency, or a rate of
    /// which nothing is known before the next exchange: ask again after
    /// [`Limiter::eased`](super::limiter::Limiter::eased).
    pub blocked_by: Option<Key>,
    bound: Option<Bound>,
}

/// Leave to send one delivery. Holds a slot of each concurrency until dropped;
/// unless [`spend`](Self::spend) was called, dropping also gives the tokens back.
#[derive(Debug)]
#[must_use = "dropping a permit gives it back"]
pub struct Permit {
    terms: Arc<Terms>,
    tokens: Tokens,
    /// When the tokens were taken, on the scale of the buckets.
    taken: u64,
    use_of: TokensUse,
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
        let taken = grant.tokens.len() as u32;
        let now = self.core.now();
        let permit =
            |tokens| Permit { terms: terms.clone(), tokens, taken: now, use_of: TokensUse::Unused };
        let permits = grant.tokens.into_iter().map(permit).collect();
        self.core.metrics.taken.increment(u64::from(taken));
        let Some((at, bound)) = grant.bound_by else {
            return Taken { permits, wait: None, blocked_by: None, bound: None };
        };
        let key = terms.limits[at].count.key.clone();
        self.core.metrics.refused(key.scope(), bound);
        let wait = match bound {
            Bound::Rate => terms.wait(want - taken),
            Bound::Concurrency => None,
        };
        Taken { permits, wait, blocked_by: Some(key), bound: Some(bound) }
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
    /// What was taken here, and the rest elsewhere: what `elsewhere` got goes into `beyond`.
    /// What is still wanted waits for the other, and no longer than for this one.
    #[must_use]
    pub fn followed_by(self, elsewhere: Self, beyond: &mut Vec<Permit>) -> Self {
        let Self { permits, wait, blocked_by, bound } = elsewhere;
        beyond.extend(permits);
        let wait = wait.map(|wait| self.wait.map_or(wait, |ours| ours.min(wait)));
        Self { permits: self.permits, wait, blocked_by, bound }
    }

    /// Why there are fewer permits than wanted; `None` when there are not.
    pub fn reason(&self) -> Option<WaitReason> {
        self.bound.map(|bound| match bound {
            Bound::Rate => WaitReason::Rate,
            Bound::Concurrency => WaitReason::Concurrency,
        })
    }
}

/// Age from which on a permit of a rate is exchanged for a new one before it is used: mail
/// that was held up would else arrive in a crowd with what follows it.
const STALE: Duration = Duration::from_millis(100);

/// A stale permit could not be exchanged yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotYet {
    /// When it is worth trying again; `None`: after [`Limiter::eased`](super::limiter::Limiter::eased).
    pub wait: Option<Duration>,
}

impl Permit {
    /// Exchanges the tokens for new ones if they are too old to be used. What it holds of
    /// concurrencies it keeps.
    pub fn freshen(&mut self) -> Result<(), NotYet> {
        if self.tokens.is_empty() {
            return Ok(());
        }
        let now = self.terms.core.now();
        if Duration::from_nanos(now.saturating_sub(self.taken)) < STALE {
            return Ok(());
        }
        let Some(tokens) = self.terms.take_tokens(now) else {
            return Err(NotYet { wait: self.terms.wait(1) });
        };
        self.terms.refund(&std::mem::replace(&mut self.tokens, tokens));
        self.taken = now;
        Ok(())
    }

    /// The delivery was really tried: the tokens are gone for good.
    pub fn spend(&mut self) {
        self.use_of = TokensUse::Spent;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.terms.give_back(&self.tokens, self.use_of);
    }
}

/// Which side of a limit gave fewest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound {
    Rate,
    Concurrency,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TokensUse {
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

/// The least that all limits have room for.
struct Room {
    n: u32,
    /// Place of the limit that has less than wanted.
    bound_by: Option<(usize, Bound)>,
}

struct Grant {
    /// Of each permit.
    tokens: Vec<Tokens>,
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
    fn take_tokens(&self, now: u64) -> Option<Tokens> {
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
        if self.core.dealer.is_none() || want == 0 {
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

    fn give_back(&self, tokens: &Tokens, used: TokensUse) {
        if used == TokensUse::Unused {
            self.refund(tokens);
            self.core.metrics.refunded.increment(1);
        }
        for limit in &self.limits {
            self.release(&limit.count, 1);
        }
    }

    /// Gives back the tokens of one permit, as many as it came to hold.
    fn refund(&self, tokens: &Tokens) {
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
    fn wait(&self, want: u32) -> Option<Duration> {
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
