//! One of the ways out of a lane, with the limits of what takes it (no I/O).

use std::sync::Arc;

use crate::route::choice::RouteChoice;
use crate::throttle::gate::{Gate, Permit, Taken};
use crate::throttle::key::Key;

/// A way out, and leave to take it.
#[derive(Debug)]
pub struct LaneWay {
    /// The limits that apply to everything that takes it.
    pub gate: Arc<Gate>,
    /// The way.
    pub choice: Arc<RouteChoice>,
    /// For what its source may not take today: a source in its warm-up has a warm one behind it.
    pub overflow: Option<(Arc<Gate>, Arc<RouteChoice>)>,
}

/// What one way granted.
#[derive(Debug)]
pub(super) struct Granted {
    /// By the way itself, and why there are not more.
    pub(super) taken: Taken,
    /// By its overflow.
    pub(super) beyond: Vec<Permit>,
}

impl LaneWay {
    /// A way without a source that is warming up.
    pub fn new(gate: Arc<Gate>, choice: Arc<RouteChoice>) -> Self {
        Self { gate, choice, overflow: None }
    }

    /// Takes up to `want` permits.
    pub(super) fn take(&self, want: usize) -> Granted {
        let mut taken = self.gate.take(want as u32);
        let mut beyond = Vec::new();
        if let Some((gate, _)) = &self.overflow
            && taken.blocked_by.as_ref().is_some_and(is_of_a_source)
        {
            let further = gate.take((want - taken.permits.len()) as u32);
            taken = taken.followed_by(further, &mut beyond);
        }
        Granted { taken, beyond }
    }

    /// Holds back what `held` names.
    pub(super) fn hold(&mut self, held: impl Fn(&Arc<str>) -> bool) {
        if let Some(choice) = self.choice.holding(&held) {
            self.choice = Arc::new(choice);
        }
        if let Some((_, other)) = &mut self.overflow
            && let Some(choice) = other.holding(&held)
        {
            *other = Arc::new(choice);
        }
    }
}

/// Whether a limit is one of a source, so that another source may have room.
fn is_of_a_source(key: &Key) -> bool {
    matches!(key, Key::Source(_) | Key::SourceMailboxProvider(..))
}

/// Divides `want` in proportion to the shares; what does not divide goes to one after the other,
/// beginning with another one each `turn`.
pub(super) fn divided(want: usize, shares: &[u32], turn: u64) -> Vec<usize> {
    let total: u64 = shares.iter().map(|share| u64::from(*share)).sum();
    if total == 0 {
        return vec![0; shares.len()];
    }
    let part = |share: &u32| (want as u64 * u64::from(*share) / total) as usize;
    let mut parts: Vec<usize> = shares.iter().map(part).collect();
    let mut left = want - parts.iter().sum::<usize>();
    let mut at = (turn % shares.len() as u64) as usize;
    while left > 0 {
        if shares[at] > 0 {
            parts[at] += 1;
            left -= 1;
        }
        at = (at + 1) % shares.len();
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_divide_what_is_wanted_and_nothing_is_lost() {
        assert_eq!(divided(100, &[3, 1], 0), [75, 25]);
        assert_eq!(divided(1, &[3, 1], 0), [1, 0]);
        assert_eq!(divided(1, &[3, 1], 1), [0, 1], "each has its turn");
        assert_eq!(divided(5, &[0, 2, 2], 0), [0, 3, 2], "who is out gets none");
        assert_eq!(divided(5, &[0, 0], 7), [0, 0]);
        for want in 0..50 {
            for turn in 0..4 {
                assert_eq!(divided(want, &[5, 0, 3, 1], turn).iter().sum::<usize>(), want);
            }
        }
    }
}
