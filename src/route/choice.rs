//! The ways out of a lane, and which of them one delivery takes (no I/O).
//!
//! A rule may divide a lane among several routes by weight. A delivery's share follows from its
//! id, so every attempt of it takes the same one, also after a restart, as long as that can be
//! used and the weights stay. Where it is out its fallback takes over, or without one whoever of
//! the others is next by the same sum. A delivery in doubt never changes its route: a second
//! one could not know what the first has taken.

use std::sync::Arc;
use std::time::Duration;

use super::health::{Health, Shut};
use super::planner::PlannerError;
use super::way::{Lead, Way};
use crate::config::{Source, Stage};
use crate::domain::clock::Clock;
use crate::domain::ids::DeliveryId;

/// The way out for a lane, or for one delivery of it.
#[derive(Debug, Clone)]
pub struct RouteChoice {
    /// The route's name; of a lane that is divided: the one with the greatest share.
    pub route: Arc<str>,
    /// The source's name; empty where a provider sends.
    pub source: Arc<str>,
    pub(super) way: Arc<Way>,
    pub(super) from: Arc<Source>,
    parts: Parts,
}

/// All ways of a lane; at least one.
#[derive(Debug, Clone)]
pub(super) struct Parts {
    /// That with the greatest share.
    main: Arc<Way>,
    all: Arc<[Part]>,
}

/// A way with its share of a lane.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) way: Arc<Way>,
    pub(super) weight: u32,
    /// Who takes over while it is out.
    pub(super) fallback: Option<Arc<Way>>,
    /// An operator holds the fallback back.
    pub(super) held: bool,
}

impl Part {
    /// Sends from a pool in place of the routes' own sources.
    pub(super) fn take_pool(
        &mut self,
        names: &[String],
        sources: &[Arc<Source>],
    ) -> Result<(), PlannerError> {
        self.way = Arc::new(self.way.with_pool(names, sources)?);
        if let Some(fallback) = &mut self.fallback {
            *fallback = Arc::new(fallback.with_pool(names, sources)?);
        }
        Ok(())
    }

    fn fallback(&self) -> Option<&Arc<Way>> {
        self.fallback.as_ref().filter(|_| !self.held)
    }
}

/// What a delivery may do about a route that is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loyalty {
    /// Take another one.
    Free,
    /// Wait for it: it may have been taken there already.
    Bound,
}

impl Parts {
    /// `None`: there is none.
    pub(super) fn try_new(parts: Vec<Part>) -> Option<Self> {
        // Of equals the first.
        let main = parts.iter().rev().max_by_key(|part| part.weight)?;
        Some(Self { main: Arc::clone(&main.way), all: parts.into() })
    }
}

impl RouteChoice {
    /// The way out by these parts; their sources have their turn.
    pub(super) fn of(parts: &Parts) -> Self {
        Self::by(&parts.main, parts)
    }

    fn by(way: &Arc<Way>, parts: &Parts) -> Self {
        Self::with_source(way, way.sources.next(Clock::System.unix_seconds()), parts)
    }

    fn with_source(way: &Arc<Way>, from: Arc<Source>, parts: &Parts) -> Self {
        Self {
            route: way.name.clone(),
            source: Arc::from(from.name.as_str()),
            way: Arc::clone(way),
            from,
            parts: parts.clone(),
        }
    }

    /// The same, each part with another way where `replaced` has one.
    pub(super) fn with(self, replaced: impl Fn(&Arc<str>) -> Option<Part>) -> Self {
        let part = |part: &Part| match replaced(&part.way.name) {
            Some(other) => Part { weight: part.weight, ..other },
            None => part.clone(),
        };
        let parts = self.parts.all.iter().map(part).collect();
        Parts::try_new(parts).map_or(self, |parts| Self::of(&parts))
    }

    /// The same, where only routes that `held` does not name take over from others. `None`:
    /// that is so already.
    #[must_use]
    pub fn holding(&self, held: impl Fn(&Arc<str>) -> bool) -> Option<Self> {
        let holds = |part: &Part| part.fallback.as_ref().is_some_and(|way| held(&way.name));
        if self.parts.all.iter().all(|part| part.held == holds(part)) {
            return None;
        }
        let all =
            self.parts.all.iter().map(|part| Part { held: holds(part), ..part.clone() }).collect();
        Some(Self { parts: Parts { all, ..self.parts.clone() }, ..self.clone() })
    }

    /// The same way from a source that is warm, for what a source in its warm-up may not
    /// take today; `None` when this one is warm, or no other is.
    pub fn overflow(&self) -> Option<Self> {
        let now = Clock::System.unix_seconds();
        if self.from.stage(now) == Stage::Warm {
            return None;
        }
        let from = self.way.sources.next_warm(now)?;
        Some(Self::with_source(&self.way, from, &self.parts))
    }

