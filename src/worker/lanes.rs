//! Which lanes to take from next, and how much: weighted deficit round robin over
//! tenants, then priority, then the lane that waited longest (no I/O).
//!
//! A lane that is paused, throttled or known to be empty is not asked for at all, so
//! it costs nothing however much waits in it. Whatever a tenant may not use this time
//! goes to the others; what it was owed is remembered, within bounds.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::quiet::Nights;
use crate::domain::ids::{LaneId, TenantId};
use crate::domain::outcome::WaitReason;
use crate::queue::lane::{Blocks, Lane};
use crate::route::planner::RouteChoice;
use crate::throttle::gate::{Gate, Permit};
use crate::throttle::metrics::Waiting;

/// Every this many rounds the lowest priority goes first, so that transactional mail
/// without end cannot starve bulk.
const UPSIDE_DOWN: u64 = 8;

/// Longest rest of a lane in its quiet hours before its clock is looked at again: the
/// machine's may be set, and the machine may sleep.
const QUIET_LOOK: Duration = Duration::from_secs(60);

/// A lane as the claimer sees it.
#[derive(Debug)]
pub struct LaneState {
    /// The directory entry.
    pub lane: Arc<Lane>,
    /// The limits that apply to everything in it.
    pub gate: Arc<Gate>,
    /// The way out for everything in it.
    pub choice: Arc<RouteChoice>,
    /// When all of it rests, if it ever does.
    nights: Option<Nights>,
    /// Told to hold work within the last seconds, or the last claim came back full.
    warm: bool,
    /// Not asked again before this: it was empty, or a limit has no room before.
    rest_until: Instant,
    /// Waits for somebody to give back a permit of a concurrency limit.
    parked: bool,
    /// Counted in `postrider_waiting` while a limit holds it back.
    waiting: Option<Waiting>,
    served: u64,
}

/// Leave to take up to `permits.len()` jobs from a lane.
#[derive(Debug)]
pub struct Pick {
    /// From here.
    pub lane: LaneId,
    /// One for each job; what is not used is dropped and so given back.
    pub permits: Vec<Permit>,
}

/// All lanes known to this process, and what each tenant is owed.
#[derive(Debug, Default)]
pub struct LaneBook {
    lanes: HashMap<LaneId, LaneState>,
    owed: HashMap<TenantId, f64>,
    round: u64,
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

    /// Adds a lane, or replaces its limits and route after a reload.
    pub fn put(
        &mut self,
        lane: Arc<Lane>,
        gate: Arc<Gate>,
        choice: Arc<RouteChoice>,
        now: Instant,
    ) {
        let warm = self.lanes.get(&lane.id).is_some_and(|known| known.warm);
        let served = self.lanes.get(&lane.id).map_or(0, |known| known.served);
        self.lanes.insert(
            lane.id,
            LaneState {
                lane,
                gate,
                choice,
                nights: None,
                warm,
                rest_until: now,
                parked: false,
                waiting: None,
                served,
            },
        );
    }

    /// When all of a lane rests; asked for once it is this lane's turn.
    pub fn rest_at(&mut self, lane: LaneId, nights: Option<Nights>) {
        if let Some(state) = self.lanes.get_mut(&lane) {
            state.nights = nights;
        }
    }

    /// The directory entries of all lanes.
    pub fn entries(&self) -> Vec<Arc<Lane>> {
        self.lanes.values().map(|state| Arc::clone(&state.lane)).collect()
    }

    /// `hinted` lanes hold work, as far as is known; with `at_once` they are asked again
    /// without waiting out their rest after an empty claim.
    pub fn hint(&mut self, hinted: &[LaneId], at_once: bool, now: Instant) {
        for lane in hinted {
            if let Some(state) = self.lanes.get_mut(lane) {
                if at_once || !state.warm {
                    state.rest_until = state.rest_until.min(now);
                }
                state.warm = true;
            }
        }
    }

