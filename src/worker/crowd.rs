//! Lanes that wait for the same limit, and who is let out when it eases (no I/O).
//!
//! A limit that is full turns away every lane that it counts, so only a few of those that
//! wait for it are let out at a time: a lane of the tenant that got least through it for its
//! weight comes first, then one of the next. Where none of them is turned away again, twice
//! as many follow, else half as many. So a turn costs what can be had, however many wait.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use super::order::{Rank, UPSIDE_DOWN};
use crate::domain::ids::{LaneId, TenantId};
use crate::throttle::key::Key;

/// How long a crowd that nobody waits in remembers who got how much.
const MEMORY: Duration = Duration::from_secs(10);

/// What one permit adds to the account of a tenant of weight 1.
const PERMIT: u64 = 1 << 20;

/// One crowd; the number is not used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct CrowdId(u64);

/// All crowds, by what they wait for.
#[derive(Debug, Default)]
pub(super) struct Crowds {
    of: HashMap<Key, CrowdId>,
    by_id: HashMap<CrowdId, Crowd>,
    /// Those that wait for a time.
    due: BTreeSet<(Instant, CrowdId)>,
    /// Those that wait until somebody gives something back.
    unknown: BTreeSet<CrowdId>,
    last: u64,
}

#[derive(Debug)]
struct Crowd {
    key: Key,
    until: Option<Instant>,
    /// Lanes let out next time.
    width: usize,
    /// Turned away since the last were let out.
    refused: bool,
    /// What the latest to be let out had got: whoever comes anew begins there.
    floor: u64,
    got: HashMap<TenantId, u64>,
    /// Who waits, by what it had got when it came.
    order: BTreeSet<(u64, TenantId)>,
    waiting: HashMap<TenantId, (u64, BTreeSet<Rank>)>,
    /// How often some were let out.
    times: u64,
}

impl Crowd {
    /// One lane of each tenant in turn, and once in [`UPSIDE_DOWN`] times its lowest.
    fn let_out(&mut self, out: &mut Vec<LaneId>) {
        self.times += 1;
        let upside_down = self.times.is_multiple_of(UPSIDE_DOWN);
        let mut again = Vec::new();
        let mut left = self.width;
        while left > 0 {
            let Some((got, tenant)) = self.order.pop_first() else {
                if again.is_empty() {
                    break;
                }
                self.order.extend(again.drain(..));
                continue;
            };
            self.floor = self.floor.max(got);
            let Some((_, lanes)) = self.waiting.get_mut(&tenant) else { continue };
            let next = if upside_down { lanes.pop_last() } else { lanes.pop_first() };
            out.extend(next.map(|(_, _, lane)| lane));
            left -= 1;
            if lanes.is_empty() {
                self.waiting.remove(&tenant);
            } else {
                again.push((got, tenant));
            }
        }
        self.order.extend(again);
    }
}

impl Crowds {
    /// The limit `key` turned a lane away until a time, or until something is given back.
    pub(super) fn join(
        &mut self,
        key: &Key,
        until: Option<Instant>,
        tenant: TenantId,
        lane: Rank,
    ) -> CrowdId {
        let id = self.of.get(key).copied().unwrap_or_else(|| self.open(key));
        self.schedule(id, until);
        if let Some(crowd) = self.by_id.get_mut(&id) {
            if !crowd.refused {
                crowd.refused = true;
                crowd.width = (crowd.width / 2).max(1);
            }
            let got = crowd.got.entry(tenant).or_default();
            *got = (*got).max(crowd.floor);
            let (place, lanes) = crowd.waiting.entry(tenant).or_insert((*got, BTreeSet::new()));
            crowd.order.insert((*place, tenant));
            lanes.insert(lane);
        }
        id
    }

    fn open(&mut self, key: &Key) -> CrowdId {
        self.last += 1;
        let id = CrowdId(self.last);
        let crowd = Crowd {
            key: key.clone(),
            until: None,
            width: 1,
            refused: false,
            floor: 0,
            got: HashMap::new(),
            order: BTreeSet::new(),
            waiting: HashMap::new(),
            times: 0,
        };
        self.of.insert(key.clone(), id);
        self.by_id.insert(id, crowd);
        self.unknown.insert(id);
        id
    }

    /// A lane waits no longer.
    pub(super) fn leave(&mut self, id: CrowdId, tenant: TenantId, lane: Rank) {
        let Some(crowd) = self.by_id.get_mut(&id) else { return };
        let Some((place, lanes)) = crowd.waiting.get_mut(&tenant) else { return };
        lanes.remove(&lane);
        if lanes.is_empty() {
            crowd.order.remove(&(*place, tenant));
            crowd.waiting.remove(&tenant);
        }
    }

