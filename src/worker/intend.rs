//! Step: say durably that a letter is about to be sent, among the next for its host.
//!
//! What has said so and has no outcome is in doubt when this process dies, so no more
//! deliveries get this far than a host's connections can take soon: those being sent and as
//! many behind them as hide the time of the commit. Holding a [`Turn`] is the right to send.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::time::timeout;

use super::admit::Ready;
use super::ahead::{Ahead, Meter};
use super::intents::Intents;
use crate::domain::failpoint::{self, Point};
use crate::domain::outcome::{Outcome, WaitReason};
use crate::queue::job::Job;
use crate::route::plan::{Counter, RoutePlan};
use crate::smtp::pool::PATIENCE;
use crate::smtp::slots::{Slot, Slots};

/// Hosts that are remembered before those that nobody sends to are forgotten.
const MANY_HOSTS: usize = 1_024;

/// Lets deliveries through to their host.
#[derive(Debug)]
pub struct Intending {
    intents: Intents,
    ready: Ready,
    hosts: Mutex<Hosts>,
}

#[derive(Debug, Default)]
struct Hosts {
    known: HashMap<Counter, Host>,
    swept_at: usize,
}

#[derive(Debug)]
struct Host {
    slots: Slots,
    ahead: Ahead,
    meter: Arc<Meter>,
}

/// The right to send one letter: its intent is durable. Given up when it is dropped.
#[derive(Debug)]
pub struct Turn {
    ready: Ready,
    /// Held for as long as the turn; a plan that sends nothing has none.
    place: Option<(Slot, Arc<Meter>)>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some((_slot, meter)) = &self.place {
            meter.sent();
        }
    }
}

impl Turn {
    /// The peer takes the next letter's envelope behind a body.
    pub fn could_be_followed(&self) {
        if let Some((_slot, meter)) = &self.place {
            meter.could_be_followed();
        }
    }

    /// Whether the letter may still be begun: waiting for a connection takes time, too, and a
    /// process can have been frozen meanwhile. If not, the intent is void.
    pub fn still_stands(&self) -> Result<(), Outcome> {
        self.ready.check()
    }
}

impl Intending {
    /// Asks `intents`; `ready` is asked again once they are written.
    pub fn new(intents: Intents, ready: Ready) -> Self {
        Self { intents, ready, hosts: Mutex::default() }
    }

    /// Waits until `job` is among the next for the first host of `plan`, and its intent is
    /// durable.
    pub async fn intend(&self, job: &Job, plan: &RoutePlan) -> Result<Turn, Outcome> {
        let turn = |place| Turn { ready: self.ready.clone(), place };
        let Some((counter, at_once)) = plan.counter() else { return Ok(turn(None)) };
        let (slots, meter) = self.line_to(counter, at_once);
        let busy = Outcome::Postponed { delay: PATIENCE, reason: WaitReason::Connections };
        let Ok(Some(slot)) = timeout(PATIENCE, slots.take()).await else { return Err(busy) };
        // It may have waited for long: nothing that could not be begun is declared.
        self.ready.check()?;
        let asked = Instant::now();
        self.intents.declare((job.id, job.hold)).await?;
        meter.declared(asked.elapsed());
        failpoint::reach(Point::IntentWritten, &job.recipient);
        // The commit may have taken its time: fenced or stopping since, the intent is void.
        let turn = turn(Some((slot, meter)));
        turn.still_stands()?;
        Ok(turn)
    }

    /// The line of deliveries to a host, as long as it should be now.
    fn line_to(&self, counter: Counter, at_once: u32) -> (Slots, Arc<Meter>) {
        let (connections, now) = (at_once.max(1), Instant::now());
        let mut hosts = self.hosts.lock();
        if hosts.known.len() > hosts.swept_at.saturating_mul(2).max(MANY_HOSTS) {
            hosts.known.retain(|_, host| !host.slots.is_unused());
            hosts.swept_at = hosts.known.len();
        }
        let host = hosts.known.entry(counter).or_insert_with(|| Host {
            slots: Slots::new(connections),
            ahead: Ahead::new(connections, now),
            meter: Arc::default(),
        });
        let turns = host.ahead.turns(connections, &host.meter, now);
        if host.slots.number() != turns as usize {
            host.slots.resize(turns);
        }
        (host.slots.clone(), Arc::clone(&host.meter))
    }
}
