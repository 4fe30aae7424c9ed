//! The lanes that this process knows, each filed by what it waits for (no I/O).
//!
//! A lane that is paused, throttled or known to be empty is not asked for at all, so
//! it costs nothing however much waits in it, and however many such lanes there are:
//! a turn (`picking.rs`) looks at those only that may be taken from.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use super::crowd::Crowds;
use super::lane_state::{LaneState, Place};
use super::lane_way::LaneWay;
use super::order::Lanes;
use super::quiet::Nights;
use super::waits::LaneRecord;
use crate::domain::ids::{LaneId, TenantId};
use crate::domain::outcome::WaitReason;
use crate::queue::lane::{Blocks, Lane};
use crate::throttle::key::Key;

/// All lanes known to this process, and what each tenant is owed.
#[derive(Debug, Default)]
pub struct LaneBook {
    pub(super) lanes: HashMap<LaneId, LaneState>,
    blocks: Blocks,
    pub(super) ready: BTreeMap<TenantId, Lanes>,
    pub(super) crowds: Crowds,
    pub(super) resting: BTreeSet<(Instant, LaneId)>,
    pub(super) owed: HashMap<TenantId, f64>,
    pub(super) round: u64,
    /// Of the last pick.
    pub(super) now: Option<Instant>,
    pub(super) looked_at: u64,
}

impl LaneBook {
    /// Whether the lane's directory entry is known.
    pub fn knows(&self, lane: LaneId) -> bool {
        self.lanes.contains_key(&lane)
    }

    /// The lane's state.
    pub fn get(&self, lane: LaneId) -> Option<&LaneState> {
        self.lanes.get(&lane)
    }

    /// Lanes that were looked at so far to find those to take from.
    pub const fn looked_at(&self) -> u64 {
        self.looked_at
    }

    /// Adds a lane, or replaces its limits, route and quiet hours after a change of them.
    /// `ways`: one, or several among which it is divided, that with the greatest share first.
    pub fn put(&mut self, lane: Arc<Lane>, mut ways: Vec<LaneWay>, nights: Option<Nights>) {
        let id = lane.id;
        self.unfile(id);
        let now = Instant::now();
        let known = self.lanes.get(&id);
        let warm = known.is_some_and(|known| known.warm);
        let served = known.map_or(0, |known| known.served);
        let record = known.map_or(LaneRecord::new(now), |known| known.record.renewed());
        let blocked = is_blocked(&self.blocks, &lane, &ways);
        for way in &mut ways {
            way.hold(|route| self.blocks.cover(&lane, route));
        }
        self.lanes.insert(
            id,
            LaneState {
                lane,
                ways,
                nights,
                warm,
                blocked,
                place: Place::Aside,
                crowd: None,
                waiting: None,
                served,
                record,
            },
        );
        self.file(id);
    }

    /// The directory entries of all lanes.
    pub fn entries(&self) -> Vec<Arc<Lane>> {
        self.lanes.values().map(|state| Arc::clone(&state.lane)).collect()
    }

    /// What is paused from now on. Only a change of it looks at the lanes.
    pub fn block(&mut self, blocks: &Blocks) {
        if *blocks == self.blocks {
            return;
        }
        self.blocks.clone_from(blocks);
        let mut changed = Vec::new();
        for (id, state) in &mut self.lanes {
            let blocked = is_blocked(&self.blocks, &state.lane, &state.ways);
            if blocked != state.blocked {
                state.blocked = blocked;
                changed.push(*id);
            }
            for way in &mut state.ways {
                way.hold(|route| self.blocks.cover(&state.lane, route));
            }
        }
        for id in changed {
            self.unfile(id);
            self.file(id);
        }
    }

    /// `hinted` lanes hold work, as far as is known. One that waits for a limit goes on
    /// waiting.
    pub fn hint(&mut self, hinted: &[LaneId]) {
        let now = Instant::now();
        for lane in hinted {
            if let Some(state) = self.lanes.get_mut(lane).filter(|state| !state.warm) {
                state.record.warmed(now);
                state.warm = true;
                self.file(*lane);
            }
        }
    }

