//! Open connections, kept for the next mail: parked ones and lent ones.
//!
//! Promises: never more connections to one host, and in all, than allowed, parked
//! ones included; whoever waits longest for a host is served first; a connection
//! is only ever reused for the same source, host, TLS (with the certificates that are good)
//! and login. There is no NOOP: a parked connection that the peer closed is found by looking at the
//! socket, or by the mail that fails on it, which its owner then sends afresh.
//! Who waits for a host stands in a [line](super::line) too, and may be handed a
//! connection over which its envelope has gone out already.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout_at};

use super::connection::Connection;
use super::line::Line;
use super::metrics::Metrics;
use super::session;
use super::slots::{Slot, Slots};
use crate::config::{Auth, ClientCertificate, Source, TlsMode};
use crate::message::letter::Letter;
use crate::route::dane::Pins;
use crate::route::plan::Hop;

mod waiting;

use waiting::Waited;
pub use waiting::{Hand, Waiting};

/// What two mails must agree in to share a connection.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    address: SocketAddr,
    tls: TlsMode,
    host: Arc<str>,
    source: Arc<Source>,
    auth: Option<Arc<Auth>>,
    certificate: Option<Arc<ClientCertificate>>,
    pins: Option<Arc<Pins>>,
}

impl Key {
    /// The key of a hop from a source.
    pub fn new(source: &Arc<Source>, hop: &Hop) -> Self {
        Self {
            address: hop.address,
            tls: hop.tls,
            host: Arc::clone(&hop.host),
            source: Arc::clone(source),
            auth: hop.auth.clone(),
            certificate: hop.certificate.clone(),
            pins: hop.policy.pins().cloned(),
        }
    }
}

/// Why nothing was lent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unavailable {
    /// All connections are in use, and stayed so.
    Busy,
    /// The pool is being emptied.
    Draining,
}

/// What a lender gives.
pub enum Loan {
    /// A connection that was parked.
    Parked(Box<Lent>),
    /// A connection over which this letter's envelope has gone out.
    Begun(Box<Lent>),
    /// Leave to open a fresh one.
    Fresh(Leave),
}

/// Leave to have one connection to a host open.
pub struct Leave {
    host: Slot,
    total: Slot,
    pool: Arc<Shared>,
    key: Key,
}

/// A connection in use. Dropped without [`Lent::park`], it is closed.
pub struct Lent {
    connection: Connection,
    leave: Leave,
    reused: bool,
}

/// A connection at rest.
struct Parked {
    connection: Connection,
    key: Key,
    since: Instant,
}

/// All connections.
pub struct Pool(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    total: Slots,
    metrics: Metrics,
}

struct State {
    hosts: HashMap<SocketAddr, Host>,
    parked: usize,
    /// Where connections were parked and when, the oldest first. Some have been lent again or
    /// closed since: the search for the oldest must not look at every host.
    order: VecDeque<(Instant, SocketAddr)>,
    idle_timeout: Duration,
    draining: bool,
    sweeping: bool,
}

struct Host {
    slots: Slots,
    parked: Vec<Parked>,
    line: Line<Key, Box<Lent>>,
}

/// Longest wait for a connection slot.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Entries in the order of parking before it is tidied.
const MANY_PARKED: usize = 1_024;

/// Longest wait for the answer to QUIT.
const FAREWELL: Duration = Duration::from_secs(1);

impl Pool {
    /// An empty pool.
    pub fn new(max_connections: u32, idle_timeout: Duration, metrics: Metrics) -> Self {
        let state = State {
            hosts: HashMap::new(),
            parked: 0,
            order: VecDeque::new(),
            idle_timeout,
            draining: false,
            sweeping: false,
        };
        let total = Slots::new(max_connections);
        Self(Arc::new(Shared { state: Mutex::new(state), total, metrics }))
    }

