//! Lanes that wait for the same limit, and who is let out when it eases (no I/O).
//!
//! A limit that is full turns away every lane that it counts, so only a few of those that
//! wait for it are let out at a time: the tenant that got least through it for its weight
//! comes first, with all its lanes. Who is not turned away again lets out twice as many, and
//! who is, half as many. So a turn costs what can be had, however many wait.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

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
    crowds: HashMap<CrowdId, Crowd>,
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
    /// Tenants let out next time.
    width: usize,
    /// Turned away since the last were let out.
    refused: bool,
    /// What the latest to be let out had got: whoever comes anew begins there.
    floor: u64,
    got: HashMap<TenantId, u64>,
    /// Who waits, by what it had got when it came.
    order: BTreeSet<(u64, TenantId)>,
    waiting: HashMap<TenantId, (u64, Vec<LaneId>)>,
}

impl Crowds {
    /// The limit `key` turned a lane away until a time, or until something is given back.
    pub(super) fn join(
        &mut self,
        key: &Key,
        until: Option<Instant>,
        tenant: TenantId,
        lane: LaneId,
    ) -> CrowdId {
        let id = self.of.get(key).copied().unwrap_or_else(|| self.open(key));
        self.schedule(id, until);
        if let Some(crowd) = self.crowds.get_mut(&id) {
            if !crowd.refused {
                crowd.refused = true;
                crowd.width = (crowd.width / 2).max(1);
            }
            let got = crowd.got.entry(tenant).or_default();
            *got = (*got).max(crowd.floor);
            let (place, lanes) = crowd.waiting.entry(tenant).or_insert((*got, Vec::new()));
            crowd.order.insert((*place, tenant));
            lanes.push(lane);
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
        };
        self.of.insert(key.clone(), id);
        self.crowds.insert(id, crowd);
        self.unknown.insert(id);
        id
    }

    /// A lane waits no longer.
    pub(super) fn leave(&mut self, id: CrowdId, tenant: TenantId, lane: LaneId) {
        let Some(crowd) = self.crowds.get_mut(&id) else { return };
        let Some((place, lanes)) = crowd.waiting.get_mut(&tenant) else { return };
        lanes.retain(|waits| *waits != lane);
        if lanes.is_empty() {
            crowd.order.remove(&(*place, tenant));
            crowd.waiting.remove(&tenant);
        }
    }

    /// A lane that was let out got permits.
    pub(super) fn served(&mut self, id: CrowdId, tenant: TenantId, permits: usize, weight: u32) {
        if let Some(crowd) = self.crowds.get_mut(&id) {
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
            let Some(crowd) = self.crowds.get_mut(&id) else { continue };
            if crowd.waiting.is_empty() && !crowd.refused {
                let key = crowd.key.clone();
                self.crowds.remove(&id);
                self.of.remove(&key);
                continue;
            }
            if !crowd.refused {
                crowd.width = crowd.width.saturating_mul(2);
            }
            crowd.refused = false;
            for _ in 0..crowd.width {
                let Some((got, tenant)) = crowd.order.pop_first() else { break };
                crowd.floor = crowd.floor.max(got);
                out.extend(crowd.waiting.remove(&tenant).into_iter().flat_map(|(_, lanes)| lanes));
            }
            // Unless somebody is turned away again, more follow with the next turn.
            crowd.until = None;
            let next =
                if crowd.waiting.is_empty() { now + MEMORY } else { now + Duration::from_nanos(1) };
            self.schedule(id, Some(next));
        }
        out
    }

    fn schedule(&mut self, id: CrowdId, until: Option<Instant>) {
        let Some(crowd) = self.crowds.get_mut(&id) else { return };
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
