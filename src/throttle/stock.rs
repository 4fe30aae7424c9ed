//! The tokens of one rate that a replica was dealt and has not used (pure).
//!
//! Each has its release and the end of its hold, on this process's monotonic clock. The
//! release is counted from the latest moment at which the database can have looked at its
//! clock and the end from the earliest: no token is used too early or too late.
//!
//! Also what the replica needs to know to ask: what was used since the last exchange
//! and whether somebody asked in vain.

use std::collections::VecDeque;
use std::time::Duration;

use smallvec::SmallVec;

use super::bucket::Quota;
use super::deal::{AHEAD, Ask, Slab, cost, hold};

/// A token on its way: it goes back to where it was if it is not spent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Token {
    /// From when on it may be used.
    at: u64,
    /// After this it is void.
    until: u64,
    /// Of which terms; those of others are not taken back.
    era: u32,
}

/// Between two exchanges about one rate while there is demand.
const INTERVAL: u64 = 80_000_000;

/// The same when nothing is left and nothing foretold.
pub(super) const HURRY: u64 = 20_000_000;

/// After so long without anybody who wants tokens they are given back.
const IDLE: u64 = 300_000_000;

/// A first demand asks for what flows in in this time.
const FIRST: f64 = 0.02;

/// A limit with a token less often than this is asked when somebody comes, not ahead.
const SLOW: i64 = 2_000_000_000;

/// See the file's header.
#[derive(Debug, Default)]
pub(super) struct Stock {
    /// What the tokens were dealt under, and the how-manieth such terms they are.
    quota: Option<Quota>,
    era: u32,
    /// By release.
    tokens: VecDeque<Token>,
    /// Of the last slab: the cluster's number after it, the first release, what left.
    tail: i64,
    slab_from: u64,
    gone: Vec<u64>,
    /// Since the last exchange, less what came back.
    used: i64,
    /// Somebody wanted more, last then.
    starved_at: Option<u64>,
    /// The same of the question that is under way.
    unmet: Option<u64>,
    wanted: u32,
    touched_at: u64,
    asked_at: Option<u64>,
    /// Release of the cluster's next token, as of the last answer.
    next_at: Option<u64>,
    lost: u64,
}

impl Stock {
    /// Tokens that could be taken now.
    pub(super) fn available(&mut self, now: u64, quota: Quota) -> u32 {
        self.under(quota);
        while self.tokens.front().is_some_and(|token| token.until < now)
            && self.tokens.back().is_some_and(|token| token.until >= now)
        {
            // One with usable ones behind it: nobody can be given it any more.
            self.tokens.pop_front();
            self.lost += 1;
        }
        let released = self.tokens.partition_point(|token| token.at <= now);
        self.tokens.iter().take(released).filter(|token| token.until >= now).count() as u32
    }

    /// Takes `n` of them, the earliest last (so that the last to be used is the latest);
    /// `None` when there are fewer.
    pub(super) fn take(&mut self, now: u64, quota: Quota, n: u32) -> Option<SmallVec<[Token; 8]>> {
        if self.available(now, quota) < n {
            return None;
        }
        self.touched_at = now;
        let mut taken = SmallVec::new();
        while taken.len() < n as usize {
            let token = self.tokens.pop_front()?;
            if token.until < now {
                self.lost += 1;
                continue;
            }
            self.gone.push(token.at);
            taken.push(token);
        }
        self.used += i64::from(n);
        taken.reverse();
        Some(taken)
    }

    /// Takes one back that was not used. Void by now, it may still go back to the cluster.
    pub(super) fn refund(&mut self, token: Token) {
        if token.era != self.era {
            self.lost += 1;
            return;
        }
        self.used -= 1;
        if let Some(at) = self.gone.iter().rposition(|at| *at == token.at) {
            self.gone.swap_remove(at);
        }
        let at = self.tokens.partition_point(|other| other.at <= token.at);
        self.tokens.insert(at, token);
    }

    /// Somebody found nothing.
    pub(super) fn starve(&mut self, now: u64) {
        self.starved_at = Some(now);
        self.touched_at = now;
    }

    /// Time until `n` tokens (or all that are foretold) can be taken; zero when some can
    /// now, `None` when nothing is known.
    pub(super) fn next(&mut self, now: u64, quota: Quota, n: u32) -> Option<Duration> {
        if self.available(now, quota) > 0 {
            return Some(Duration::ZERO);
        }
        let ahead =
            self.tokens.iter().filter(|token| token.at > now).take(n.max(1) as usize).last();
        let foretold = || self.next_at.filter(|next| *next > now);
        let at = ahead.map(|token| token.at).or_else(foretold)?;
        Some(Duration::from_nanos(at - now))
    }

