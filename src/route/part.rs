//! How a lane is divided among routes, and which share a delivery belongs to (no I/O).

use std::sync::Arc;

use super::health::Shut;
use super::planner::PlannerError;
use super::way::Way;
use crate::config::Source;
use crate::domain::ids::DeliveryId;

/// All ways of a lane; at least one.
#[derive(Debug, Clone)]
pub(super) struct Parts {
    /// That with the greatest share.
    pub(super) main: Arc<Way>,
    pub(super) all: Arc<[Part]>,
}

/// A way with its share of a lane.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) way: Arc<Way>,
    pub(super) weight: u32,
    /// Who takes over while it is out.
    pub(super) fallback: Option<Arc<Way>>,
    pub(super) held: Held,
}

/// What of a part operators hold back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Held {
    pub(super) way: bool,
    pub(super) fallback: bool,
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

    /// Whether something of it can be begun now.
    pub(super) fn is_open(&self) -> bool {
        let taken_over = |shut: Shut| {
            let fallback = self.fallback().filter(|_| shut.reason.lets_another_take_over());
            fallback.is_some_and(|way| way.shut().is_none())
        };
        !self.held.way && self.way.shut().is_none_or(taken_over)
    }

    /// Who may take over.
    pub(super) fn fallback(&self) -> Option<&Arc<Way>> {
        self.fallback.as_ref().filter(|_| !self.held.fallback)
    }

    /// What is held back where `held` names routes.
    pub(super) fn held_by(&self, held: impl Fn(&Arc<str>) -> bool) -> Held {
        let fallback = self.fallback.as_ref().is_some_and(|way| held(&way.name));
        Held { way: held(&self.way.name), fallback }
    }
}

impl Parts {
    /// `None`: there is none.
    pub(super) fn try_new(parts: Vec<Part>) -> Option<Self> {
        // Of equals the first.
        let main = parts.iter().rev().max_by_key(|part| part.weight)?;
        Some(Self { main: Arc::clone(&main.way), all: parts.into() })
    }

    /// The parts, best for this delivery first: weighted rendezvous hashing. A change of one
    /// route's weight moves only deliveries to or from it.
    pub(super) fn by_lot(&self, delivery: DeliveryId) -> impl Iterator<Item = &Part> {
        let mut order: smallvec::SmallVec<[(f64, &Part); 2]> =
            self.all.iter().map(|part| (score(part, delivery), part)).collect();
        if order.len() > 1 {
            order.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
        order.into_iter().map(|(_, part)| part)
    }

    /// The way of this name, and whether it is held back.
    pub(super) fn named(&self, route: &str) -> Option<(&Arc<Way>, bool)> {
        let own = self.all.iter().map(|part| (Some(&part.way), part.held.way));
        let others = self.all.iter().map(|part| (part.fallback.as_ref(), part.held.fallback));
        let mut ways = own.chain(others).filter_map(|(way, held)| Some((way?, held)));
        ways.find(|(way, _)| *way.name == *route)
    }

    /// Every way that something of the lane may take now or once it is not out any more.
    pub(super) fn usable(&self) -> impl Iterator<Item = &Arc<Way>> {
        self.all
            .iter()
            .flat_map(|part| [Some(&part.way).filter(|_| !part.held.way), part.fallback()])
            .flatten()
    }
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
