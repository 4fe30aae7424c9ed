//! One lane as the claimer sees it, and what it waits for (no I/O).

use std::sync::Arc;
use std::time::Instant;

use super::crowd::CrowdId;
use super::lane_way::LaneWay;
use super::order::Rank;
use super::quiet::Nights;
use super::waits::LaneRecord;
use crate::domain::outcome::WaitReason;
use crate::queue::lane::Lane;
use crate::throttle::metrics::Waiting;

/// A lane as the claimer sees it.
#[derive(Debug)]
pub struct LaneState {
    /// The directory entry.
    pub lane: Arc<Lane>,
    /// The ways out: several where it is divided, the one with the greatest share first.
    pub(super) ways: Vec<LaneWay>,
    /// When all of it rests, if it ever does.
    pub(super) nights: Option<Nights>,
    /// Told to hold work within the last seconds, or the last claim came back full.
    pub(super) warm: bool,
    /// A pause covers it.
    pub(super) blocked: bool,
    pub(super) place: Place,
    /// The crowd that it waited in last.
    pub(super) crowd: Option<CrowdId>,
    /// Counted in `postrider_waiting` while a limit holds it back.
    pub(super) waiting: Option<Waiting>,
    pub(super) served: u64,
    /// For whoever asks why it waits.
    pub(super) record: LaneRecord,
}

impl LaneState {
    /// Its place among its tenant's lanes.
    pub(super) fn rank(&self) -> Rank {
        (self.lane.priority, self.served, self.lane.id)
    }

    /// Whether it is known to hold work.
    pub(super) const fn is_warm(&self) -> bool {
        self.warm
    }

    /// Whether a pause covers it.
    pub(super) const fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Until when it rests, or is looked at again, and why.
    pub(super) const fn rests(&self) -> Option<(Instant, WaitReason)> {
        match self.place {
            Place::Resting(until, reason) => Some((until, reason)),
            _ => None,
        }
    }
}

/// Where a lane is filed: what it waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// For a hint, or for the end of a pause.
    Aside,
    /// For room in a limit.
    Crowd(CrowdId),
    /// For the end of its quiet hours, or for its route, or for another look at either.
    Resting(Instant, WaitReason),
    /// For its turn.
    Ready,
}
