//! Which way a delivery takes.

use std::sync::Arc;
use std::time::Duration;

use super::choice::{Loyalty, NoWay, RouteChoice};
use super::health::Reason;
use super::planner::Planner;
use crate::config::{Route, RouteKind, RouteRule, Settings, Share};
use crate::domain::ids::{DeliveryId, MailboxProvider};
use crate::domain::outcome::Outcome;
use crate::domain::verdict::{Cause, Class, Finality, Reach, Stage as Step, Verdict};

fn settings(split: &[(&str, u32)], fallback: Option<&str>) -> Settings {
    let mut settings = Settings::for_testing();
    let relay = |name: &str| {
        let kind = RouteKind::Relay { host: "127.0.0.1".into(), port: 25, auth: None };
        let fallback = fallback.filter(|_| name == "first").map(Into::into);
        Route { name: name.into(), kind, fallback, ..Route::default() }
    };
    settings.routes = ["first", "second", "third"].map(relay).into();
    let share = |(route, weight): &(&str, u32)| Share { route: (*route).into(), weight: *weight };
    settings.rules = vec![RouteRule {
        tenant: None,
        stream: None,
        mailbox_provider: None,
        split: split.iter().map(share).collect(),
        pool: None,
    }];
    settings
}

fn lane(planner: &Planner) -> Arc<RouteChoice> {
    Arc::new(planner.route_for("acme", "bulk", &MailboxProvider::other()))
}

fn taken(lane: &Arc<RouteChoice>, id: i64) -> Result<String, NoWay> {
    let choice = lane.for_delivery(DeliveryId::new(id), Loyalty::Free)?;
    Ok(choice.route.to_string())
}

/// What a route says that has no allowance left, or asks to slow down.
fn shut(choice: &Arc<RouteChoice>, class: Class) {
    let (cause, finality) = (Cause::Timeout, Finality::Passing);
    let (stage, reach) = (Step::Dot, Reach::Route);
    let retry_after = (class == Class::Throttled).then_some(Duration::from_secs(9));
    let ruling = None;
    let verdict = Verdict { stage, cause, class, finality, reach, retry_after, ruling };
    choice.health().unwrap().note(&Err(Outcome::Refused(verdict)), 1.0);
}

fn reason(way: Result<Arc<RouteChoice>, NoWay>) -> Reason {
    match way {
        Err(NoWay::Out(shut)) => shut.reason,
        other => panic!("expected a route that is out, found {other:?}"),
    }
}

/// An id whose share is this route's.
fn id_of(lane: &Arc<RouteChoice>, route: &str) -> i64 {
    (0..10_000).find(|id| taken(lane, *id).unwrap() == route).unwrap()
}

#[test]
fn shares_follow_the_weights_and_each_delivery_keeps_its_own() {
    let planner = Planner::new(&settings(&[("first", 3), ("second", 1)], None)).unwrap();
    let before: Vec<String> = (0..4_000).map(|id| taken(&lane(&planner), id).unwrap()).collect();
    let of_first = before.iter().filter(|route| *route == "first").count();
    assert!((2_880..=3_120).contains(&of_first), "{of_first} of 4000");
    let again: Vec<String> = (0..4_000).map(|id| taken(&lane(&planner), id).unwrap()).collect();
    assert_eq!(before, again);

    planner.apply(&settings(&[("first", 1), ("second", 1)], None)).unwrap();
    let after = (0..4_000).map(|id| taken(&lane(&planner), id).unwrap());
    let moved = before.iter().zip(after).filter(|(old, new)| *old != new);
    assert!(moved.clone().all(|(old, _)| old == "first"), "none came to the lesser one");
    assert!((880..=1_120).contains(&moved.count()), "as many as the weights ask for");
}

