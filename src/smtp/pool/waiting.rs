//! The line before a host: waiting for a connection, or for somebody who takes the letter
//! along over one.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::{Key, Lent, Pool, Shared, Unavailable};
use crate::message::letter::Letter;
use crate::smtp::line::{TakenAlong, Ticket};
use crate::smtp::slots::{Slot, Slots};

/// A place in the line before a host, given up when dropped.
struct Place<'p> {
    pool: &'p Shared,
    host: SocketAddr,
    ticket: Ticket,
}

/// The line before the host of a connection.
pub struct Waiting {
    pool: Arc<Shared>,
    key: Key,
}

/// To whom a connection is handed over.
pub type Hand = oneshot::Sender<Box<Lent>>;

/// What waiting brought.
pub(super) enum Waited {
    Slots(Slot, Slot),
    Handed(Box<Lent>),
    /// The letter was taken along, and nothing came of it.
    Again,
}

impl Pool {
    /// Waits for slots of its own, or for somebody who takes the letter along. Once taken
    /// along, it waits for that connection alone: whoever has it goes on with this letter.
    pub(super) async fn wait_in_line(
        &self,
        key: &Key,
        slots: &Slots,
        letter: &Letter,
    ) -> Result<Waited, Unavailable> {
        let Some((place, mut handed)) = self.join_line(key, letter) else {
            return Ok(Waited::Again);
        };
        let both = async { Some((slots.take().await?, self.0.total.take().await?)) };
        tokio::select! {
            biased;
            handed = &mut handed => return Ok(handed.map_or(Waited::Again, Waited::Handed)),
            both = both => {
                let (host, total) = both.ok_or(Unavailable::Draining)?;
                if place.leave() {
                    return Ok(Waited::Slots(host, total));
                }
            }
        }
        Ok(handed.await.map_or(Waited::Again, Waited::Handed))
    }

    fn join_line(
        &self,
        key: &Key,
        letter: &Letter,
    ) -> Option<(Place<'_>, oneshot::Receiver<Box<Lent>>)> {
        let mut state = self.0.state.lock();
        let line = &mut state.hosts.get_mut(&key.address)?.line;
        let (ticket, handed) = line.join(key.clone(), letter.clone());
        Some((Place { pool: &self.0, host: key.address, ticket }, handed))
    }
}

impl Place<'_> {
    /// Leaves the line. False if the letter was taken along.
    fn leave(&self) -> bool {
        let mut state = self.pool.state.lock();
        state.hosts.get_mut(&self.host).is_some_and(|host| host.line.leave(self.ticket))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Waiting {
    /// Takes the first letter in the line along, if it goes over the same connection. Not
    /// while other hosts wait for a connection: then this one is to be given back soon.
    pub fn take_first(&self, fits: impl FnOnce(&Letter) -> bool) -> Option<(Letter, Hand)> {
        let mut state = self.pool.state.lock();
        if state.draining || self.pool.total.in_use() >= self.pool.total.number() {
            return None;
        }
        let line = &mut state.hosts.get_mut(&self.key.address)?.line;
        let TakenAlong { letter, hand } = line.take_first(&self.key, fits)?;
        Some((letter, hand))
    }
}

impl Lent {
    /// The line before its host.
    pub fn waiting(&self) -> Waiting {
        Waiting { pool: Arc::clone(&self.leave.pool), key: self.leave.key.clone() }
    }

    /// Hands the connection over to the letter that has begun on it. If nobody waits for
    /// that any more it is closed, for nothing else can be said on it.
    pub fn hand_over(mut self, hand: Hand) {
        self.reused = true;
        let _closed = hand.send(Box::new(self));
    }
}
