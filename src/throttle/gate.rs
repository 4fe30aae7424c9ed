//! Permits for one plan, from all of its limits at once.
//!
//! `take` looks at every limit, takes what the tightest allows from each, and
//! gives everything back and looks again if another gate was faster at one of
//! them. So gates that share a limit never overdraw it, and a gate never keeps
//! what it cannot use.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;

use super::account::Tokens;
use super::key::Key;
use super::limiter::Core;
use super::terms::{Bound, Terms};
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
    given_back: bool,
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
        let permit = |tokens| Permit::new(terms.clone(), tokens, now);
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
            Bound::Closed(_) => Some(terms.closed_for()),
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

    /// What keeps both back that were asked beside each other: nothing if either had all that
    /// was wanted of it, else whichever has room first.
    #[must_use]
    pub fn beside(self, other: Self) -> Self {
        /// One waits for a time and the other for what is given back: soon they are asked anew.
        const SOON: Duration = Duration::from_millis(100);
        let mut permits = self.permits;
        permits.extend(other.permits);
        let first = Self { permits: Vec::new(), ..self };
        let other = Self { permits: Vec::new(), ..other };
        let mut sooner = if first.blocked_by.is_none() {
            first
        } else if other.blocked_by.is_none() {
            other
        } else {
            match (first.wait, other.wait) {
                (Some(one), Some(two)) if two < one => other,
                (Some(wait), None) | (None, Some(wait)) => {
                    Self { wait: Some(wait.min(SOON)), ..first }
                }
                _ => first,
            }
        };
        sooner.permits = permits;
        sooner
    }

    /// Why there are fewer permits than wanted; `None` when there are not.
    pub fn reason(&self) -> Option<WaitReason> {
        self.bound.map(Bound::reason)
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
    /// What it waits for.
    pub reason: WaitReason,
}

impl Permit {
    fn new(terms: Arc<Terms>, tokens: Tokens, now: u64) -> Self {
        Self { terms, tokens, taken: now, use_of: TokensUse::Unused, given_back: false }
    }

    /// Gives it back before its time: nothing is done with it any more. Whoever exchanges it for
    /// one of other limits must not stand in its own way at those that both have.
    pub fn give_back(&mut self) {
        if !std::mem::replace(&mut self.given_back, true) {
            self.terms.give_back(&self.tokens, self.use_of);
        }
    }

    /// Exchanges the tokens for new ones if they are too old to be used. What it holds of
    /// concurrencies it keeps. Once its limits are narrower than they were, it is exchanged
    /// as a whole: what was claimed before a receiver asked for less waits with the rest.
    pub fn freshen(&mut self) -> Result<(), NotYet> {
        if let Some(terms) = self.terms.changed() {
            let mut grant = terms.take(1);
            let now = self.terms.core.now();
            let Some(tokens) = grant.tokens.pop() else {
                let bound = grant.bound_by.map_or(Bound::Rate, |(_, bound)| bound);
                let wait = match bound {
                    Bound::Closed(_) => Some(terms.closed_for()),
                    _ => terms.wait(1),
                };
                return Err(NotYet { wait, reason: bound.reason() });
            };
            *self = Self::new(terms, tokens, now);
            return Ok(());
        }
        if self.tokens.is_empty() {
            return Ok(());
        }
        let now = self.terms.core.now();
        if Duration::from_nanos(now.saturating_sub(self.taken)) < STALE {
            return Ok(());
        }
        let Some(tokens) = self.terms.take_tokens(now) else {
            return Err(NotYet { wait: self.terms.wait(1), reason: WaitReason::Rate });
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
        self.give_back();
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokensUse {
    Spent,
    Unused,
}
