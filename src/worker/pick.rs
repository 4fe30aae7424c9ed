//! Leave to take from lanes: what a turn of the claimer picked (no I/O).

use std::collections::HashMap;

use std::sync::Arc;

use crate::domain::ids::{DeliveryId, LaneId};
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

impl Pick {
    /// Leave for one delivery of the lane: by the way whose share it is, if there is such.
    pub fn leave_for(&mut self, delivery: DeliveryId) -> Option<Grant> {
        let choice = &self.permits.last()?.choice;
        if !choice.is_divided() {
            return self.permits.pop();
        }
        let share = choice.share_of(delivery).clone();
        let own = self.permits.iter().rposition(|grant| grant.choice.route == share);
        match own {
            Some(at) => Some(self.permits.swap_remove(at)),
            None => self.permits.pop(),
        }
    }
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
        if permits.is_empty() {
            return;
        }
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
