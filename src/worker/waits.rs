//! Why lanes wait, as this process sees it (no I/O).
//!
//! Each lane keeps a small record of what it was granted and what it was refused; about
//! once a second the pump reads all of them into a [`Snapshot`] for whoever publishes it.
//! What a lane's last claim brought tells whether it holds more: one that came back short
//! is not waiting for anything of ours.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::lanes::LaneBook;
use crate::domain::ids::TenantId;
use crate::domain::outcome::WaitReason;
use crate::queue::lane::Lane;
use crate::queue::signal::Hold;
use crate::throttle::gate::Taken;
use crate::throttle::key::Key;

/// A lane that was due and not asked for this long is passed over.
const PASSED_OVER: Duration = Duration::from_secs(1);

/// What one lane was granted and refused.
#[derive(Debug, Clone)]
pub struct LaneRecord {
    warm_since: Instant,
    /// The limit that gave fewer than wanted, the last time the lane was asked.
    limited: Option<Limited>,
    /// Deliveries that claims brought, since this process knows the lane.
    taken: u64,
    /// The last claim brought less than was asked for.
    short: bool,
}

#[derive(Debug, Clone)]
struct Limited {
    reason: WaitReason,
    key: Key,
    since: Instant,
    until: Option<Instant>,
}

/// A lane that waits.
#[derive(Debug, Clone)]
pub struct WaitingLane {
    /// Which.
    pub lane: Arc<Lane>,
    /// For what.
    pub hold: Hold,
    /// The limit, where it is one.
    pub limit: Option<Key>,
    /// Since when.
    pub since: Instant,
    /// Until when, where that is known.
    pub until: Option<Instant>,
    /// Deliveries that claims brought so far.
    pub taken: u64,
}

/// All lanes that wait, at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The moment.
    pub at: Instant,
    /// Those that wait, in no order.
    pub lanes: Vec<WaitingLane>,
}

/// What the process can take on, for the snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// Every place was taken within the last second.
    Full,
    /// There are places.
    Some,
}

impl LaneRecord {
    pub(super) const fn new(now: Instant) -> Self {
        Self { warm_since: now, limited: None, taken: 0, short: true }
    }

    /// The same under other limits.
    pub(super) fn renewed(&self) -> Self {
        Self { limited: None, ..self.clone() }
    }

    /// The lane was told to hold work, and was not known to.
    pub(super) const fn warmed(&mut self, now: Instant) {
        self.warm_since = now;
    }

    /// What the limits said when the lane was asked for permits.
    pub(super) fn asked(&mut self, got: &Taken, now: Instant) {
        let (Some(reason), Some(key)) = (got.reason(), got.blocked_by.as_ref()) else {
            self.limited = None;
            return;
        };
        let until = got.wait.map(|wait| now + wait);
        match &mut self.limited {
            Some(known) if known.reason == reason && known.key == *key => known.until = until,
            _ => self.limited = Some(Limited { reason, key: key.clone(), since: now, until }),
        }
    }

    /// What a claim brought.
    pub(super) fn claimed(&mut self, asked: usize, got: usize) {
        self.taken += got as u64;
        self.short = got < asked;
        if self.short {
            self.limited = None;
        }
    }
}

impl LaneBook {
    /// Which lanes wait, and for what. `room` says how many more of a tenant may be in hand.
    pub fn waits(&self, room: impl Fn(TenantId) -> usize, process: Room, now: Instant) -> Snapshot {
        let mut lanes = Vec::new();
        let mut hungry = HashSet::new();
        for state in self.states().filter(|state| state.is_warm()) {
            let (lane, record) = (&state.lane, &state.record);
            let (hold, limited) = if state.is_blocked() {
                (Hold::Paused, None)
            } else if let Some((_, reason)) = state.rests() {
                (Hold::Limit(reason), None)
            } else if let Some(limited) = &record.limited {
                (Hold::Limit(limited.reason), Some(limited))
            } else if record.short && record.warm_since + PASSED_OVER > now {
                // It came back short, so what it holds goes as it comes.
                continue;
            } else if room(lane.tenant) == 0 {
                hungry.insert(lane.tenant);
                (Hold::TenantRoom, None)
            } else {
                hungry.insert(lane.tenant);
                (Hold::Turn, None)
            };
            lanes.push(WaitingLane {
                lane: Arc::clone(lane),
                hold,
                limit: limited.map(|limited| limited.key.clone()),
                since: limited.map_or(record.warm_since, |limited| limited.since),
                until: state
                    .rests()
                    .map(|(until, _)| until)
                    .or(limited.and_then(|limited| limited.until)),
                taken: record.taken,
            });
        }
        if process == Room::Full {
            let full = if hungry.len() > 1 { Hold::Fairness } else { Hold::NoRoom };
            for waiting in lanes.iter_mut().filter(|waiting| waiting.hold == Hold::Turn) {
                waiting.hold = full;
            }
        }
        Snapshot { at: now, lanes }
    }
}

