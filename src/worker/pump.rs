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

use sqlx::PgPool;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::held::Held;
use super::metrics;
use super::pick::{Grant, Pick};
use super::pipeline::Claim;
use super::quiet::QuietTimes;
use super::runner::Parcel;
use super::slots::Slots;
use super::view::View;
use super::waits::{Room, Snapshot};
use super::writing::Writing;
use crate::config::Settings;
use crate::domain::failpoint::{self, Point};
use crate::domain::ids::LaneId;
use crate::queue::Generation;
use crate::queue::claim::{Want, claim};
use crate::queue::deadline;
use crate::queue::lane::{self, Lane};
use crate::queue::session::Session;
use crate::queue::signal::Class;
use crate::route::planner::Planner;
use crate::telemetry::health::Part;
use crate::tenant::suppression::Keeper;
use crate::throttle::limiter::Limiter;

/// How far behind the latest claimed `run_at` a lane is looked at again.
const LOOK_BACK: Duration = Duration::from_secs(5);

/// How often it is seen what operators said, however seldom the lanes are looked at.
const OBEY: Duration = Duration::from_millis(400);

/// A lane whose parked rows that are due have gone is asked for such again after this.
const PARKED_REST: Duration = Duration::from_millis(200);

/// Least time between two looks that notifications cause.
const LEAST_LOOK: Duration = Duration::from_millis(5);

/// A claim for fewer freed slots than a quarter of all waits this long for more of them:
/// it costs a commit, and whoever holds most of the slots has work for longer than this.
const GATHER: Duration = Duration::from_millis(20);

/// How often it is said why lanes wait.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Wait for a tenant that has as much in hand as it may.
const NO_ROOM: Duration = Duration::from_millis(5);

/// Wait after a failed statement, doubled up to the longest.
const TROUBLE_FIRST: Duration = Duration::from_millis(100);
const TROUBLE_LONGEST: Duration = Duration::from_secs(5);

/// What the pump works with.
pub struct Pump {
    /// Connections.
    pub pool: PgPool,
    /// How the list of suppressions names people.
    pub keeper: Keeper,
    /// This process's session.
    pub session: Arc<Session>,
    /// Room in this process.
    pub slots: Arc<Slots>,
    /// What is in hand, until it is settled.
    pub held: Arc<Held>,
    /// Whether outcomes can be written.
    pub writing: Writing,
    /// All limits.
    pub limiter: Arc<Limiter>,
    /// Ways out by rule.
    pub planner: Arc<Planner>,
    /// When streams rest.
    pub quiet: Arc<QuietTimes>,
    /// To the handlers.
    pub outbox: mpsc::Sender<Parcel>,
    /// "There is work", from NOTIFY.
    pub woken: Arc<Notify>,
    /// Settings in force.
    pub settings: watch::Receiver<Arc<Settings>>,
    /// Ready after the first successful look.
    pub health: Part,
    /// To whoever tells others why lanes wait.
    pub waits: watch::Sender<Arc<Snapshot>>,
}

