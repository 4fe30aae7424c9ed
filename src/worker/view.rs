//! What the claimer knows of the queue: which lanes hold work, what operators said, and where
//! in the lanes claims begin.
//!
//! All of it is learned by looks at the database and may be late; nothing is decided here.
//! A look costs one statement, however much waits; only a change of generations or of what is
//! parked, and a while without either, make it walk over the lanes that hold rows.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::lane_way::LaneWay;
use super::lanes::LaneBook;
use super::pump::Pump;
use crate::domain::ids::LaneId;
use crate::queue::lane::{self, Lane, Orders};
use crate::queue::{GENERATIONS, Generation};
use crate::route::choice::RouteChoice;
use crate::throttle::key::Plan;

/// How long a hint keeps a lane in view. Hints are written once a second at most and
/// become visible with their transaction; submitting transactions are shorter than this.
const HINT_SECONDS: f64 = 10.0;

/// How often all lanes that hold rows are found without hints, and looked at from their start.
const LOOK_FROM_START: Duration = Duration::from_secs(30);

/// Lanes that are got to know with one statement.
const DIRECTORY_ROWS: usize = 5_000;

/// What this process knows of the queue, and since when.
pub(super) struct View {
    pub(super) book: LaneBook,
    pub(super) orders: Orders,
    /// When what operators said was last seen.
    pub(super) obeyed: Option<Instant>,
    /// Of the ring, oldest first.
    pub(super) generations: Vec<Generation>,
    /// Lanes that have parked rows, due or not, and when they are worth asking for them.
    pub(super) parked: HashMap<LaneId, Instant>,
    /// Of the count of parkings that `parked` was read after.
    pub(super) parkings: i64,
    /// Lower bounds for claims, by lane and generation.
    pub(super) after: HashMap<LaneId, [Option<DateTime<Utc>>; GENERATIONS + 1]>,
    /// Old generations in which a lane was found empty; nothing new comes there.
    pub(super) drained: HashMap<LaneId, Vec<Generation>>,
    pub(super) bounds_reset: Instant,
    /// The rules that the waits in the book are of.
    pub(super) rules: u64,
    pub(super) looked: Option<Instant>,
    /// Somebody said that there is work, and nobody has looked since.
    pub(super) notified: bool,
    pub(super) claimed: Instant,
    /// A claim may have committed whose answer was lost.
    pub(super) unheard: bool,
    /// When it was last said why lanes wait, and when no place was left.
    pub(super) told: Instant,
    pub(super) full: Option<Instant>,
}

impl View {
    /// Nothing is known yet.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            book: LaneBook::default(),
            orders: Orders::default(),
            obeyed: None,
            generations: Vec::new(),
            parked: HashMap::new(),
            parkings: 0,
            after: HashMap::new(),
            drained: HashMap::new(),
            bounds_reset: now,
            rules: 0,
            looked: None,
            notified: true,
            claimed: now,
            unheard: false,
            told: now,
            full: None,
        }
    }
}

impl Pump {
    /// Looks at what changed.
    pub(super) async fn look(&self, view: &mut View) -> Result<(), sqlx::Error> {
        let look = lane::look(&self.pool, HINT_SECONDS).await?;
        let now = Instant::now();
        self.obey(view, look.orders).await?;
        self.meet(view, &look.hinted).await?;
        view.book.hint(&look.hinted);
        view.notified = false;
        // What parks is woken by what eases; should that have been missed, by this.
        view.book.unpark();
        let from_start = view.bounds_reset.elapsed() > LOOK_FROM_START;
        if from_start || view.generations != look.generations || view.parkings != look.parked {
            for generation in &look.generations {
                let waiting = lane::waiting(&self.pool, *generation).await?;
                self.meet(view, &waiting.due).await?;
                view.book.hint(&waiting.due);
            }
            let parked = lane::waiting(&self.pool, Generation::PARKED).await?;
            self.meet(view, &parked.due).await?;
            view.book.hint(&parked.due);
            view.parked =
                parked.due.into_iter().chain(parked.later).map(|lane| (lane, now)).collect();
            view.parkings = look.parked;
            view.after.clear();
            view.drained.clear();
            view.bounds_reset = now;
        }
        view.generations = look.generations;
        view.looked = Some(now);
        Ok(())
    }

    /// Takes over what operators said. What is in hand goes on as it began.
    pub(super) async fn obey(&self, view: &mut View, orders: Orders) -> Result<(), sqlx::Error> {
        let before = std::mem::replace(&mut view.orders, orders);
        view.book.block(&view.orders.blocks);
        if before.directory != view.orders.directory {
            let known: Vec<LaneId> = view.book.entries().iter().map(|lane| lane.id).collect();
            match lane::directory(&self.pool, &known).await {
                Ok(lanes) => lanes.into_iter().for_each(|lane| self.enter(view, Arc::new(lane))),
                Err(error) => {
                    // Read again at the next look.
                    view.orders.directory = before.directory;
                    return Err(error);
                }
            }
        } else if before.detours != view.orders.detours {
            for lane in view.book.entries() {
                self.enter(view, lane);
            }
        }
        view.obeyed = Some(Instant::now());
        Ok(())
    }

    /// Gets to know those of the lanes that are new.
    async fn meet(&self, view: &mut View, lanes: &[LaneId]) -> Result<(), sqlx::Error> {
        let unknown: Vec<LaneId> =
            lanes.iter().copied().filter(|lane| !view.book.knows(*lane)).collect();
        for some in unknown.chunks(DIRECTORY_ROWS) {
            for lane in lane::directory(&self.pool, some).await? {
                self.enter(view, Arc::new(lane));
            }
        }
        Ok(())
    }

    /// Knows a lane by its limits, its way out and its quiet hours under the settings in force
    /// and what operators said.
    pub(super) fn enter(&self, view: &mut View, lane: Arc<Lane>) {
        let ruled =
            self.planner.route_for(&lane.tenant_name, &lane.stream_name, &lane.mailbox_provider);
        let detours = &view.orders.detours;
        let choice = self.planner.detoured(ruled, |route| detours.find(&lane, route));
        let choice = choice.unwrap_or_else(|(ruled, route)| {
            // This process runs under an older configuration: as if nothing had been said.
            tracing::warn!(%route, "mail was moved to a route that is not configured");
            ruled
        });
        let gate = |choice: &RouteChoice| {
            self.limiter.gate(&Plan {
                tenant: Arc::clone(&lane.tenant_name),
                mailbox_provider: lane.mailbox_provider.clone(),
                source: Arc::clone(&choice.source),
                route: Arc::clone(&choice.route),
            })
        };
        let others = choice.others();
        let ways = std::iter::once(choice).chain(others).map(|choice| LaneWay {
            gate: gate(&choice),
            overflow: choice.overflow().map(|other| (gate(&other), Arc::new(other))),
            choice: Arc::new(choice),
        });
        let (ways, nights) = (ways.collect(), self.quiet.of_lane(&lane));
        view.book.put(lane, ways, nights);
    }
}