impl Snapshot {
    /// Nothing waits.
    pub const fn empty(now: Instant) -> Self {
        Self { at: now, lanes: Vec::new() }
    }

    /// Whether more could have been sent than was: work waits, and nothing but the capacity
    /// of this process keeps it.
    pub fn is_busy(&self) -> bool {
        self.lanes.iter().any(|waiting| waiting.hold.is_for_capacity())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Settings, ThrottleRule, ThrottleScope};
    use crate::domain::ids::{LaneId, MailboxProvider, PoolId, StreamId};
    use crate::message::time_zone::TimeZone;
    use crate::route::planner::Planner;
    use crate::throttle::key::Plan;
    use crate::throttle::limiter::Limiter;
    use crate::worker::lane_way::LaneWay;

    /// Lane 1 of tenant 1, who may have two in hand, and lanes 2 and 3 of tenants 2 and 3.
    fn book() -> LaneBook {
        let planner = Planner::new(&Settings::for_testing()).expect("a planner");
        let limiter = Limiter::new(&[ThrottleRule {
            scope: ThrottleScope::Tenant { tenant: Some("tenant1".into()) },
            rate: None,
            burst: None,
            further: Vec::new(),
            concurrency: Some(2),
        }]);
        let mut book = LaneBook::default();
        for id in 1..=3 {
            let (tenant_name, provider) =
                (Arc::<str>::from(format!("tenant{id}")), MailboxProvider::other());
            let choice = planner.route_for(&tenant_name, "bulk", &provider);
            let gate = limiter.gate(&Plan {
                tenant: Arc::clone(&tenant_name),
                mailbox_provider: provider.clone(),
                source: Arc::clone(&choice.source),
                route: Arc::clone(&choice.route),
            });
            let lane = Lane {
                id: LaneId::new(id),
                tenant: TenantId::new(i64::from(id)),
                tenant_name,
                time_zone: TimeZone::default(),
                weight: 100,
                pool: PoolId::new(0),
                mailbox_provider: provider,
                priority: 3,
                stream: StreamId::new(id),
                stream_name: "bulk".into(),
            };
            let way = LaneWay::new(gate, Arc::new(choice));
            book.put(Arc::new(lane), vec![way], None);
            book.hint(&[LaneId::new(id)]);
        }
        book
    }

    fn holds(book: &LaneBook, room: usize, process: Room, now: Instant) -> Vec<Hold> {
        let mut lanes = book.waits(|_| room, process, now).lanes;
        lanes.sort_by_key(|waiting| waiting.lane.id);
        lanes.iter().map(|waiting| waiting.hold).collect()
    }

    #[test]
    fn each_lane_says_what_it_waits_for() {
        let now = Instant::now();
        let mut book = book();
        let picks = book.pick(30, 10, |_| 10, now);
        assert_eq!(picks.iter().map(|pick| pick.permits.len()).sum::<usize>(), 22);
        for pick in &picks {
            book.claimed(pick.lane, pick.permits.len(), pick.permits.len());
        }
        let limited = Hold::Limit(WaitReason::Concurrency);
        assert_eq!(holds(&book, 10, Room::Some, now), [limited, Hold::Turn, Hold::Turn]);
        assert_eq!(holds(&book, 10, Room::Full, now), [limited, Hold::Fairness, Hold::Fairness]);
        assert_eq!(holds(&book, 0, Room::Full, now), [limited, Hold::TenantRoom, Hold::TenantRoom]);

        // One comes back short: it waits for nothing. The other is alone then.
        book.claimed(LaneId::new(3), 10, 4);
        assert_eq!(holds(&book, 10, Room::Full, now), [limited, Hold::NoRoom]);
        // Told to hold work again, and asked by nobody for long: it was passed over.
        book.hint(&[LaneId::new(3)]);
        assert_eq!(holds(&book, 10, Room::Some, now), [limited, Hold::Turn]);
        let later = now + PASSED_OVER * 2;
        assert_eq!(holds(&book, 10, Room::Some, later), [limited, Hold::Turn, Hold::Turn]);
    }
}