    /// Changes the bounds. Connections in use stay until their mail is over.
    pub fn apply(&self, max_connections: u32, idle_timeout: Duration) {
        self.0.total.resize(max_connections);
        self.0.state.lock().idle_timeout = idle_timeout;
    }

    /// Lends a connection for a letter to a host: parked, yet to be opened, or one over
    /// which the letter was begun. Waits for [`PATIENCE`] if all of `max_connections` are in use.
    pub async fn lend(
        &self,
        key: Key,
        max_connections: u32,
        letter: &Letter,
    ) -> Result<Loan, Unavailable> {
        let give_up = Instant::now() + PATIENCE;
        let (host, total) = loop {
            let slots = self.slots_of(key.address, max_connections)?;
            if let Some(host) = slots.try_take()
                && let Some(total) = self.0.total.try_take()
            {
                break (host, total);
            }
            let waited = self.wait_in_line(&key, &slots, letter);
            match timeout_at(give_up, waited).await {
                Ok(Ok(Waited::Slots(host, total))) => break (host, total),
                Ok(Ok(Waited::Handed(lent))) => return Ok(Loan::Begun(lent)),
                Ok(Ok(Waited::Again)) => {}
                Ok(Err(unavailable)) => return Err(unavailable),
                Err(_elapsed) => return Err(Unavailable::Busy),
            }
        };
        self.loan(Leave { host, total, pool: Arc::clone(&self.0), key })
    }

    /// Lends a connection to a host if one can be had at once.
    pub fn lend_now(&self, key: Key, max_connections: u32) -> Option<Loan> {
        let host = self.slots_of(key.address, max_connections).ok()?.try_take()?;
        let total = self.0.total.try_take()?;
        self.loan(Leave { host, total, pool: Arc::clone(&self.0), key }).ok()
    }

    /// A parked connection of the leave's key that still stands, or the leave.
    fn loan(&self, mut leave: Leave) -> Result<Loan, Unavailable> {
        while let Some(connection) = leave.unpark()? {
            let mut lent = Box::new(leave.fill(connection));
            lent.reused = true;
            if lent.connection.is_alive() {
                self.0.metrics.reused.increment(1);
                return Ok(Loan::Parked(lent));
            }
            leave = lent.discard();
        }
        Ok(Loan::Fresh(leave))
    }

    /// Lends nothing more and takes leave of every parked connection.
    pub async fn drain(&self) {
        let parked: Vec<Parked> = {
            let mut state = self.0.state.lock();
            state.draining = true;
            state.parked = 0;
            state.hosts.values_mut().flat_map(|host| std::mem::take(&mut host.parked)).collect()
        };
        join_all(parked.into_iter().map(|parked| parked.connection.quit(FAREWELL))).await;
    }

    fn slots_of(&self, address: SocketAddr, number: u32) -> Result<Slots, Unavailable> {
        let mut state = self.0.state.lock();
        if state.draining {
            return Err(Unavailable::Draining);
        }
        if !state.sweeping {
            state.sweeping = true;
            tokio::spawn(sweep(Arc::downgrade(&self.0)));
        }
        let host = state.hosts.entry(address).or_insert_with(|| Host {
            slots: Slots::new(number),
            parked: Vec::new(),
            line: Line::new(),
        });
        if host.slots.number() != number.max(1) as usize {
            host.slots.resize(number);
        }
        Ok(host.slots.clone())
    }
}

impl State {
    /// Forgets what is not at rest any more, once that is most of the order.
    fn tidy(&mut self) {
        let Self { hosts, parked, order, .. } = self;
        if order.len() <= parked.saturating_mul(4).max(MANY_PARKED) {
            return;
        }
        order.retain(|(since, address)| {
            let host = hosts.get(address);
            host.is_some_and(|host| {
                host.parked.binary_search_by_key(since, |parked| parked.since).is_ok()
            })
        });
    }
}

impl Leave {
    /// Makes use of the leave.
    pub fn fill(self, connection: Connection) -> Lent {
        Lent { connection, leave: self, reused: false }
    }