    /// Names of the routes that the lane is divided among.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<str>> {
        self.parts.all.iter().map(|part| &part.way.name)
    }

    /// The way that one delivery takes now; `Err` while it has to wait for one.
    pub fn for_delivery(
        self: &Arc<Self>,
        delivery: DeliveryId,
        loyalty: Loyalty,
    ) -> Result<Arc<Self>, Shut> {
        let mut shut = None;
        for part in by_lot(&self.parts.all, delivery) {
            match self.enter(&part.way) {
                Ok(choice) => return Ok(choice),
                Err(why) => {
                    let why = *shut.get_or_insert(why);
                    if loyalty == Loyalty::Bound || !why.reason.lets_another_take_over() {
                        return Err(why);
                    }
                }
            }
            if let Some(fallback) = part.fallback() {
                return self.enter(fallback).map_err(|also| shut.unwrap_or(also));
            }
        }
        // Without any part there is no choice at all.
        shut.map_or_else(|| Ok(Arc::clone(self)), Err)
    }

    fn enter(self: &Arc<Self>, way: &Arc<Way>) -> Result<Arc<Self>, Shut> {
        if let Some(health) = &way.health {
            health.enter()?;
        }
        if Arc::ptr_eq(way, &self.way) {
            return Ok(Arc::clone(self));
        }
        Ok(Arc::new(Self::by(way, &self.parts)))
    }

    /// How long at least nothing of the lane can be begun, because every way of it is out.
    pub fn shut(&self) -> Option<Duration> {
        let mut least: Option<Duration> = None;
        for part in &*self.parts.all {
            let shut = part.way.shut()?;
            let wait = match part.fallback() {
                Some(fallback) if shut.reason.lets_another_take_over() => {
                    fallback.shut()?.wait.min(shut.wait)
                }
                _ => shut.wait,
            };
            least = Some(least.map_or(wait, |least| least.min(wait)));
        }
        least
    }

    /// Whether it matters that `used` is out: there is another way, or nobody else minds it.
    pub fn minds(&self, used: &Self) -> bool {
        let ways = self.parts.all.iter().flat_map(|part| [Some(&part.way), part.fallback()]);
        let beside = ways.flatten().any(|way| !Arc::ptr_eq(way, &used.way));
        beside || matches!(used.way.lead, Lead::Provider(_))
    }

    /// Whether a delivery that `used` could not take has another way now.
    pub fn has_another_than(&self, used: &Self) -> bool {
        let ways = self.parts.all.iter().flat_map(|part| [Some(&part.way), part.fallback()]);
        ways.flatten().any(|way| !Arc::ptr_eq(way, &used.way) && way.shut().is_none())
    }

    /// Whether the route can be used; of one that cannot fail as a whole nothing is known.
    pub fn health(&self) -> Option<&Health> {
        self.way.health.as_deref()
    }

    /// Headers that this route's carrier writes anew: to sign them would break the signature.
    pub fn rewritten_headers(&self) -> &'static [&'static str] {
        self.way.rewritten_headers()
    }
}

/// The parts, best for this delivery first: weighted rendezvous hashing. A change of one
/// route's weight moves only deliveries to or from it.
fn by_lot(parts: &[Part], delivery: DeliveryId) -> impl Iterator<Item = &Part> {
    let mut order: smallvec::SmallVec<[(f64, &Part); 2]> =
        parts.iter().map(|part| (score(part, delivery), part)).collect();
    if order.len() > 1 {
        order.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    order.into_iter().map(|(_, part)| part)
}

/// The least wins, in proportion to the weights.
fn score(part: &Part, delivery: DeliveryId) -> f64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64 ^ delivery.get() as u64;
    for byte in part.way.name.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    // Finish as splitmix64 does: ids that follow each other must not.
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^= hash >> 31;
    let even = ((hash >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -even.ln() / f64::from(part.weight.max(1))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::health::Reason;
    use super::super::planner::Planner;
    use super::*;
    use crate::config::{Route, RouteKind, RouteRule, Settings, Share};
    use crate::domain::ids::MailboxProvider;
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
        let share =
            |(route, weight): &(&str, u32)| Share { route: (*route).into(), weight: *weight };
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

    fn taken(lane: &Arc<RouteChoice>, id: i64) -> Result<String, Shut> {
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

    /// An id whose share is this route's.
    fn id_of(lane: &Arc<RouteChoice>, route: &str) -> i64 {
        (0..10_000).find(|id| taken(lane, *id).unwrap() == route).unwrap()
    }

    #[test]
    fn shares_follow_the_weights_and_each_delivery_keeps_its_own() {
        let planner = Planner::new(&settings(&[("first", 3), ("second", 1)], None)).unwrap();
        let before: Vec<String> =
            (0..4_000).map(|id| taken(&lane(&planner), id).unwrap()).collect();
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
        let planner =
            Planner::new(&settings(&[("first", 1), ("second", 1)], Some("third"))).unwrap();
        let lane = lane(&planner);
        let (one, two) = (id_of(&lane, "first"), id_of(&lane, "second"));
        let first = lane.for_delivery(DeliveryId::new(one), Loyalty::Free).unwrap();
        let second = lane.for_delivery(DeliveryId::new(two), Loyalty::Free).unwrap();
        shut(&first, Class::Quota);
        assert_eq!(taken(&lane, one).unwrap(), "third");
        assert!(lane.has_another_than(&first));
        let bound = lane.for_delivery(DeliveryId::new(one), Loyalty::Bound);
        assert_eq!(bound.unwrap_err().reason, Reason::Quota, "what is in doubt stays");
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
        assert_eq!(taken(&lane, 1).unwrap_err().reason, Reason::Pace);
        assert!(lane.shut().is_some());
        let reloaded = settings(&[("first", 1)], Some("second"));
        planner.apply(&reloaded).unwrap();
        assert_eq!(
            taken(&self::lane(&planner), 1).unwrap(),
            "first",
            "a changed route is a new one"
        );
    }
}
