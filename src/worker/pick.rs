//! Leave to take from lanes: what a turn of the claimer picked (no I/O).

use std::collections::HashMap;

use std::sync::Arc;

use crate::domain::ids::LaneId;
use crate::route::choice::RouteChoice;
use crate::throttle::gate::Permit;

/// Leave to send one delivery of a lane, and the way it goes.
#[derive(Debug)]
pub struct Grant {
    /// Given back unless it is used.
    pub permit: Permit,
    /// The way that it is for.
    pub choice: Arc<RouteChoice>,
}

/// Leave to take up to `permits.len()` jobs from a lane.
#[derive(Debug)]
pub struct Pick {
    /// From here.
    pub lane: LaneId,
    /// One for each job; what is not used is dropped and so given back.
    pub permits: Vec<Grant>,
}

/// Picks of one round, each lane once.
#[derive(Default)]
pub(super) struct Picks {
    pub(super) list: Vec<Pick>,
    at: HashMap<LaneId, usize>,
}

impl Picks {
    /// Permits picked for a lane so far.
    pub(super) fn of(&self, lane: LaneId) -> usize {
        self.at.get(&lane).map_or(0, |at| self.list[*at].permits.len())
    }

    /// Picks more for a lane.
    pub(super) fn add(&mut self, lane: LaneId, permits: Vec<Permit>, choice: &Arc<RouteChoice>) {
        let grant = |permit| Grant { permit, choice: Arc::clone(choice) };
        let permits = permits.into_iter().map(grant);
        if let Some(at) = self.at.get(&lane) {
            self.list[*at].permits.extend(permits);
        } else {
            self.at.insert(lane, self.list.len());
            self.list.push(Pick { lane, permits: permits.collect() });
        }
    }
}