    /// What became of a pick: `asked` for, `got`. A lane that gave all may hold more; one
    /// that did not is left alone until it is hinted again.
    pub fn claimed(&mut self, lane: LaneId, asked: usize, got: usize) {
        if let Some(state) = self.lanes.get_mut(&lane) {
            state.record.claimed(asked, got);
        }
        if got >= asked {
            return;
        }
        self.unfile(lane);
        if let Some(state) = self.lanes.get_mut(&lane) {
            state.warm = false;
            state.waiting = None;
        }
    }

    /// Every lane, as far as it is known.
    pub(super) fn states(&self) -> impl Iterator<Item = &LaneState> {
        self.lanes.values()
    }

    /// Somebody gave back a permit of a limit that was full.
    pub fn unpark(&mut self) {
        if let Some(now) = self.now {
            self.crowds.ease(now);
        }
    }

    /// The limits changed: what was foretold under the old ones may be wrong.
    pub fn ease(&mut self, now: Instant) {
        self.crowds.hurry(now);
    }

    /// Leaves a lane alone until a time.
    pub(super) fn rest(&mut self, lane: LaneId, until: Instant, reason: WaitReason) {
        self.unfile(lane);
        if let Some(state) = self.lanes.get_mut(&lane) {
            state.place = Place::Resting(until, reason);
            self.resting.insert((until, lane));
        }
    }

    /// The lane waits for a limit, until a time or until something is given back.
    pub(super) fn turned_away(
        &mut self,
        lane: LaneId,
        key: &Key,
        until: Option<Instant>,
        served: bool,
    ) {
        let Some(state) = self.lanes.get_mut(&lane) else { return };
        if served {
            state.served = self.round;
        }
        let crowd = self.crowds.join(key, until, state.lane.tenant, state.rank());
        state.place = Place::Crowd(crowd);
        state.crowd = Some(crowd);
    }

    /// The lane had its turn in this round: it goes behind those that had not.
    pub(super) fn served(&mut self, lane: LaneId) {
        let Some(place) = self.lanes.get(&lane).map(|state| state.place) else { return };
        if place == Place::Ready {
            self.unfile(lane);
        }
        if let Some(state) = self.lanes.get_mut(&lane) {
            state.served = self.round;
        }
        if place == Place::Ready {
            self.file(lane);
        }
    }

    /// Files a lane that stands aside, if it may have its turn.
    pub(super) fn file(&mut self, lane: LaneId) {
        let Some(state) = self.lanes.get_mut(&lane) else { return };
        if !state.warm || state.blocked {
            return;
        }
        state.place = Place::Ready;
        let tenant = self.ready.entry(state.lane.tenant).or_default();
        tenant.weight = f64::from(state.lane.weight);
        tenant.order.insert(state.rank());
    }

    /// Takes a lane out of where it waits.
    pub(super) fn unfile(&mut self, lane: LaneId) {
        let Some(state) = self.lanes.get_mut(&lane) else { return };
        let tenant = state.lane.tenant;
        match std::mem::replace(&mut state.place, Place::Aside) {
            Place::Aside => {}
            Place::Crowd(crowd) => self.crowds.leave(crowd, tenant, state.rank()),
            Place::Resting(until, _) => {
                self.resting.remove(&(until, lane));
            }
            Place::Ready => {
                if let Some(lanes) = self.ready.get_mut(&tenant) {
                    lanes.order.remove(&state.rank());
                    if lanes.order.is_empty() {
                        self.ready.remove(&tenant);
                    }
                }
            }
        }
    }
}

/// A lane is held back when all its ways are.
fn is_blocked(blocks: &Blocks, lane: &Lane, ways: &[LaneWay]) -> bool {
    ways.iter().all(|way| blocks.cover(lane, &way.choice.route))
}