impl Pump {
    /// Claims until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let now = Instant::now();
        let mut view = View::new(now);
        let mut trouble = TROUBLE_FIRST;
        let limiter = Arc::clone(&self.limiter);
        while !stop.is_cancelled() {
            // Asked for before permits are: what eases in between is not missed.
            let eased = limiter.eased();
            tokio::pin!(eased);
            eased.as_mut().enable();
            // Cut off, it leaves at most leases that nobody knows of: those are given back.
            let (answer, rest) = {
                let settings = self.settings.borrow();
                let rest = (settings.queue.poll_interval + settings.queue.beat_interval) * 2;
                (settings.database.answer_deadline(), rest)
            };
            // A turn and a rest are bounded, so a pump that says nothing for longer hangs.
            self.health.alive(answer + rest);
            match deadline::within(answer, self.turn(&mut view)).await {
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
                    view.unheard = true;
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
        if view.unheard {
            self.give_back_strays(view).await?;
        }
        if self.settings.has_changed().unwrap_or(false) {
            self.settings.mark_unchanged();
            for lane in view.book.entries() {
                self.enter(view, lane);
            }
        }
        let rules = self.limiter.generation();
        if std::mem::replace(&mut view.rules, rules) != rules {
            view.book.ease(Instant::now());
        }
        let due = view.looked.is_none_or(|at| at.elapsed() >= jittered(queue.poll_interval));
        let may = view.looked.is_none_or(|at| at.elapsed() >= LEAST_LOOK);
        if due || (view.notified && may) {
            self.look(view).await?;
        } else if view.obeyed.is_none_or(|at| at.elapsed() >= OBEY) {
            let orders = lane::orders(&self.pool).await?;
            self.obey(view, orders).await?;
        }
        let free = self.slots.free();
        metrics::in_hand(self.slots.used_by_all());
        let now = Instant::now();
        if free < self.slots.quarter() {
            view.full = Some(now);
        }
        self.say_waits(view, now);
        let gathered = view.claimed + GATHER;
        if free < self.slots.quarter() && now < gathered {
            return Ok(Turn::Freed(self.slots.quarter(), gathered));
        }
        if !self.session.is_trusted() || !self.writing.is_possible() {
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
            let before = view.book.looked_at();
            let picks = view.book.pick(most, most, room, now);
            metrics::lanes_looked_at(view.book.looked_at() - before);
            picks
        };
        let nothing = picks.is_empty();
        if !nothing {
            self.claim(view, picks).await?;
        }
        let looked = view.looked.unwrap_or(now);
        let poll = if view.notified {
            looked + LEAST_LOOK
        } else {
            looked + jittered(queue.poll_interval)
        };
        let poll = view.obeyed.map_or(poll, |at| poll.min(at + OBEY));
        let next = view.book.next_turn().map_or(poll, |turn| turn.min(poll));
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

    /// Gives back what an unheard claim took. Nobody else claims for this session, so no claim
    /// is under way, and every lease that is not in hand is such.
    async fn give_back_strays(&self, view: &mut View) -> Result<(), sqlx::Error> {
        let held = self.held.ids();
        let strays = self.session.release_strays(&self.pool, &held, Duration::ZERO).await?;
        view.unheard = false;
        if strays > 0 {
            tracing::warn!(strays, "gave back deliveries whose claim's answer was lost");
        }
        Ok(())
    }

    /// Says why lanes wait, now and then.
    fn say_waits(&self, view: &mut View, now: Instant) {
        if now.duration_since(view.told) < TELL_EVERY {
            return;
        }
        let full = view.full.is_some_and(|at| now.duration_since(at) < TELL_EVERY);
        let room = if full { Room::Full } else { Room::Some };
        // Slots are asked for in quarters, so fewer than one are as good as none.
        let tenant_room = |tenant| match self.slots.room(tenant) {
            few if few < self.slots.tenant_quarter() => 0,
            some => some,
        };
        let waits = view.book.waits(tenant_room, room, now);
        self.waits.send_replace(Arc::new(waits));
        view.told = now;
    }

    async fn claim(&self, view: &mut View, picks: Vec<Pick>) -> Result<(), sqlx::Error> {
        let mut open: HashMap<LaneId, Pick> = HashMap::with_capacity(picks.len());
        let mut asked: HashMap<LaneId, usize> = HashMap::with_capacity(picks.len());
        for pick in picks {
            asked.insert(pick.lane, pick.permits.len());
            open.insert(pick.lane, pick);
        }
        let current = view.generations.last().copied();
        let ring = view.generations.clone();
        let started = Instant::now();
        for generation in [Generation::PARKED].into_iter().chain(ring) {
            let wants: Vec<Want> = open
                .values()
                .filter(|pick| !pick.permits.is_empty())
                .filter(|pick| match generation {
                    Generation::PARKED => {
                        view.parked.get(&pick.lane).is_some_and(|from| *from <= started)
                    }
                    _ => !view.drained.get(&pick.lane).is_some_and(|old| old.contains(&generation)),
                })
                .map(|pick| Want {
                    lane: pick.lane,
                    after: view.after.get(&pick.lane).and_then(|after| after[generation.index()]),
                    take: pick.permits.len() as u32,
                })
                .collect();
            if wants.is_empty() {
                continue;
            }
            let asked_at = Instant::now();
            let claimed =
                claim(&self.pool, &self.keeper, self.session.id(), generation, &wants).await?;
            metrics::claimed(
                asked_at.elapsed(),
                wants.iter().map(|want| want.take as usize).sum(),
                claimed.jobs.len(),
            );
            for (lane, latest) in claimed.latest {
                view.after.entry(lane).or_default()[generation.index()] = Some(latest - LOOK_BACK);
            }
            for job in claimed.jobs {
                let Some(Grant { permit, choice }) =
                    open.get_mut(&job.lane).and_then(|pick| pick.leave_for(job.id))
                else {
                    tracing::error!(delivery = %job.id, "a claim brought more than was asked for; left to the rescue");
                    continue;
                };
                let Some(state) = view.book.get(job.lane) else { continue };
                failpoint::reach(Point::AfterClaim, &job.recipient);
                self.held.take((job.id, job.hold), self.class_of(&state.lane));
                let parcel = Parcel::new(Claim {
                    slot: self.slots.take(job.tenant),
                    lane: Arc::clone(&state.lane),
                    choice,
                    permit,
                    job,
                });
                // The channel has room for every slot, so this does not wait.
                if self.outbox.send(parcel).await.is_err() {
                    tracing::error!("the delivery workers are gone");
                    return Ok(());
                }
            }
            if Some(generation) == current {
                continue;
            }
            for want in &wants {
                if open.get(&want.lane).is_none_or(|pick| pick.permits.is_empty()) {
                    continue;
                }
                if generation == Generation::PARKED {
                    // What is scheduled among them may be due at any time.
                    view.parked.insert(want.lane, started + PARKED_REST);
                } else {
                    view.drained.entry(want.lane).or_default().push(generation);
                }
            }
        }
        view.claimed = Instant::now();
        for (lane, asked) in asked {
            let got = asked - open.get(&lane).map_or(0, |pick| pick.permits.len());
            if got < asked {
                // Rows may lie below the bound (a late commit, a compaction): from the start.
                view.after.remove(&lane);
            }
            view.book.claimed(lane, asked, got);
        }
        Ok(())
    }

    fn class_of(&self, lane: &Lane) -> Class {
        let settings = self.settings.borrow();
        let known = settings.streams.get(&*lane.stream_name);
        Class::of(known.or_else(|| settings.streams.get("bulk")).is_none_or(|stream| stream.bulk))
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