    /// A lane that was let out got permits.
    pub(super) fn served(&mut self, id: CrowdId, tenant: TenantId, permits: usize, weight: u32) {
        if let Some(crowd) = self.by_id.get_mut(&id) {
            let cost = permits as u64 * PERMIT / u64::from(weight.max(1));
            *crowd.got.entry(tenant).or_default() += cost;
        }
    }

    /// Somebody gave something back: those that wait for that may try again at `now`.
    pub(super) fn ease(&mut self, now: Instant) {
        for id in std::mem::take(&mut self.unknown) {
            self.schedule(id, Some(now));
        }
    }

    /// The limits changed: whoever waits for a time may try again at `now`.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.ease(now);
        let waiting: Vec<CrowdId> = self.due.iter().map(|(_, id)| *id).collect();
        for id in waiting {
            self.schedule(id, Some(now));
        }
    }

    /// When the next may be let out; `None`: not before something is given back.
    pub(super) fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// The lanes that may try again.
    pub(super) fn let_out(&mut self, now: Instant) -> Vec<LaneId> {
        let mut out = Vec::new();
        while let Some((at, id)) = self.due.first().copied().filter(|(at, _)| *at <= now) {
            self.due.remove(&(at, id));
            let Some(crowd) = self.by_id.get_mut(&id) else { continue };
            if crowd.waiting.is_empty() && !crowd.refused {
                let key = crowd.key.clone();
                self.by_id.remove(&id);
                self.of.remove(&key);
                continue;
            }
            if !crowd.refused {
                crowd.width = crowd.width.saturating_mul(2);
            }
            crowd.refused = false;
            crowd.let_out(&mut out);
            // Unless somebody is turned away again, more follow with the next turn.
            crowd.until = None;
            let next =
                if crowd.waiting.is_empty() { now + MEMORY } else { now + Duration::from_nanos(1) };
            self.schedule(id, Some(next));
        }
        out
    }

    fn schedule(&mut self, id: CrowdId, until: Option<Instant>) {
        let Some(crowd) = self.by_id.get_mut(&id) else { return };
        if let Some(before) = crowd.until {
            self.due.remove(&(before, id));
        }
        self.unknown.remove(&id);
        crowd.until = until;
        match until {
            Some(at) => self.due.insert((at, id)),
            None => self.unknown.insert(id),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank(lane: i32) -> Rank {
        (3, 0, LaneId::new(lane))
    }

    #[test]
    fn whoever_got_least_for_its_weight_is_let_out_first() {
        let key = Key::Route("direct".into());
        let mut crowds = Crowds::default();
        let mut now = Instant::now();
        let mut got = HashMap::<TenantId, u32>::new();
        let lanes: HashMap<LaneId, (TenantId, u32)> = (1..=40)
            .map(|n| {
                let weight = if n == 1 { 300 } else { 100 };
                (LaneId::new(n), (TenantId::new(i64::from(n)), weight))
            })
            .collect();
        let mut id = None;
        for (lane, (tenant, _)) in &lanes {
            id = Some(crowds.join(&key, Some(now), *tenant, rank(lane.get())));
        }
        // One permit each time: the first let out gets it, all are turned away again.
        for _ in 0..420 {
            now += Duration::from_millis(10);
            let out = crowds.let_out(now);
            assert!((1..=2).contains(&out.len()), "{} let out for one permit", out.len());
            let (tenant, weight) = lanes[&out[0]];
            crowds.served(id.expect("a crowd"), tenant, 1, weight);
            *got.entry(tenant).or_default() += 1;
            for lane in out {
                crowds.join(&key, Some(now), lanes[&lane].0, rank(lane.get()));
            }
        }
        assert_eq!(got.len(), 40, "everyone had a turn");
        let heavy = got[&TenantId::new(1)];
        assert!((25..=35).contains(&heavy), "three times the weight: {heavy} of 420");
        assert!(got.values().filter(|n| (8..=12).contains(*n)).count() == 39, "{got:?}");
    }

    #[test]
    fn where_nobody_is_turned_away_all_are_soon_out_and_the_crowd_is_forgotten() {
        let key = Key::Route("direct".into());
        let mut crowds = Crowds::default();
        let mut now = Instant::now();
        for lane in 0..1_000 {
            crowds.join(&key, None, TenantId::new(1), rank(lane));
        }
        assert_eq!((crowds.next(), crowds.let_out(now).len()), (None, 0), "nothing was given back");
        crowds.ease(now);
        let mut out = 0;
        let mut turns = 0;
        while out < 1_000 {
            now += Duration::from_millis(1);
            out += crowds.let_out(now).len();
            turns += 1;
        }
        assert!(out == 1_000 && turns <= 11, "{turns} turns");
        assert!(crowds.let_out(now + MEMORY * 2).is_empty());
        assert!(crowds.by_id.is_empty() && crowds.of.is_empty() && crowds.next().is_none());
    }
}
