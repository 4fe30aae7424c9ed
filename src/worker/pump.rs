//! Keeps the slots full: look, pick, claim, hand over.
//!
//! Permits are taken before the claim and only as much is claimed as there is room for,
//! so a claimed job never waits for a limit while it holds a lease. What a claim did not
//! bring gives its permits back. Everything the pump learns from the database may be
//! late or lost: polling with jitter stands behind every notification, and a walk over
//! the lanes that hold rows stands behind every hint.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::held::Held;
use super::lanes::{LaneBook, Pick};
use super::metrics;
use super::pipeline::Claim;
use super::runner::Parcel;
use super::slots::Slots;
use crate::config::{Queue, Settings};
use crate::domain::ids::LaneId;
use crate::queue::Generation;
use crate::queue::claim::{Want, claim};
use crate::queue::lane::{self, Blocks, Lane};
use crate::queue::session::Session;
use crate::route::planner::Planner;
use crate::telemetry::health::Part;
use crate::throttle::key::Plan;
use crate::throttle::limiter::Limiter;

/// How long a hint keeps a lane in view. Hints are written once a second at most and
/// become visible with their transaction; submitting transactions are shorter than this.
const HINT_SECONDS: f64 = 10.0;

/// How far behind the latest claimed `run_at` a lane is looked at again.
const LOOK_BACK: Duration = Duration::from_secs(5);

/// How often all lanes that hold rows are found without hints, and looked at from their start.
const LOOK_FROM_START: Duration = Duration::from_secs(30);

/// Least time between two looks that notifications cause.
const LEAST_LOOK: Duration = Duration::from_millis(5);

/// A claim for fewer freed slots than a quarter of all waits this long for more of them:
/// it costs a commit, and whoever holds most of the slots has work for longer than this.
const GATHER: Duration = Duration::from_millis(20);

/// Wait for a tenant that has as much in hand as it may.
const NO_ROOM: Duration = Duration::from_millis(5);

/// Wait after a failed statement, doubled up to the longest.
const TROUBLE_FIRST: Duration = Duration::from_millis(100);
const TROUBLE_LONGEST: Duration = Duration::from_secs(5);

/// What the pump works with.
pub struct Pump {
    /// Connections.
    pub pool: PgPool,
    /// This process's session.
    pub session: Arc<Session>,
    /// Room in this process.
    pub slots: Arc<Slots>,
    /// What is in hand, until it is settled.
    pub held: Arc<Held>,
    /// All limits.
    pub limiter: Arc<Limiter>,
    /// Ways out by rule.
    pub planner: Arc<Planner>,
    /// To the handlers.
    pub outbox: mpsc::Sender<Parcel>,
    /// "There is work", from NOTIFY.
    pub woken: Arc<Notify>,
    /// Settings in force.
    pub settings: watch::Receiver<Arc<Settings>>,
    /// Ready after the first successful look.
    pub health: Part,
}

struct View {
    book: LaneBook,
    blocks: Blocks,
    generations: Vec<Generation>,
    /// Lower bounds for claims, by generation and lane.
    after: HashMap<(Generation, LaneId), DateTime<Utc>>,
    /// Old generations in which a lane was found empty; nothing new comes there.
    drained: HashMap<LaneId, Vec<Generation>>,
    bounds_reset: Instant,
    looked: Option<Instant>,
    /// Somebody said that there is work, and nobody has looked since.
    notified: bool,
    claimed: Instant,
}

