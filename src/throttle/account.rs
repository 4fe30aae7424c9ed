//! What a key has to spend: a bank of its own, or what the cluster dealt to this process.
//!
//! [`Account::Own`] is for one process alone: whole buckets, granted at once.
//! [`Account::Dealt`] holds tokens and an allotment that the exchange brings; before the
//! first answer, and when answers stay away, it has nothing.

use std::time::Duration;

use parking_lot::Mutex;
use smallvec::SmallVec;

use super::bucket::{Bucket, Quota};
use super::rules::Bounds;
use super::seat::Seat;
use super::stock::{Stock, Token};
use crate::config::ThrottleRule;

/// Tokens that a permit holds: one for each rate of each of its limits, in their order.
pub(super) type Tokens = SmallVec<[Token; 2]>;

/// See the file's header.
#[derive(Debug)]
pub(super) enum Account {
    Own([Bucket; ThrottleRule::MOST_RATES]),
    Dealt(Box<Mutex<Dealt>>),
}

/// What was dealt to this process.
#[derive(Debug, Default)]
pub(super) struct Dealt {
    pub(super) stocks: [Stock; ThrottleRule::MOST_RATES],
    pub(super) seat: Seat,
    /// The terms under which somebody last came.
    pub(super) bounds: Bounds,
    /// On the list of those that the exchange looks at.
    pub(super) listed: bool,
    /// Somebody was told to wait for the next answer.
    pub(super) awaited: bool,
}

impl Account {
    /// Slots that may be in use under `limit`.
    pub(super) fn cap(&self, now: u64, limit: Option<u32>) -> Option<u32> {
        match self {
            Self::Own(_) => limit,
            Self::Dealt(dealt) => limit.map(|limit| dealt.lock().seat.cap(now).min(limit)),
        }
    }

    /// Tokens of the `nth` rate that could be taken now.
    pub(super) fn available(&self, nth: usize, now: u64, quota: Quota) -> u32 {
        match self {
            Self::Own(buckets) => buckets[nth].available(now, quota),
            Self::Dealt(dealt) => dealt.lock().stocks[nth].available(now, quota),
        }
    }

    /// Adds a token of the `nth` rate to each of `permits`, or to none. Whether it did.
    pub(super) fn take(&self, nth: usize, now: u64, quota: Quota, permits: &mut [Tokens]) -> bool {
        let n = permits.len() as u32;
        match self {
            Self::Own(buckets) => {
                let took = buckets[nth].take(now, quota, n);
                if took {
                    for tokens in permits.iter_mut() {
                        tokens.push(Token::default());
                    }
                }
                took
            }
            Self::Dealt(dealt) => {
                let Some(taken) = dealt.lock().stocks[nth].take(now, quota, n) else {
                    return false;
                };
                permits.iter_mut().zip(taken).for_each(|(tokens, token)| tokens.push(token));
                true
            }
        }
    }

    /// Gives a token back that was not used; `quota` is what it is worth now.
    pub(super) fn refund(&self, nth: usize, quota: Quota, token: Token) {
        match self {
            Self::Own(buckets) => buckets[nth].refund(quota, 1),
            Self::Dealt(dealt) => dealt.lock().stocks[nth].refund(token),
        }
    }

    /// Time until `n` tokens are there; `None`: nobody can say yet.
    pub(super) fn next(&self, nth: usize, now: u64, quota: Quota, n: u32) -> Option<Duration> {
        match self {
            Self::Own(buckets) => Some(buckets[nth].next(now, quota, n)),
            Self::Dealt(dealt) => dealt.lock().stocks[nth].next(now, quota, n),
        }
    }

    /// Whether it would be missed: a bucket that is not full, or anything dealt.
    pub(super) fn remembers(&self, now: u64, bounds: Option<&Bounds>) -> bool {
        match self {
            Self::Own(buckets) => bounds.is_some_and(|bounds| {
                let mut rates = buckets.iter().zip(&bounds.quotas);
                rates.any(|(bucket, quota)| !bucket.is_full(now, *quota))
            }),
            Self::Dealt(dealt) => dealt.lock().listed,
        }
    }
}
