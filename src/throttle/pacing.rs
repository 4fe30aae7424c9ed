//! What one replica saw of its tries, key by key, until it is shared (`sharing.rs`).
//!
//! As long as a key has no pace, it stays here and is forgotten: two windows are kept, so that
//! the first reply that asks for a pace finds what the receiver took until then.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::key::Key;
use super::pace::{Asked, Heard, Terms};
use crate::config::Adaptive;

/// Keys that are observed at most.
const MOST_KEYS: usize = 50_000;

/// Keys that are told at once.
const MOST_TOLD: usize = 500;

/// What this replica saw, and which keys have a pace.
#[derive(Debug)]
pub struct Paces {
    pub(super) seen: Mutex<HashMap<Key, Local>>,
    pub(super) paced: RwLock<HashSet<Key>>,
    pub(super) settings: RwLock<Adaptive>,
    pub(super) asked: Notify,
}

/// What came of the tries for one key, since it was last told.
#[derive(Debug)]
pub(super) struct Local {
    from: Instant,
    now: Tally,
    before: Tally,
    before_span: f64,
    asked: Option<Asked>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    passed: f64,
    refused: f64,
    spent: f64,
}

impl Paces {
    /// Nothing was seen yet.
    pub fn new(settings: &Adaptive) -> Self {
        Self {
            seen: Mutex::default(),
            paced: RwLock::default(),
            settings: RwLock::new(settings.clone()),
            asked: Notify::new(),
        }
    }

    /// Takes over changed settings.
    pub fn apply(&self, settings: &Adaptive) {
        *self.settings.write() = settings.clone();
    }

    /// A receiver took a mail that counts for these keys.
    pub fn passed(&self, keys: &[Key], took: Duration) {
        if !self.settings.read().enabled {
            return;
        }
        let mut seen = self.seen.lock();
        for key in keys {
            let Some(local) = local(&mut seen, key) else { continue };
            local.now.passed += 1.0;
            local.now.spent += took.as_secs_f64();
        }
    }

    /// A receiver deferred a mail on account of this key; `asked`: and said what it wants.
    pub fn refused(&self, key: &Key, took: Duration, asked: Option<Asked>) {
        if !self.settings.read().enabled {
            return;
        }
        let mut seen = self.seen.lock();
        let Some(local) = local(&mut seen, key) else { return };
        local.now.refused += 1.0;
        local.now.spent += took.as_secs_f64();
        if let Some(asked) = asked {
            // The first word is passed on at once.
            let first = local.asked.is_none();
            match &mut local.asked {
                Some(known) => known.and(asked),
                none => *none = Some(asked),
            }
            drop(seen);
            if first {
                self.asked.notify_one();
            }
        }
    }

    /// What is to be told now; the rest is kept a while, for whoever must learn from it.
    pub(super) fn to_tell(&self, terms: &Terms) -> Vec<(Key, Heard)> {
        let paced = self.paced.read().clone();
        let window = Duration::from_secs_f64(terms.window);
        let mut told = Vec::new();
        self.seen.lock().retain(|key, local| {
            let age = local.from.elapsed();
            let known = paced.contains(key);
            if known || local.is_trouble(terms) {
                if told.len() < MOST_TOLD {
                    told.push((key.clone(), local.take(known)));
                }
                return true;
            }
            if age >= window {
                local.roll(age);
                // Two windows without a try: nothing to remember.
                return local.before.passed + local.before.refused > 0.0;
            }
            true
        });
        told
    }
}

fn local<'s>(seen: &'s mut HashMap<Key, Local>, key: &Key) -> Option<&'s mut Local> {
    if !seen.contains_key(key) {
        if seen.len() >= MOST_KEYS {
            return None;
        }
        let fresh = Local {
            from: Instant::now(),
            now: Tally::default(),
            before: Tally::default(),
            before_span: 0.0,
            asked: None,
        };
        seen.insert(key.clone(), fresh);
    }
    seen.get_mut(key)
}

impl Local {
    /// Whether there is a reason to slow down, as far as this replica sees.
    fn is_trouble(&self, terms: &Terms) -> bool {
        let (passed, refused) =
            (self.now.passed + self.before.passed, self.now.refused + self.before.refused);
        self.asked.is_some()
            || (refused >= 5.0 && refused > terms.deferral_ratio * (passed + refused))
    }

    /// What was seen since the last time; `known`: the row has what came before.
    fn take(&mut self, known: bool) -> Heard {
        let span = self.from.elapsed().as_secs_f64();
        let before = if known { Tally::default() } else { self.before };
        let heard = Heard {
            passed: self.now.passed + before.passed,
            refused: self.now.refused + before.refused,
            spent: self.now.spent + before.spent,
            span: if known { span } else { span + self.before_span },
            asked: self.asked.take(),
        };
        self.from = Instant::now();
        (self.now, self.before, self.before_span) = (Tally::default(), Tally::default(), 0.0);
        heard
    }

    fn roll(&mut self, age: Duration) {
        self.before = std::mem::take(&mut self.now);
        self.before_span = age.as_secs_f64();
        self.from = Instant::now();
    }
}

impl Terms {
    /// As configured.
    pub fn of(settings: &Adaptive) -> Self {
        Self {
            window: settings.window.as_secs_f64(),
            deferral_ratio: settings.deferral_ratio,
            floor: settings.floor,
            ceiling: settings.ceiling.unwrap_or(1e9),
            headroom: settings.headroom,
            probe: settings.probe.as_secs_f64(),
            forget: settings.forget.as_secs_f64(),
        }
    }
}