#[tokio::test(start_paused = true)]
async fn a_fallback_takes_over_and_without_one_the_others_do() {
    let planner = Planner::new(&settings(&[("first", 1), ("second", 1)], Some("third"))).unwrap();
    let lane = lane(&planner);
    let (one, two) = (id_of(&lane, "first"), id_of(&lane, "second"));
    let first = lane.for_delivery(DeliveryId::new(one), Loyalty::Free).unwrap();
    let second = lane.for_delivery(DeliveryId::new(two), Loyalty::Free).unwrap();
    shut(&first, Class::Quota);
    assert_eq!(taken(&lane, one).unwrap(), "third");
    assert!(lane.has_another_than(&first));
    for route in [None, Some("first")] {
        let bound = lane.for_delivery(DeliveryId::new(one), Loyalty::Bound(route));
        assert_eq!(reason(bound), Reason::Quota, "what is in doubt stays");
    }
    assert_eq!(lane.shut(), None);

    let held = Arc::new(lane.holding(|route| **route == *"third").unwrap());
    assert_eq!(taken(&held, one).unwrap(), "second", "a paused route takes nothing over");
    assert!(held.holding(|route| **route == *"third").is_none());

    shut(&second, Class::Quota);
    assert_eq!(taken(&lane, two).unwrap(), "third", "by the other part's fallback");
    assert!(held.shut().is_some());
    assert!(taken(&held, two).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_wish_to_slow_down_moves_nothing() {
    let planner = Planner::new(&settings(&[("first", 1)], Some("third"))).unwrap();
    let lane = lane(&planner);
    shut(&lane, Class::Throttled);
    let own = lane.for_delivery(DeliveryId::new(1), Loyalty::Free);
    assert_eq!(reason(own), Reason::Pace);
    assert!(lane.shut().is_some());
    let reloaded = settings(&[("first", 1)], Some("second"));
    planner.apply(&reloaded).unwrap();
    assert_eq!(taken(&self::lane(&planner), 1).unwrap(), "first", "a changed route is a new one");
}

#[tokio::test(start_paused = true)]
async fn what_is_in_doubt_keeps_the_route_that_may_have_it() {
    let planner = Planner::new(&settings(&[("first", 1), ("second", 1)], Some("third"))).unwrap();
    let lane = lane(&planner);
    let one = DeliveryId::new(id_of(&lane, "first"));
    let bound = |route| lane.for_delivery(one, Loyalty::Bound(Some(route)));
    // Whatever its own share is, and whoever took over then.
    for route in ["second", "third"] {
        assert_eq!(&*bound(route).unwrap().route, route);
    }
    let second = bound("second").unwrap();
    shut(&second, Class::Configuration);
    assert_eq!(reason(bound("second")), Reason::Login, "however many others are open");
    assert_eq!(&*bound("gone").unwrap().route, "first", "no rule leads there any more");
}

#[tokio::test(start_paused = true)]
async fn a_held_route_keeps_its_own_share_and_takes_over_no_other() {
    let planner = Planner::new(&settings(&[("first", 1), ("second", 1)], None)).unwrap();
    let lane = lane(&planner);
    let (one, two) = (id_of(&lane, "first"), id_of(&lane, "second"));
    let held = Arc::new(lane.holding(|route| **route == *"second").unwrap());
    assert_eq!(taken(&held, two), Err(NoWay::Held));
    assert_eq!(taken(&held, one).unwrap(), "first");
    let bound = held.for_delivery(DeliveryId::new(one), Loyalty::Bound(Some("second")));
    assert!(matches!(bound, Err(NoWay::Held)));
    let shares = |lane: &RouteChoice| {
        let others = lane.others().iter().map(RouteChoice::open_share).collect::<Vec<_>>();
        (lane.open_share(), others)
    };
    assert_eq!((shares(&lane), shares(&held)), ((1, vec![1]), (1, vec![0])));

    let first = lane.for_delivery(DeliveryId::new(one), Loyalty::Free).unwrap();
    shut(&first, Class::Quota);
    assert!(matches!(held.for_delivery(DeliveryId::new(one), Loyalty::Free), Err(NoWay::Out(_))));
    assert!(held.shut().is_some() && lane.shut().is_none());
    assert!(!held.has_another_than(&first) && lane.has_another_than(&first));
}
