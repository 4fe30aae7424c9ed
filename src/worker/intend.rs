//! Step: say durably that a letter is about to be sent, among the next for its host.
//!
//! What has said so and has no outcome is in doubt when this process dies, so no more
//! deliveries get this far than a host's connections can take soon: those being sent and as
//! many behind them as hide the time of the commit. Holding a [`Turn`] is the right to send.

use std::collections::HashMap;
use std::net::SocketAddr;

use parking_lot::Mutex;
use tokio::time::timeout;

use super::admit::Ready;
use super::intents::Intents;
use crate::domain::failpoint::{self, Point};
use crate::domain::outcome::{Outcome, WaitReason};
use crate::queue::job::Job;
use crate::route::plan::{Hop, RoutePlan};
use crate::smtp::pool::PATIENCE;
use crate::smtp::slots::{Slot, Slots};

/// Deliveries with an intent for each connection that a host may have (docs/adr/0011).
pub const PER_CONNECTION: u32 = 3;

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
    slots: HashMap<SocketAddr, Slots>,
    swept_at: usize,
}

/// The right to send one letter: its intent is durable. Given up when it is dropped.
#[derive(Debug)]
pub struct Turn {
    ready: Ready,
    /// Held for as long as the turn; a plan without hops has none.
    _slot: Option<Slot>,
}

impl Turn {
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
        let turn = |slot| Turn { ready: self.ready.clone(), _slot: slot };
        // A plan without hops sends nothing.
        let Some(hop) = plan.hops.first() else { return Ok(turn(None)) };
        let slots = self.slots_of(hop);
        let busy = Outcome::Postponed { delay: PATIENCE, reason: WaitReason::Connections };
        let Ok(Some(slot)) = timeout(PATIENCE, slots.take()).await else { return Err(busy) };
        // It may have waited for long: nothing that could not be begun is declared.
        self.ready.check()?;
        self.intents.declare((job.id, job.hold)).await?;
        failpoint::reach(Point::IntentWritten, &job.recipient);
        // The commit may have taken its time: fenced or stopping since, the intent is void.
        let turn = turn(Some(slot));
        turn.still_stands()?;
        Ok(turn)
    }

    fn slots_of(&self, hop: &Hop) -> Slots {
        let number = hop.max_connections.max(1).saturating_mul(PER_CONNECTION);
        let mut hosts = self.hosts.lock();
        if hosts.slots.len() > hosts.swept_at.saturating_mul(2).max(MANY_HOSTS) {
            hosts.slots.retain(|_, slots| !slots.is_unused());
            hosts.swept_at = hosts.slots.len();
        }
        let slots = hosts.slots.entry(hop.address).or_insert_with(|| Slots::new(number));
        if slots.number() != number as usize {
            slots.resize(number);
        }
        slots.clone()
    }
}