    /// What became of a pick: `asked` for, `got`. A lane that gave all may hold more; one
    /// that did not rests until it is hinted again.
    pub fn claimed(
        &mut self,
        lane: LaneId,
        asked: usize,
        got: usize,
        rest: Duration,
        now: Instant,
    ) {
        if let Some(state) = self.lanes.get_mut(&lane)
            && got < asked
        {
            state.warm = false;
            state.waiting = None;
            state.rest_until = now + rest;
        }
    }

    /// Somebody gave back a permit of a limit that was full.
    pub fn unpark(&mut self) {
        for state in self.lanes.values_mut() {
            state.parked = false;
        }
    }

    /// When the next resting lane may be asked; `None`: not before a hint.
    pub fn next_turn(&self, blocks: &Blocks) -> Option<Instant> {
        self.lanes
            .values()
            .filter(|state| {
                state.warm && !state.parked && !blocks.cover(&state.lane, &state.choice.route)
            })
            .map(|state| state.rest_until)
            .min()
    }

    /// Divides `free` slots. `room` says how many more jobs of a tenant may be in hand.
    pub fn pick(
        &mut self,
        free: usize,
        per_lane: usize,
        blocks: &Blocks,
        room: impl Fn(TenantId) -> usize,
        now: Instant,
    ) -> Vec<Pick> {
        self.round += 1;
        let mut by_tenant: HashMap<TenantId, Vec<LaneId>> = HashMap::new();
        let mut weights: HashMap<TenantId, f64> = HashMap::new();
        for state in self.lanes.values() {
            if state.warm
                && !state.parked
                && state.rest_until <= now
                && !blocks.cover(&state.lane, &state.choice.route)
            {
                by_tenant.entry(state.lane.tenant).or_default().push(state.lane.id);
                weights.insert(state.lane.tenant, f64::from(state.lane.weight));
            }
        }
        // Owed is what could not be had while wanting it; who wants nothing is owed nothing.
        self.owed.retain(|tenant, _| by_tenant.contains_key(tenant));
        let total: f64 = weights.values().sum();
        for (tenant, weight) in &weights {
            let owed = self.owed.entry(*tenant).or_default();
            *owed = (*owed + free as f64 * weight / total).min(2.0 * free as f64);
        }
        for lanes in by_tenant.values_mut() {
            let flip = self.round.is_multiple_of(UPSIDE_DOWN);
            lanes.sort_by_key(|id| {
                self.lanes.get(id).map(|state| {
                    let priority = i16::from(state.lane.priority);
                    (if flip { -priority } else { priority }, state.served)
                })
            });
        }
        let mut turns: Vec<TenantId> = by_tenant.keys().copied().collect();
        turns.sort_by(|a, b| self.owed[b].total_cmp(&self.owed[a]).then(a.cmp(b)));

        let mut left = free;
        let mut picks: Vec<Pick> = Vec::new();
        let mut taken_by: HashMap<TenantId, usize> = HashMap::new();
        // First what each is owed, then what is left over to whoever can use it.
        for share in [Share::Owed, Share::LeftOver] {
            for tenant in &turns {
                let already = taken_by.get(tenant).copied().unwrap_or(0);
                let budget = match share {
                    Share::Owed => self.owed[tenant].floor().max(0.0) as usize,
                    Share::LeftOver => left,
                }
                .min(left)
                .min(room(*tenant).saturating_sub(already));
                let taken = self.take(&by_tenant[tenant], budget, per_lane, &mut picks, now);
                left -= taken;
                *taken_by.entry(*tenant).or_default() += taken;
                if let Some(owed) = self.owed.get_mut(tenant) {
                    *owed = (*owed - taken as f64).max(-(free as f64));
                }
                if left == 0 {
                    return picks;
                }
            }
        }
        picks
    }