impl Pump {
    /// Claims until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let now = Instant::now();
        let mut view = View {
            book: LaneBook::default(),
            blocks: Blocks::default(),
            generations: Vec::new(),
            after: HashMap::new(),
            drained: HashMap::new(),
            bounds_reset: now,
            looked: None,
            notified: true,
            claimed: now,
        };
        let mut trouble = TROUBLE_FIRST;
        let limiter = Arc::clone(&self.limiter);
        while !stop.is_cancelled() {
            // Asked for before permits are: what eases in between is not missed.
            let eased = limiter.eased();
            tokio::pin!(eased);
            eased.as_mut().enable();
            match self.turn(&mut view).await {
                Ok(next) => {
                    trouble = TROUBLE_FIRST;
                    self.health.ready();
                    tokio::select! {
                        biased;
                        () = stop.cancelled() => return,
                        () = &mut eased => {
                            view.book.unpark();
                        }
                        woke = self.rest(next) => view.notified |= woke,
                    }
                }
                Err(error) => {
                    // The permits that were taken are given back unheard.
                    view.book.unpark();
                    tracing::warn!(%error, "cannot claim; trying again");
                    metrics::database_trouble("claim");
                    self.health.not_ready("the database does not answer");
                    let wait = trouble.mul_f64(0.5 + 0.5 * rand::random::<f64>());
                    trouble = (trouble * 2).min(TROUBLE_LONGEST);
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(wait) => {}
                    }
                }
            }
        }
    }

    /// Looks if it is time, then claims what there is room for. Says when to come again.
    async fn turn(&mut self, view: &mut View) -> Result<Turn, sqlx::Error> {
        let queue = self.settings.borrow().queue.clone();
        if self.settings.has_changed().unwrap_or(false) {
            self.settings.mark_unchanged();
            for lane in view.book.entries() {
                self.enter(&mut view.book, lane);
            }
        }
        let due = view.looked.is_none_or(|at| at.elapsed() >= jittered(queue.poll_interval));
        let may = view.looked.is_none_or(|at| at.elapsed() >= LEAST_LOOK);
        if due || (view.notified && may) {
            self.look(view).await?;
        }
        let free = self.slots.free();
        metrics::in_hand(self.slots.used_by_all());
        let now = Instant::now();
        let gathered = view.claimed + GATHER;
        if free < self.slots.quarter() && now < gathered {
            return Ok(Turn::Freed(self.slots.quarter(), gathered));
        }
        if !self.session.is_trusted() {
            // Whatever were claimed now could not be begun, and others can have it.
            return Ok(Turn::At(now + queue.beat_interval / 2));
        }
        let picks = if free == 0 {
            Vec::new()
        } else {
            let slots = Arc::clone(&self.slots);
            let most = free.min(queue.claim_batch as usize);
            let room = |tenant| {
                let room = slots.room(tenant);
                if room < slots.tenant_quarter() && now < gathered { 0 } else { room }
            };
            view.book.pick(most, most, &view.blocks, room, now)
        };
        let nothing = picks.is_empty();
        if !nothing {
            self.claim(view, picks, &queue).await?;
        }
        let looked = view.looked.unwrap_or(now);
        let poll = if view.notified {
            looked + LEAST_LOOK
        } else {
            looked + jittered(queue.poll_interval)
        };
        let next = view.book.next_turn(&view.blocks).map_or(poll, |turn| turn.min(poll));
        Ok(if self.slots.free() == 0 {
            Turn::Freed(1, poll)
        } else if nothing && next <= now {
            // A lane has work and its tenant has no room: not before something comes back.
            let some = self.slots.free() + self.slots.tenant_quarter();
            Turn::Freed(some, poll.min(gathered.max(now + NO_ROOM)))
        } else {
            Turn::At(next)
        })
    }

    async fn look(&self, view: &mut View) -> Result<(), sqlx::Error> {
        let look = lane::look(&self.pool, HINT_SECONDS).await?;
        let now = Instant::now();
        self.meet(view, &look.hinted).await?;
        view.book.hint(&look.hinted, std::mem::take(&mut view.notified), now);
        view.blocks = look.blocks;
        // What parks is woken by what eases; should that have been missed, by this.
        view.book.unpark();
        if view.generations != look.generations || view.bounds_reset.elapsed() > LOOK_FROM_START {
            for generation in &look.generations {
                let waiting = lane::waiting(&self.pool, *generation).await?;
                self.meet(view, &waiting).await?;
                view.book.hint(&waiting, false, now);
            }
            view.after.clear();
            view.drained.clear();
            view.bounds_reset = now;
        }
        view.generations = look.generations;
        view.looked = Some(now);
        Ok(())
    }

    /// Gets to know those of the lanes that are new.
    async fn meet(&self, view: &mut View, lanes: &[LaneId]) -> Result<(), sqlx::Error> {
        let unknown: Vec<LaneId> =
            lanes.iter().copied().filter(|lane| !view.book.knows(*lane)).collect();
        if !unknown.is_empty() {
            for lane in lane::directory(&self.pool, &unknown).await? {
                self.enter(&mut view.book, Arc::new(lane));
            }
        }
        Ok(())
    }

    /// Knows a lane by its limits and its way out under the settings in force.
    fn enter(&self, book: &mut LaneBook, lane: Arc<Lane>) {
        let choice =
            self.planner.route_for(&lane.tenant_name, &lane.stream_name, &lane.mailbox_provider);
        let gate = self.limiter.gate(&Plan {
            tenant: Arc::clone(&lane.tenant_name),
            mailbox_provider: lane.mailbox_provider.clone(),
            source: Arc::clone(&choice.source),
            route: Arc::clone(&choice.route),
        });
        book.put(lane, gate, Arc::new(choice), Instant::now());
    }

    async fn claim(
        &self,
        view: &mut View,
        picks: Vec<Pick>,
        queue: &Queue,
    ) -> Result<(), sqlx::Error> {
        let mut open: HashMap<LaneId, Pick> = HashMap::with_capacity(picks.len());
        let mut asked: HashMap<LaneId, usize> = HashMap::with_capacity(picks.len());
        for pick in picks {
            asked.insert(pick.lane, pick.permits.len());
            open.insert(pick.lane, pick);
        }
        let current = view.generations.last().copied();
        for generation in view.generations.clone() {
            let wants: Vec<Want> = open
                .values()
                .filter(|pick| !pick.permits.is_empty())
                .filter(|pick| {
                    !view.drained.get(&pick.lane).is_some_and(|gens| gens.contains(&generation))
                })
                .map(|pick| Want {
                    lane: pick.lane,
                    after: view.after.get(&(generation, pick.lane)).copied(),
                    take: pick.permits.len() as u32,
                })
                .collect();
            if wants.is_empty() {
                continue;
            }
            let started = Instant::now();
            let claimed = claim(&self.pool, self.session.id(), generation, &wants).await?;
            metrics::claimed(
                started.elapsed(),
                wants.iter().map(|want| want.take as usize).sum(),
                claimed.jobs.len(),
            );
            for (lane, latest) in claimed.latest {
                view.after.insert((generation, lane), latest - LOOK_BACK);
            }
            for job in claimed.jobs {
                let Some(permit) = open.get_mut(&job.lane).and_then(|pick| pick.permits.pop())
                else {
                    tracing::error!(delivery = %job.id, "a claim brought more than was asked for; left to the rescue");
                    continue;
                };
                let Some(state) = view.book.get(job.lane) else { continue };
                self.held.take(job.id);
                let parcel = Parcel::new(Claim {
                    slot: self.slots.take(job.tenant),
                    lane: Arc::clone(&state.lane),
                    choice: Arc::clone(&state.choice),
                    permit,
                    job,
                });
                // The channel has room for every slot, so this does not wait.
                if self.outbox.send(parcel).await.is_err() {
                    tracing::error!("the delivery workers are gone");
                    return Ok(());
                }
            }
            if Some(generation) != current {
                for want in &wants {
                    if open.get(&want.lane).is_some_and(|pick| !pick.permits.is_empty()) {
                        view.drained.entry(want.lane).or_default().push(generation);
                    }
                }
            }
        }
        let now = Instant::now();
        view.claimed = now;
        for (lane, asked) in asked {
            let got = asked - open.get(&lane).map_or(0, |pick| pick.permits.len());
            if got < asked {
                // Rows may lie below the bound (a late commit, a compaction): from the start.
                view.after.retain(|(_, bounded), _| *bounded != lane);
            }
            view.book.claimed(lane, asked, got, jittered(queue.poll_interval), now);
        }
        Ok(())
    }

    /// Waits for the next reason to turn; true when it was a notification.
    async fn rest(&self, next: Turn) -> bool {
        let (until, slots) = match next {
            Turn::At(at) => (at, None),
            Turn::Freed(slots, at) => (at, Some(slots)),
        };
        let until = tokio::time::Instant::from_std(until);
        tokio::select! {
            () = self.woken.notified() => true,
            () = tokio::time::sleep_until(until) => false,
            () = self.slots.freed_up_to(slots.unwrap_or(usize::MAX)), if slots.is_some() => false,
        }
    }
}

/// When to turn again.
enum Turn {
    /// Then: a lane may be asked again, or it is time to look.
    At(Instant),
    /// When so many slots are free, or then.
    Freed(usize, Instant),
}

/// Spreads `interval` by a fifth either way, so that replicas do not move in step.
fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(0.8 + 0.4 * rand::random::<f64>())
}