    /// A parked connection of this key; without one, makes room for a fresh one.
    fn unpark(&self) -> Result<Option<Connection>, Unavailable> {
        let mut evicted = Vec::new();
        let mut state = self.pool.state.lock();
        if state.draining {
            return Err(Unavailable::Draining);
        }
        let State { hosts, parked, order, .. } = &mut *state;
        let Some(host) = hosts.get_mut(&self.key.address) else { return Ok(None) };
        // The last parked first: the others may then grow old and be closed.
        if let Some(at) = host.parked.iter().rposition(|parked| parked.key == self.key) {
            *parked -= 1;
            return Ok(Some(host.parked.remove(at).connection));
        }
        while !host.parked.is_empty()
            && host.parked.len() + host.slots.in_use() > host.slots.number()
        {
            *parked -= 1;
            evicted.push(host.parked.remove(0));
        }
        while *parked > 0 && *parked + self.pool.total.in_use() > self.pool.total.number() {
            let Some((since, address)) = order.pop_front() else { break };
            if let Some(host) = hosts.get_mut(&address)
                && host.parked.first().is_some_and(|parked| parked.since == since)
            {
                *parked -= 1;
                evicted.push(host.parked.remove(0));
            }
        }
        drop(state);
        // Closed here, outside the lock.
        drop(evicted);
        Ok(None)
    }
}

impl Lent {
    /// Whether it has carried a mail before.
    pub fn is_reused(&self) -> bool {
        self.reused
    }

    /// Gives the connection back for the next mail, or ends it if it is used up.
    pub fn park(self, messages_per_connection: u32) {
        let Self { mut connection, leave: Leave { host: slot, total, pool, key }, .. } = self;
        if !connection.is_usable() {
            // In the middle of something: not even QUIT would be understood.
            return;
        }
        let mut state = pool.state.lock();
        if state.draining || !session::may_go_on(&connection, messages_per_connection) {
            drop(state);
            // The slots are held until the peer has let go, so that the limit holds there too.
            tokio::spawn(async move {
                connection.quit(FAREWELL).await;
                drop((slot, total));
            });
            return;
        }
        connection.slim_down();
        if let Some(host) = state.hosts.get_mut(&key.address) {
            let (since, address) = (Instant::now(), key.address);
            host.parked.push(Parked { connection, key, since });
            state.parked += 1;
            state.order.push_back((since, address));
            state.tidy();
        }
        // While locked, so that nobody sees the connection counted twice.
        drop((slot, total));
    }

    /// Drops the connection and keeps the leave.
    pub fn discard(self) -> Leave {
        self.leave.pool.metrics.stale.increment(1);
        self.leave
    }
}

/// Closes what has been idle too long and forgets hosts that nobody writes to, until
/// there are none.
async fn sweep(pool: Weak<Shared>) {
    loop {
        let Some(pause) = pool.upgrade().map(|pool| pool.state.lock().idle_timeout / 4) else {
            return;
        };
        sleep(pause.clamp(Duration::from_millis(10), Duration::from_secs(5))).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut expired = Vec::new();
        let mut state = pool.state.lock();
        let State { hosts, parked, idle_timeout, .. } = &mut *state;
        hosts.retain(|_, host| {
            let old = host.parked.partition_point(|parked| parked.since.elapsed() >= *idle_timeout);
            *parked -= old;
            for parked in host.parked.drain(..old) {
                expired.push((parked, host.slots.try_take()));
            }
            !host.parked.is_empty() || !host.slots.is_unused()
        });
        if hosts.is_empty() {
            state.sweeping = false;
        }
        let is_done = !state.sweeping;
        drop(state);
        for (parked, slot) in expired {
            // Without a free slot another connection takes this one's place at once.
            if slot.is_some() {
                tokio::spawn(async move {
                    parked.connection.quit(FAREWELL).await;
                    drop(slot);
                });
            }
        }
        if is_done {
            return;
        }
    }
}

impl Deref for Lent {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}
