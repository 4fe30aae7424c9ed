//! The order of a tenant's lanes: by priority, and within one the longest unserved first
//! (no I/O).

use std::collections::BTreeSet;
use std::ops::Bound;

use crate::domain::ids::LaneId;

/// Every this many rounds the lowest priority goes first, so that transactional mail
/// without end cannot starve bulk.
pub(super) const UPSIDE_DOWN: u64 = 8;

/// A lane among its tenant's: by priority, then by the round in which it was served last.
pub(super) type Rank = (u8, u64, LaneId);

/// A tenant's lanes that may be taken from, in their order.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    pub(super) weight: f64,
    pub(super) order: BTreeSet<Rank>,
}

/// A walk over a tenant's lanes that goes on while lanes leave: by priority, or the lowest
/// first; within one the longest unserved first.
pub(super) struct Cursor {
    flip: bool,
    last: Option<Rank>,
}

impl Cursor {
    pub(super) const fn new(flip: bool) -> Self {
        Self { flip, last: None }
    }

    /// The next lane, if there is one more.
    pub(super) fn next(&mut self, order: &BTreeSet<Rank>) -> Option<LaneId> {
        let behind = self.last.and_then(|last| {
            let rest = order.range((Bound::Excluded(last), Bound::Unbounded));
            rest.take(1).find(|at| at.0 == last.0)
        });
        let found = match (behind, self.last) {
            (Some(found), _) => found,
            // The first of the next priority that there is.
            (None, None) if self.flip => first_of(order, order.last()?.0)?,
            (None, None) => order.first()?,
            (None, Some(last)) if self.flip => {
                first_of(order, order.range(..(last.0, 0, FIRST)).next_back()?.0)?
            }
            (None, Some(last)) => order.range((last.0.checked_add(1)?, 0, FIRST)..).next()?,
        };
        self.last = Some(*found);
        Some(found.2)
    }
}

fn first_of(order: &BTreeSet<Rank>, priority: u8) -> Option<&Rank> {
    order.range((priority, 0, FIRST)..).next()
}

/// Before every lane.
const FIRST: LaneId = LaneId::new(i32::MIN);
