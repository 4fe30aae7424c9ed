//! Which lanes to take from next, and how much: weighted deficit round robin over
//! tenants, then priority, then the lane that waited longest (no I/O).
//!
//! Whatever a tenant may not use this time goes to the others; what it was owed is
//! remembered, within bounds. A lane that is divided among routes asks the limits of each for
//! its share, so that a limit of one of them holds back no other's.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::lane_state::Place;
use super::lane_way::{Granted, divided};
use super::lanes::LaneBook;
use super::order::{Cursor, UPSIDE_DOWN};
use super::pick::{Pick, Picks};
use super::quiet::Nights;
use crate::domain::ids::TenantId;
use crate::domain::outcome::WaitReason;
use crate::throttle::gate::Taken;
use crate::throttle::metrics::Waiting;

/// Longest rest of a lane in its quiet hours before its clock is looked at again: the
/// machine's may be set, and the machine may sleep.
const QUIET_LOOK: Duration = Duration::from_secs(60);

impl LaneBook {
    /// When the next lane may be asked; `None`: not before a hint.
    pub fn next_turn(&self) -> Option<Instant> {
        if !self.ready.is_empty() {
            return self.now;
        }
        let rested = self.resting.first().map(|(at, _)| *at);
        self.crowds.next().into_iter().chain(rested).min()
    }

    /// Divides `free` slots. `room` says how many more jobs of a tenant may be in hand.
    pub fn pick(
        &mut self,
        free: usize,
        per_lane: usize,
        room: impl Fn(TenantId) -> usize,
        now: Instant,
    ) -> Vec<Pick> {
        self.round += 1;
        self.now = Some(now);
        for lane in self.crowds.let_out(now) {
            self.looked_at += 1;
            if let Some(state) = self.lanes.get_mut(&lane) {
                state.place = Place::Aside;
            }
            self.file(lane);
        }
        while let Some((at, lane)) = self.resting.first().copied().filter(|(at, _)| *at <= now) {
            self.resting.remove(&(at, lane));
            self.looked_at += 1;
            if let Some(state) = self.lanes.get_mut(&lane) {
                state.place = Place::Aside;
            }
            self.file(lane);
        }
        // Owed is what could not be had while wanting it; who wants nothing is owed nothing.
        self.owed.retain(|tenant, _| self.ready.contains_key(tenant));
        let total: f64 = self.ready.values().map(|lanes| lanes.weight).sum();
        for (tenant, lanes) in &self.ready {
            let owed = self.owed.entry(*tenant).or_default();
            *owed = (*owed + free as f64 * lanes.weight / total).min(2.0 * free as f64);
        }
        let mut turns: Vec<TenantId> = self.ready.keys().copied().collect();
        turns.sort_by(|a, b| self.owed[b].total_cmp(&self.owed[a]).then(a.cmp(b)));

        let mut left = free;
        let mut picks = Picks::default();
        let mut taken_by: HashMap<TenantId, usize> = HashMap::new();
        // First what each is owed, then what is left over to whoever can use it.
        'slots: for share in [Share::Owed, Share::LeftOver] {
            for tenant in &turns {
                let already = taken_by.get(tenant).copied().unwrap_or(0);
                let budget = match share {
                    Share::Owed => self.owed[tenant].floor().max(0.0) as usize,
                    Share::LeftOver => left,
                }
                .min(left)
                .min(room(*tenant).saturating_sub(already));
                let taken = self.take(*tenant, budget, per_lane, &mut picks, now);
                left -= taken;
                *taken_by.entry(*tenant).or_default() += taken;
                if let Some(owed) = self.owed.get_mut(tenant) {
                    *owed = (*owed - taken as f64).max(-(free as f64));
                }
                if left == 0 {
                    break 'slots;
                }
            }
        }
        for pick in &picks.list {
            self.served(pick.lane);
        }
        picks.list
    }

    /// Takes up to `budget` permits for a tenant's lanes, in their order.
    fn take(
        &mut self,
        tenant: TenantId,
        mut budget: usize,
        per_lane: usize,
        picks: &mut Picks,
        now: Instant,
    ) -> usize {
        let mut taken = 0;
        let flip = self.round.is_multiple_of(UPSIDE_DOWN);
        let mut cursor = Cursor::new(flip);
        while budget > 0 {
            let Some(id) = self.ready.get(&tenant).and_then(|lanes| cursor.next(&lanes.order))
            else {
                break;
            };
            self.looked_at += 1;
            let Some(state) = self.lanes.get_mut(&id) else { continue };
            if let Some(left) = state.nights.as_ref().and_then(Nights::left) {
                state.waiting = Some(Waiting::begin(WaitReason::QuietHours));
                self.rest(id, now + left.min(QUIET_LOOK), WaitReason::QuietHours);
                continue;
            }
            let Some(first) = state.ways.first() else { continue };
            if let Some(left) = first.choice.shut() {
                state.waiting = Some(Waiting::begin(WaitReason::RouteOut));
                self.rest(id, now + left.min(QUIET_LOOK), WaitReason::RouteOut);
                continue;
            }
            let want = budget.min(per_lane.saturating_sub(picks.of(id)));
            if want == 0 {
                continue;
            }
            let shares: Vec<u32> = match &*state.ways {
                [_] => vec![1],
                ways => ways.iter().map(|way| way.choice.open_share()).collect(),
            };
            let mut bound: Option<Taken> = None;
            let mut granted = 0;
            let parts = divided(want, &shares, self.round);
            let asked = state.ways.iter().zip(&parts).filter(|(_, part)| **part > 0);
            // Few do not go into many: who was left out is asked when the others give none.
            let left_out = state.ways.iter().zip(shares.iter().zip(&parts));
            let left_out = left_out.filter(|(_, (share, part))| **share > 0 && **part == 0);
            let all = asked.map(|(way, part)| (way, *part));
            for (way, part) in all.chain(left_out.map(|(way, _)| (way, 1))) {
                let Granted { mut taken, beyond } = way.take(part.min(want - granted));
                granted += taken.permits.len() + beyond.len();
                picks.add(id, std::mem::take(&mut taken.permits), &way.choice);
                if let Some((_, choice)) = &way.overflow {
                    picks.add(id, beyond, choice);
                }
                bound = Some(match bound {
                    Some(other) => other.beside(taken),
                    None => taken,
                });
                if granted == want {
                    break;
                }
            }
            let Some(got) = bound else {
                self.rest(id, now + QUIET_LOOK, WaitReason::RouteOut);
                continue;
            };
            state.waiting = got.reason().map(Waiting::begin);
            state.record.asked(&got, now);
            let (weight, crowd) = (state.lane.weight, state.crowd);
            if granted > 0 {
                if let Some(crowd) = crowd {
                    self.crowds.served(crowd, tenant, granted, weight);
                }
                taken += granted;
                budget -= granted;
            }
            if let Some(key) = &got.blocked_by {
                self.unfile(id);
                self.turned_away(id, key, got.wait.map(|wait| now + wait), picks.of(id) > 0);
            }
        }
        taken
    }
}

#[derive(Clone, Copy)]
enum Share {
    Owed,
    LeftOver,
}
