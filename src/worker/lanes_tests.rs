//! Who is picked when, and how much.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use super::lane_way::LaneWay;
use super::lanes::LaneBook;
use super::order::UPSIDE_DOWN;
use super::quiet::QuietTimes;
use crate::config::{
    Quiet, QuietHours, QuietZone, Route, RouteKind, RouteRule, Settings, Share, ThrottleRule,
    ThrottleScope,
};
use crate::domain::clock::Clock;
use crate::domain::ids::{LaneId, MailboxProvider, PoolId, StreamId, TenantId};
use crate::message::time_zone::TimeZone;
use crate::queue::lane::{Blocks, Lane};
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
        Self::over(&Settings::for_testing(), rules)
    }

    fn over(settings: &Settings, rules: &[ThrottleRule]) -> Self {
        let planner = Planner::new(settings).expect("a planner");
        let limiter = Limiter::new(rules);
        Self { book: LaneBook::default(), planner, limiter, now: Instant::now() }
    }

    /// A lane of `tenant` that has work.
    fn lane(&mut self, id: i32, tenant: i64, weight: u32, priority: u8) -> LaneId {
        let provider = MailboxProvider::other();
        let tenant_name: Arc<str> = format!("tenant{tenant}").into();
        let choice = self.planner.route_for(&tenant_name, "bulk", &provider);
        let others = choice.others();
        let ways = std::iter::once(choice).chain(others).map(|choice| {
            let gate = self.limiter.gate(&Plan {
                tenant: Arc::clone(&tenant_name),
                mailbox_provider: provider.clone(),
                source: Arc::clone(&choice.source),
                route: Arc::clone(&choice.route),
            });
            LaneWay::new(gate, Arc::new(choice))
        });
        let ways = ways.collect();
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
        self.book.put(Arc::new(lane), ways, None);
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
    let count = |lane| held.iter().find(|pick| pick.lane == lane).map_or(0, |p| p.permits.len());
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
    let (entry, way) = (Arc::clone(&known.lane), &known.ways[0]);
    let way = LaneWay::new(Arc::clone(&way.gate), Arc::clone(&way.choice));
    let nights = times.of_lane(&entry);
    all.book.put(entry, vec![way], nights);
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

/// A limit of deliveries at once over a route.
fn at_once(route: &str, concurrency: u32) -> ThrottleRule {
    ThrottleRule {
        scope: ThrottleScope::Route { route: Some(route.into()) },
        rate: None,
        burst: None,
        further: Vec::new(),
        concurrency: Some(concurrency),
    }
}

/// Everything goes by `one` and `two`, half and half.
fn halves() -> Settings {
    let mut settings = Settings::for_testing();
    let relay = |name: &str| {
        let kind = RouteKind::Relay { host: "127.0.0.1".into(), port: 25, auth: None };
        Route { name: name.into(), kind, ..Route::default() }
    };
    settings.routes = ["one", "two"].map(relay).into();
    let split = ["one", "two"].map(|route| Share { route: route.into(), weight: 1 }).into();
    settings.rules =
        vec![RouteRule { tenant: None, stream: None, mailbox_provider: None, split, pool: None }];
    settings
}

#[test]
fn a_full_limit_of_one_route_leaves_the_others_their_share() {
    let mut all = Fixture::over(&halves(), &[at_once("one", 2), at_once("two", 33)]);
    let lane = all.lane(1, 1, 100, 3);
    let mut held = Vec::new();
    let mut pick = |all: &mut Fixture, free| {
        let picks = all.book.pick(free, free, |_| usize::MAX, all.now);
        let grants = picks.iter().flat_map(|pick| &pick.permits);
        let one = grants.clone().filter(|grant| &*grant.choice.route == "one").count();
        let two = grants.count() - one;
        held.extend(picks);
        (one, two)
    };
    // What the one cannot use is asked for once more, half and half.
    assert_eq!(pick(&mut all, 20), (2, 14));
    assert_eq!(pick(&mut all, 20), (0, 15));
    for _ in 0..2 {
        assert_eq!(pick(&mut all, 1), (0, 1), "whoever's turn it is");
    }
    assert_eq!(pick(&mut all, 20), (0, 2), "both are full");
    assert_eq!(pick(&mut all, 20), (0, 0));
    assert_eq!(all.book.next_turn(), None, "until something is given back");

    let back = held.iter_mut().find_map(|pick| {
        let at = pick.permits.iter().position(|grant| &*grant.choice.route == "one")?;
        Some(pick.permits.swap_remove(at))
    });
    drop(back);
    all.book.unpark();
    let picks = all.book.pick(20, 20, |_| usize::MAX, all.now);
    let grants: Vec<_> = picks.iter().flat_map(|pick| &pick.permits).collect();
    assert!(grants.len() == 1 && &*grants[0].choice.route == "one", "{grants:?}");
    assert_eq!(picks[0].lane, lane);
}

#[test]
fn a_pause_of_one_route_takes_no_leave_for_it() {
    let mut all = Fixture::over(&halves(), &[]);
    all.lane(1, 1, 100, 3);
    let pause = |route: &str| Selector { route: Some(route.into()), ..Selector::default() };
    all.book.block(&[(pause("one"), ())].into_iter().collect());
    let picks = all.book.pick(10, 10, |_| usize::MAX, all.now);
    let routes: Vec<&str> =
        picks.iter().flat_map(|pick| &pick.permits).map(|grant| &*grant.choice.route).collect();
    assert_eq!(routes, ["two"; 10]);
    all.book.block(&[(pause("one"), ()), (pause("two"), ())].into_iter().collect());
    assert!(all.pick(10).is_empty());
    assert_eq!(all.book.next_turn(), None, "it costs nothing");
    all.book.block(&Blocks::default());
    assert_eq!(all.pick(10).len(), 1);
}