    fn take(
        &mut self,
        lanes: &[LaneId],
        mut budget: usize,
        per_lane: usize,
        picks: &mut Vec<Pick>,
        now: Instant,
    ) -> usize {
        let mut taken = 0;
        for id in lanes {
            if budget == 0 {
                break;
            }
            let Some(state) = self.lanes.get_mut(id) else { continue };
            if state.parked || state.rest_until > now {
                continue;
            }
            if let Some(left) = state.nights.as_ref().and_then(Nights::left) {
                state.rest_until = now + left.min(QUIET_LOOK);
                state.waiting = Some(Waiting::begin(WaitReason::QuietHours));
                continue;
            }
            let known = picks.iter().position(|pick| pick.lane == *id);
            let had = known.map_or(0, |at| picks[at].permits.len());
            let want = budget.min(per_lane.saturating_sub(had));
            if want == 0 {
                continue;
            }
            let got = state.gate.take(want as u32);
            state.waiting = got.reason().map(Waiting::begin);
            if got.permits.len() < want {
                match got.wait {
                    Some(wait) => state.rest_until = now + wait,
                    None => state.parked = got.blocked_by.is_some(),
                }
            }
            if got.permits.is_empty() {
                continue;
            }
            taken += got.permits.len();
            budget -= got.permits.len();
            state.served = self.round;
            match known {
                Some(at) => picks[at].permits.extend(got.permits),
                None => picks.push(Pick { lane: *id, permits: got.permits }),
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

#[cfg(test)]
mod tests {
    use super::super::quiet::QuietTimes;
    use super::*;
    use crate::config::{Quiet, QuietHours, QuietZone, Settings, ThrottleRule, ThrottleScope};
    use crate::domain::clock::Clock;
    use crate::domain::ids::{MailboxProvider, PoolId, StreamId};
    use crate::message::time_zone::TimeZone;
    use crate::route::planner::Planner;
    use crate::throttle::key::Plan;
    use crate::throttle::limiter::Limiter;

    struct Fixture {
        book: LaneBook,
        planner: Planner,
        limiter: Limiter,
        now: Instant,
    }

    impl Fixture {
        fn new(rules: &[ThrottleRule]) -> Self {
            let planner = Planner::new(&Settings::for_testing()).expect("a planner");
            let limiter = Limiter::new(rules);
            Self { book: LaneBook::default(), planner, limiter, now: Instant::now() }
        }

        /// A lane of `tenant` that has work.
        fn lane(&mut self, id: i32, tenant: i64, weight: u32, priority: u8) -> LaneId {
            let provider = MailboxProvider::other();
            let tenant_name: Arc<str> = format!("tenant{tenant}").into();
            let choice = self.planner.route_for(&tenant_name, "bulk", &provider);
            let gate = self.limiter.gate(&Plan {
                tenant: Arc::clone(&tenant_name),
                mailbox_provider: provider.clone(),
                source: Arc::clone(&choice.source),
                route: Arc::clone(&choice.route),
            });
            let lane = Lane {
                id: LaneId::new(id),
                tenant: TenantId::new(tenant),
                tenant_name,
                time_zone: TimeZone::default(),
                weight,
                pool: PoolId::new(0),
                mailbox_provider: provider,
                priority,
                stream: StreamId::new(id),
                stream_name: "bulk".into(),
            };
            self.book.put(Arc::new(lane), gate, Arc::new(choice), self.now);
            self.book.hint(&[LaneId::new(id)], true, self.now);
            LaneId::new(id)
        }

        /// Jobs granted to each lane, as if every claim brought all that was asked for.
        fn pick(&mut self, free: usize) -> HashMap<LaneId, usize> {
            let blocks = Blocks::default();
            let picks = self.book.pick(free, free, &blocks, |_| usize::MAX, self.now);
            picks.iter().map(|pick| (pick.lane, pick.permits.len())).collect()
        }
    }

    #[test]
    fn slots_are_divided_by_weight_whoever_has_more_lanes() {
        let mut all = Fixture::new(&[]);
        let heavy = all.lane(1, 1, 300, 3);
        for id in 10..20 {
            all.lane(id, 2, 100, 3);
        }
        let mut first = 0;
        let mut total = 0;
        for _ in 0..50 {
            let picked = all.pick(40);
            first += picked.get(&heavy).copied().unwrap_or(0);
            total += picked.values().sum::<usize>();
        }
        assert_eq!(total, 50 * 40, "no slot is left idle");
        assert_eq!(first, 50 * 30, "three quarters for three times the weight");
    }

    #[test]
    fn what_one_cannot_use_the_others_get_and_nothing_is_hoarded() {
        let rule = ThrottleRule {
            scope: ThrottleScope::Tenant { tenant: Some("tenant1".into()) },
            rate: None,
            burst: None,
            concurrency: Some(2),
        };
        let mut all = Fixture::new(&[rule]);
        let limited = all.lane(1, 1, 100, 3);
        let other = all.lane(2, 2, 100, 3);
        let blocks = Blocks::default();
        let held = all.book.pick(20, 20, &blocks, |_| usize::MAX, all.now);
        let count =
            |lane| held.iter().find(|pick| pick.lane == lane).map_or(0, |p| p.permits.len());
        assert_eq!((count(limited), count(other)), (2, 18));
        assert_eq!(all.pick(20).get(&limited), None, "parked while its limit is full");
        drop(held);
        all.book.unpark();
        assert_eq!(all.pick(20).get(&limited), Some(&2), "back when room was made");
    }

    #[test]
    fn priority_goes_first_within_a_tenant_but_not_for_ever() {
        let mut all = Fixture::new(&[]);
        let urgent = all.lane(1, 1, 100, 0);
        let bulk = all.lane(2, 1, 100, 3);
        let mut served = HashMap::new();
        for _ in 0..UPSIDE_DOWN * 2 {
            for (lane, n) in all.pick(10) {
                *served.entry(lane).or_insert(0) += n;
            }
        }
        assert_eq!(served[&bulk], 2 * 10, "one round in {UPSIDE_DOWN}");
        assert_eq!(served[&urgent], 14 * 10);
    }

    #[test]
    fn an_empty_lane_rests_and_a_hint_wakes_it() {
        let mut all = Fixture::new(&[]);
        let lane = all.lane(1, 1, 100, 3);
        assert_eq!(all.pick(10)[&lane], 10);
        all.book.claimed(lane, 10, 4, Duration::from_secs(1), all.now);
        assert!(all.pick(10).is_empty());
        assert_eq!(all.book.next_turn(&Blocks::default()), None, "not before a hint");
        all.book.hint(&[lane], true, all.now);
        assert_eq!(all.pick(10)[&lane], 10);
    }

    #[test]
    fn a_tenant_gets_no_more_than_its_room() {
        let mut all = Fixture::new(&[]);
        let lane = all.lane(1, 1, 100, 3);
        let picks = all.book.pick(50, 50, &Blocks::default(), |_| 7, all.now);
        assert_eq!(picks.iter().find(|pick| pick.lane == lane).map(|p| p.permits.len()), Some(7));
    }

    #[test]
    fn a_lane_rests_in_its_quiet_hours_and_is_asked_again_when_they_end() {
        let mut settings = Settings::for_testing();
        let hours = QuietHours::parse("21:00-08:00").expect("hours");
        if let Some(bulk) = settings.streams.get_mut("bulk") {
            bulk.quiet = Some(Quiet { hours, zone: QuietZone::Tenant });
        }
        // Ten in the evening of a day in 2020.
        let clock = Clock::fixed(1_577_916_000);
        let times = QuietTimes::new(&settings, clock.clone());
        let mut all = Fixture::new(&[]);
        let lane = all.lane(1, 1, 100, 3);
        let nights = times.of_lane(&Arc::clone(&all.book.lanes[&lane].lane));
        all.book.rest_at(lane, nights);
        assert!(all.pick(10).is_empty());
        let next = all.book.next_turn(&Blocks::default()).expect("not forgotten");
        assert!(next > all.now, "not looked at before");
        all.now = next;
        assert!(all.pick(10).is_empty(), "it is still night");
        if let Clock::Fixed(seconds) = &clock {
            seconds.store(1_577_952_000, std::sync::atomic::Ordering::Relaxed);
        }
        all.now = all.book.next_turn(&Blocks::default()).expect("not forgotten");
        assert_eq!(all.pick(10).get(&lane), Some(&10), "at eight");
    }
}