    /// When to exchange, if there is a reason.
    pub(super) fn due(&self, now: u64, quota: Quota) -> Option<u64> {
        let starved = self.starved_at.is_some_and(|at| at + 2_000_000_000 > now);
        let known = self.tokens.iter().any(|token| token.until >= now);
        let wait = if starved && !known { HURRY } else { INTERVAL };
        let due = self.asked_at.map_or(now, |at| at + wait);
        if !starved {
            // What is used up is asked for again; what nobody wants goes back.
            return (self.used > 0 || !self.tokens.is_empty()).then_some(due);
        }
        if cost(quota, 1) >= SLOW && self.starved_at.is_some_and(|at| at + HURRY < now) {
            return (!self.tokens.is_empty()).then_some(due);
        }
        Some(self.next_at.map_or(due, |next| due.max(next.saturating_sub(AHEAD as u64))))
    }

    /// Whether nobody has wanted anything for a while, though told to come by now.
    fn is_idle(&self, now: u64, quota: Quota) -> bool {
        let last = self.tokens.back().map_or(0, |token| token.at);
        let next = self.next_at.filter(|_| cost(quota, 1) < SLOW).unwrap_or(0);
        now > self.touched_at.max(last).max(next) + IDLE
    }

    /// What to ask the cluster for now, if anything; what goes back is no longer here.
    pub(super) fn ask(&mut self, now: u64, quota: Quota) -> Option<Ask> {
        self.under(quota);
        let mut ask = Ask { back_tail: self.tail, ..Ask::default() };
        let idle = self.is_idle(now, quota);
        if idle || self.tokens.back().is_some_and(|token| token.until < now) {
            let last_gone = self.gone.iter().max().copied().unwrap_or(0);
            let unused = |token: &&Token| token.at >= self.slab_from && token.at > last_gone;
            ask.back = self.tokens.iter().filter(unused).count() as u32;
            self.lost += self.tokens.len() as u64 - u64::from(ask.back);
            self.tokens.clear();
        }
        let held = self.tokens.iter().filter(|token| token.until >= now).count();
        let elapsed = self.asked_at.map_or(INTERVAL, |at| (now - at).clamp(HURRY, 1_000_000_000));
        let used = self.used.max(0) as f64 * AHEAD as f64 / elapsed as f64;
        let goal = match self.starved_at {
            Some(_) if !idle => (2.0 * used).max((quota.rate * FIRST).max(1.0)),
            _ => used,
        };
        let goal = goal.min(quota.rate * AHEAD as f64 / 1e9 + quota.burst).ceil();
        ask.want = (goal as u32).saturating_sub(held as u32);
        self.used = 0;
        self.asked_at = Some(now);
        self.unmet = self.starved_at.take();
        self.wanted = ask.want;
        (ask.want > 0 || ask.back > 0).then_some(ask)
    }

    /// Puts an answer in. The database looked at its clock between `sent` and `now`; `ahead`
    /// is the slab's start less what that said.
    pub(super) fn receive(&mut self, sent: u64, now: u64, quota: Quota, slab: Slab, ahead: i64) {
        self.under(quota);
        self.next_at = Some(now.saturating_add_signed(ahead + cost(quota, slab.n + 1)));
        if slab.n < self.wanted && self.starved_at.is_none() {
            self.starved_at = self.unmet;
        }
        if slab.n == 0 {
            if self.tail != slab.tail {
                // What is still here lies before others' tokens now, or went back.
                self.slab_from = u64::MAX;
            }
            self.tail = slab.tail;
            return;
        }
        self.tail = slab.tail;
        self.gone.clear();
        for k in 1..=slab.n {
            let release = ahead + cost(quota, k);
            let latest = self.tokens.back().map_or(0, |token| token.at);
            let at = now.saturating_add_signed(release).max(latest);
            let until = sent.saturating_add_signed(release.max(0) + hold(quota));
            if k == 1 {
                self.slab_from = at;
            }
            self.tokens.push_back(Token { at, until, era: self.era });
        }
    }

    /// Tokens that nobody could use or give back, since this was last asked.
    pub(super) fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    /// Tokens dealt under other terms are not used.
    fn under(&mut self, quota: Quota) {
        if self.quota != Some(quota) {
            if self.quota.is_some() {
                self.lost += self.tokens.len() as u64;
                self.tokens.clear();
                self.gone.clear();
                self.next_at = None;
                self.asked_at = None;
                self.used = 0;
                self.era += 1;
            }
            self.quota = Some(quota);
        }
    }
}
