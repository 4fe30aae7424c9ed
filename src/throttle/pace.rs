//! The pace of one key: what is remembered of it, and what changes it (`law.rs` says how).
//! Times are seconds on the clock of whoever keeps it: the database's.

use serde::{Deserialize, Serialize};

/// What the law goes by; from `[adaptive]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Terms {
    /// Length of a window.
    pub window: f64,
    /// Part of the tries that may be deferred without a word about the pace.
    pub deferral_ratio: f64,
    /// Slowest pace.
    pub floor: f64,
    /// Fastest.
    pub ceiling: f64,
    /// At which part of what was taken the pace rests.
    pub headroom: f64,
    /// First wait before more is tried.
    pub probe: f64,
    /// After so long without a refusal nothing is remembered.
    pub forget: f64,
}

/// What came of the tries since the last time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Heard {
    /// Taken by the receiver.
    pub passed: f64,
    /// Deferred by it.
    pub refused: f64,
    /// Seconds that all of them took together.
    pub spent: f64,
    /// Over how many seconds, for whoever learns a pace from this alone.
    pub span: f64,
    /// What replies ordered.
    pub asked: Option<Asked>,
}

/// What replies ordered, the strictest of several.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Asked {
    /// Go slower.
    pub slow: bool,
    /// Hold fewer connections.
    pub fewer: bool,
    /// Stop for so many seconds.
    pub suspend: Option<f64>,
    /// At most so many a second, for so many seconds.
    pub rate: Option<(f64, f64)>,
    /// At most so many at once, for so many seconds.
    pub slots: Option<(u32, f64)>,
    /// The rule and the reply, for people.
    pub rule: String,
    /// Without addresses.
    pub reply: String,
}

/// The pace of one key, as all replicas share it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pace {
    /// Deliveries a second; `None`: any.
    pub rate: Option<f64>,
    /// What the receiver took when it last refused.
    pub taken: f64,
    /// Deliveries in hand at once; `None`: any.
    pub slots: Option<u32>,
    /// Nothing goes before this; 0: it is not suspended, nor being probed after that.
    pub suspended_until: f64,
    /// How long the last suspension was, and the how-manieth in a row.
    pub suspended_for: f64,
    /// See above.
    pub suspensions: u32,
    /// Until when a reply holds it at a rate or a number.
    pub capped_until: f64,
    /// That rate.
    pub cap_rate: Option<f64>,
    /// That number.
    pub cap_slots: Option<u32>,
    /// When more than was taken is tried again, after how many vain tries, and by how much.
    pub probe_at: f64,
    /// See above.
    pub probe_fails: u32,
    /// See above.
    pub step: f64,
    /// The current window and the one before.
    pub window: Window,
    /// See above.
    pub before: Window,
    /// When the number of slots last changed.
    pub slots_at: f64,
    /// When it last became slower.
    pub slower_at: f64,
    /// Last refused.
    pub refused_at: f64,
    /// Since when there is a pace.
    pub since: f64,
    /// Which rule last spoke.
    pub rule: String,
    /// Its reply, without addresses.
    pub reply: String,
}

/// Tries put together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Window {
    /// Its beginning; what comes before is not counted.
    pub from: f64,
    /// Its length, once it is over.
    pub span: f64,
    /// Taken.
    pub passed: f64,
    /// Deferred.
    pub refused: f64,
}

/// In which state a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It keeps a pace.
    Paced,
    /// Nothing goes.
    Suspended,
    /// One at a time, to see whether it is taken.
    Probing,
    /// A reply holds it at a rate or a number.
    Capped,
}

/// What a pace means now.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Standing {
    /// The state.
    pub phase: Phase,
    /// Deliveries a second; `None`: any.
    pub rate: Option<f64>,
    /// Deliveries at once; `None`: any.
    pub slots: Option<u32>,
    /// Seconds until the state ends by itself.
    pub left: Option<f64>,
}

impl Asked {
    /// Both, the stricter each time.
    pub fn and(&mut self, other: Self) {
        self.slow |= other.slow;
        self.fewer |= other.fewer;
        self.suspend = match (self.suspend, other.suspend) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (a, b) => a.or(b),
        };
        if let Some((rate, lasts)) = other.rate {
            let known = self.rate.unwrap_or((rate, lasts));
            self.rate = Some((known.0.min(rate), known.1.max(lasts)));
        }
        if let Some((slots, lasts)) = other.slots {
            let known = self.slots.unwrap_or((slots, lasts));
            self.slots = Some((known.0.min(slots), known.1.max(lasts)));
        }
        (self.rule, self.reply) = (other.rule, other.reply);
    }
}
