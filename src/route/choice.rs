//! The ways out of a lane, and which of them one delivery takes (no I/O).
//!
//! A rule may divide a lane among several routes by weight. A delivery's share follows from its
//! id, so every attempt of it takes the same one, also after a restart, as long as that can be
//! used and the weights stay. Where it is out its fallback takes over, or without one whoever of
//! the others is next by the same sum; where an operator holds it back it waits. A delivery in
//! doubt keeps the route that may have it: a second one could not know what the first has taken.

use std::sync::Arc;
use std::time::Duration;

use super::health::{Health, Shut};
use super::part::{Part, Parts};
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

/// What a delivery may do about a route that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loyalty<'r> {
    /// Take another one.
    Free,
    /// Wait for it: it may have been taken there already. The route's name, where it is known;
    /// else it is the delivery's own share.
    Bound(Option<&'r str>),
}

/// Why a delivery has no way now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoWay {
    /// Its route is out, and no other may take over.
    Out(Shut),
    /// An operator holds its route back.
    Held,
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

    /// The same, where nothing takes the routes that `held` names. `None`: that is so already.
    #[must_use]
    pub fn holding(&self, held: impl Fn(&Arc<str>) -> bool) -> Option<Self> {
        if self.parts.all.iter().all(|part| part.held == part.held_by(&held)) {
            return None;
        }
        let all = self.parts.all.iter();
        let all = all.map(|part| Part { held: part.held_by(&held), ..part.clone() }).collect();
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

    /// Whether the lane is divided among several routes.
    pub fn is_divided(&self) -> bool {
        self.parts.all.len() > 1
    }

    /// The other routes of a lane that is divided, each as this is for the first.
    pub fn others(&self) -> Vec<Self> {
        let others = self.parts.all.iter().filter(|part| !Arc::ptr_eq(&part.way, &self.way));
        others.map(|part| Self::by(&part.way, &self.parts)).collect()
    }

    /// This route's share of what can be begun now: 0 while it is held back, or out without
    /// anybody who takes over.
    pub fn open_share(&self) -> u32 {
        let own = self.parts.all.iter().find(|part| Arc::ptr_eq(&part.way, &self.way));
        own.filter(|part| part.is_open()).map_or(0, |part| part.weight)
    }

    /// The route whose share a delivery belongs to.
    pub fn share_of(&self, delivery: DeliveryId) -> &Arc<str> {
        self.parts.by_lot(delivery).next().map_or(&self.route, |part| &part.way.name)
    }

    /// The way that one delivery takes now; `Err` while it has to wait for one.
    pub fn for_delivery(
        self: &Arc<Self>,
        delivery: DeliveryId,
        loyalty: Loyalty<'_>,
    ) -> Result<Arc<Self>, NoWay> {
        if let Loyalty::Bound(Some(route)) = loyalty
            && let Some((way, held)) = self.parts.named(route)
        {
            return if held { Err(NoWay::Held) } else { self.enter(way).map_err(NoWay::Out) };
        }
        let mut shut = None;
        for part in self.parts.by_lot(delivery) {
            if part.held.way {
                match shut {
                    // Its own share is held back; what falls to a held one looks further.
                    None => return Err(NoWay::Held),
                    Some(_) => continue,
                }
            }
            match self.enter(&part.way) {
                Ok(choice) => return Ok(choice),
                Err(why) => {
                    let why = *shut.get_or_insert(why);
                    if loyalty != Loyalty::Free || !why.reason.lets_another_take_over() {
                        return Err(NoWay::Out(why));
                    }
                }
            }
            if let Some(fallback) = part.fallback() {
                return self.enter(fallback).map_err(|also| NoWay::Out(shut.unwrap_or(also)));
            }
        }
        // Without any part there is no choice at all.
        shut.map_or_else(|| Ok(Arc::clone(self)), |shut| Err(NoWay::Out(shut)))
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

    /// How long at least nothing of the lane can be begun, because every way of it that is not
    /// held back is out.
    pub fn shut(&self) -> Option<Duration> {
        let mut least: Option<Duration> = None;
        for part in self.parts.all.iter().filter(|part| !part.held.way) {
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
        let beside = self.parts.usable().any(|way| !Arc::ptr_eq(way, &used.way));
        beside || matches!(used.way.lead, Lead::Provider(_))
    }

    /// Whether a delivery that `used` could not take has another way now.
    pub fn has_another_than(&self, used: &Self) -> bool {
        self.parts.usable().any(|way| !Arc::ptr_eq(way, &used.way) && way.shut().is_none())
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
