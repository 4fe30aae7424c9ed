//! Which lanes to take from next, and how much: weighted deficit round robin over
//! tenants, then priority, then the lane that waited longest (no I/O).
//!
//! A lane that is paused, throttled or known to be empty is not asked for at all, so
//! it costs nothing however much waits in it, and however many such lanes there are:
//! each lane is filed by what it waits for, and a turn looks at those only that may be
//! taken from. Whatever a tenant may not use this time goes to the others; what it was
//! owed is remembered, within bounds.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::crowd::Crowds;
use super::lane_state::{LaneState, Place};
use super::order::{Cursor, Lanes, UPSIDE_DOWN};
use super::pick::{Pick, Picks};
use super::quiet::Nights;
use super::waits::LaneRecord;
use crate::domain::ids::{LaneId, TenantId};
use crate::domain::outcome::WaitReason;
use crate::queue::lane::{Blocks, Lane};
use crate::route::choice::RouteChoice;
use crate::throttle::gate::Gate;
use crate::throttle::key::Key;
use crate::throttle::metrics::Waiting;

/// Longest rest of a lane in its quiet hours before its clock is looked at again: the
/// machine's may be set, and the machine may sleep.
const QUIET_LOOK: Duration = Duration::from_secs(60);

/// All lanes known to this process, and what each tenant is owed.
#[derive(Debug, Default)]
pub struct LaneBook {
    lanes: HashMap<LaneId, LaneState>,
    blocks: Blocks,
    ready: BTreeMap<TenantId, Lanes>,
    crowds: Crowds,
    resting: BTreeSet<(Instant, LaneId)>,
    owed: HashMap<TenantId, f64>,
    round: u64,
    /// Of the last pick.
    now: Option<Instant>,
    looked_at: u64,
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
    pub fn put(
        &mut self,
        lane: Arc<Lane>,
        gate: Arc<Gate>,
        choice: Arc<RouteChoice>,
        nights: Option<Nights>,
    ) {
        let id = lane.id;
        self.unfile(id);
        let now = Instant::now();
        let known = self.lanes.get(&id);
        let warm = known.is_some_and(|known| known.warm);
        let served = known.map_or(0, |known| known.served);
        let record = known.map_or(LaneRecord::new(now), |known| known.record.renewed());
        let blocked = is_blocked(&self.blocks, &lane, &choice);
        let choice = hold_fallbacks(&self.blocks, &lane, &choice).unwrap_or(choice);
        self.lanes.insert(
            id,
            LaneState {
                lane,
                gate,
                choice,
                overflow: None,
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

    /// Gives a lane another way for what its source may not take: a source in its warm-up
    /// has a warm one behind it.
    pub fn overflow(&mut self, lane: LaneId, gate: Arc<Gate>, choice: Arc<RouteChoice>) {
        if let Some(state) = self.lanes.get_mut(&lane) {
            state.overflow = Some((gate, choice));
        }
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
            let blocked = is_blocked(&self.blocks, &state.lane, &state.choice);
            if blocked != state.blocked {
                state.blocked = blocked;
                changed.push(*id);
            }
            if let Some(choice) = hold_fallbacks(&self.blocks, &state.lane, &state.choice) {
                state.choice = choice;
            }
            if let Some((_, other)) = &mut state.overflow
                && let Some(choice) = hold_fallbacks(&self.blocks, &state.lane, other)
            {
                *other = choice;
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
            if let Some(left) = state.choice.shut() {
                state.waiting = Some(Waiting::begin(WaitReason::RouteOut));
                self.rest(id, now + left.min(QUIET_LOOK), WaitReason::RouteOut);
                continue;
            }
            let want = budget.min(per_lane.saturating_sub(picks.of(id)));
            if want == 0 {
                continue;
            }
            let mut got = state.gate.take(want as u32);
            let mut beyond = Vec::new();
            if let Some((gate, _)) = &state.overflow
                && got.blocked_by.as_ref().is_some_and(is_of_a_source)
            {
                let further = gate.take((want - got.permits.len()) as u32);
                got = got.followed_by(further, &mut beyond);
            }
            state.waiting = got.reason().map(Waiting::begin);
            state.record.asked(&got, now);
            let granted = got.permits.len() + beyond.len();
            let (weight, crowd) = (state.lane.weight, state.crowd);
            if granted > 0 {
                if let Some(crowd) = crowd {
                    self.crowds.served(crowd, tenant, granted, weight);
                }
                taken += granted;
                budget -= granted;
                picks.add(id, got.permits, &state.choice);
                if let Some((_, choice)) = &state.overflow {
                    picks.add(id, beyond, choice);
                }
            }
            if granted < want
                && let Some(key) = &got.blocked_by
            {
                self.unfile(id);
                self.turned_away(id, key, got.wait.map(|wait| now + wait), picks.of(id) > 0);
            }
        }
        taken
    }

    /// Leaves a lane alone until a time.
    fn rest(&mut self, lane: LaneId, until: Instant, reason: WaitReason) {
        self.unfile(lane);
        if let Some(state) = self.lanes.get_mut(&lane) {
            state.place = Place::Resting(until, reason);
            self.resting.insert((until, lane));
        }
    }

    /// The lane waits for a limit, until a time or until something is given back.
    fn turned_away(&mut self, lane: LaneId, key: &Key, until: Option<Instant>, served: bool) {
        let Some(state) = self.lanes.get_mut(&lane) else { return };
        if served {
            state.served = self.round;
        }
        let crowd = self.crowds.join(key, until, state.lane.tenant, state.rank());
        state.place = Place::Crowd(crowd);
        state.crowd = Some(crowd);
    }

    /// The lane had its turn in this round: it goes behind those that had not.
    fn served(&mut self, lane: LaneId) {
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
    fn file(&mut self, lane: LaneId) {
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
    fn unfile(&mut self, lane: LaneId) {
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

/// A pause of one of its routes holds a lane back, also one that is divided.
fn is_blocked(blocks: &Blocks, lane: &Lane, choice: &RouteChoice) -> bool {
    choice.routes().any(|route| blocks.cover(lane, route))
}

/// A paused route takes over from no other. `None`: nothing changes.
fn hold_fallbacks(blocks: &Blocks, lane: &Lane, choice: &RouteChoice) -> Option<Arc<RouteChoice>> {
    choice.holding(|route| blocks.cover(lane, route)).map(Arc::new)
}

/// Whether a limit is one of a source, so that another source may have room.
fn is_of_a_source(key: &Key) -> bool {
    matches!(key, Key::Source(_) | Key::SourceMailboxProvider(..))
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
    use crate::queue::selector::Selector;
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
            self.book.put(Arc::new(lane), gate, Arc::new(choice), None);
            self.book.hint(&[LaneId::new(id)]);
            LaneId::new(id)
        }

        /// Jobs granted to each lane, as if every claim brought all that was asked for.
        fn pick(&mut self, free: usize) -> HashMap<LaneId, usize> {
            let picks = self.book.pick(free, free, |_| usize::MAX, self.now);
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
            further: Vec::new(),
            concurrency: Some(2),
        };
        let mut all = Fixture::new(&[rule]);
        let limited = all.lane(1, 1, 100, 3);
        let other = all.lane(2, 2, 100, 3);
        let held = all.book.pick(20, 20, |_| usize::MAX, all.now);
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
    fn an_empty_lane_is_left_alone_until_it_is_hinted() {
        let mut all = Fixture::new(&[]);
        let lane = all.lane(1, 1, 100, 3);
        assert_eq!(all.pick(10)[&lane], 10);
        all.book.claimed(lane, 10, 4);
        assert!(all.pick(10).is_empty());
        assert_eq!(all.book.next_turn(), None, "not before a hint");
        all.book.hint(&[lane]);
        assert_eq!(all.pick(10)[&lane], 10);
    }

    #[test]
    fn a_tenant_gets_no_more_than_its_room() {
        let mut all = Fixture::new(&[]);
        let lane = all.lane(1, 1, 100, 3);
        let picks = all.book.pick(50, 50, |_| 7, all.now);
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
        let known = &all.book.lanes[&lane];
        let (entry, gate) = (Arc::clone(&known.lane), Arc::clone(&known.gate));
        let choice = Arc::clone(&known.choice);
        let nights = times.of_lane(&entry);
        all.book.put(entry, gate, choice, nights);
        assert!(all.pick(10).is_empty());
        let next = all.book.next_turn().expect("not forgotten");
        assert!(next > all.now, "not looked at before");
        all.now = next;
        assert!(all.pick(10).is_empty(), "it is still night");
        if let Clock::Fixed(seconds) = &clock {
            seconds.store(1_577_952_000, std::sync::atomic::Ordering::Relaxed);
        }
        all.now = all.book.next_turn().expect("not forgotten");
        assert_eq!(all.pick(10).get(&lane), Some(&10), "at eight");
    }

    #[test]
    fn a_turn_looks_only_at_lanes_that_can_be_taken_from() {
        let rule = ThrottleRule {
            scope: ThrottleScope::Tenant { tenant: Some("tenant3".into()) },
            rate: None,
            burst: None,
            further: Vec::new(),
            concurrency: Some(1),
        };
        let mut all = Fixture::new(&[rule]);
        let free = all.lane(1, 1, 100, 3);
        let mut empty = Vec::new();
        for id in 10_000..16_000 {
            empty.push(all.lane(id, 2, 100, 3));
        }
        for id in 20_000..27_000 {
            all.lane(id, 3, 100, 3);
        }
        for id in 30_000..37_000 {
            all.lane(id, 4, 100, 3);
        }
        for lane in empty {
            all.book.claimed(lane, 1, 0);
        }
        let tenant = Selector { tenant: Some(TenantId::new(4)), ..Selector::default() };
        all.book.block(&[(tenant, ())].into_iter().collect());
        // The first turns find out that the third tenant's limit is full.
        let held = all.book.pick(10, 10, |_| usize::MAX, all.now);
        assert_eq!(held.iter().map(|pick| pick.permits.len()).sum::<usize>(), 10);
        while all.pick(10_000).len() > 1 {}
        let before = all.book.looked_at();
        for _ in 0..100 {
            all.book.unpark();
            assert_eq!(all.pick(10), HashMap::from([(free, 10)]));
        }
        let looked_at = all.book.looked_at() - before;
        assert!(looked_at < 100 * 10, "{looked_at} lanes for 100 turns among 20,001");
        all.book.block(&Blocks::default());
        assert!(all.pick(20).keys().any(|lane| lane.get() >= 30_000), "let go again");
    }
}
