//! Hosts that do not answer are left alone, and come back slowly. A host is one address.
//!
//! ```text
//! passing ── failures in a row ──► blocked ── its time is over ──► probing ── one got through ──► ramping
//!    ▲                                ▲                               │                             │  │
//!    │                                └───────────── failed ──────────┴──────── failed ─────────────┘  │
//!    └───────────────────────────────────────── enough got through ────────────────────────────────────┘
//! ```
//!
//! Nothing that waits behind a block is charged an attempt: it is put back untouched. Each
//! block is longer than the one before, up to a bound, and spread, so that neither replicas
//! nor hosts come back in step. While ramping, so many are let through at once as got through
//! so far, twice over. Each process has breakers of its own: an outage shows itself to all of
//! them, and a broken network of one must not stop the others.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, gauge};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::config::Adaptive;

/// All breakers of a process.
#[derive(Debug)]
pub struct Breakers {
    terms: Mutex<Terms>,
    hosts: Mutex<HashMap<SocketAddr, Breaker>>,
    /// The addresses behind a route that leads to one peer, as far as seen.
    behind: Mutex<HashMap<Arc<str>, Vec<SocketAddr>>>,
    /// Routes whose mail has another way: it is claimed although they are blocked.
    spared: Mutex<Vec<String>>,
}

/// When to block, and for how long.
#[derive(Debug, Clone, Copy)]
struct Terms {
    failures: u32,
    first: Duration,
    longest: Duration,
}

#[derive(Debug)]
struct Breaker {
    state: State,
    /// Blocks in a row.
    blocks: u32,
    why: Arc<str>,
    since: Instant,
}

#[derive(Debug)]
enum State {
    Passing { failures: u32 },
    Blocked { until: Instant },
    Probing { under_way: u32 },
    Ramping { through: u32, under_way: u32 },
}

/// Leave to try a host; given back when dropped.
#[derive(Debug)]
pub struct Pass {
    held: Option<(Arc<Breakers>, SocketAddr)>,
}

/// Why a host is not tried now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocked {
    /// Which one.
    pub host: SocketAddr,
    /// Until it is tried again, or has room again.
    pub wait: Duration,
    /// What went wrong.
    pub why: Arc<str>,
}

/// A host that is not passing, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Which one.
    pub host: SocketAddr,
    /// `blocked`, `probing` or `ramping`.
    pub state: &'static str,
    /// For how long it has not been passing.
    pub lasted: Duration,
    /// Until it is tried again.
    pub left: Duration,
    /// What went wrong.
    pub why: Arc<str>,
}

/// Through at once, after which a host is passing again.
const ENOUGH: u32 = 64;

/// How long one waits that finds a probe or a ramp full.
const FULL: Duration = Duration::from_secs(2);

/// Hosts that are remembered before those that pass are forgotten.
const MANY: usize = 4_096;

/// Addresses remembered behind a route.
const MOST_BEHIND: usize = 32;

impl Breakers {
    /// Nothing is blocked.
    pub fn new(settings: &Adaptive) -> Arc<Self> {
        let terms = Mutex::new(Terms::of(settings));
        Arc::new(Self {
            terms,
            hosts: Mutex::default(),
            behind: Mutex::default(),
            spared: Mutex::default(),
        })
    }

    /// Takes over changed settings; what is blocked stays so.
    pub fn apply(&self, settings: &Adaptive) {
        *self.terms.lock() = Terms::of(settings);
    }

    /// The mail of these routes has another way.
    pub fn spare(&self, routes: Vec<String>) {
        *self.spared.lock() = routes;
    }

    /// Whether the mail of a route has another way.
    pub fn is_spared(&self, route: &str) -> bool {
        self.spared.lock().iter().any(|spared| spared == route)
    }

    /// Routes to one peer of which every address is blocked, each with the time and the reason.
    pub fn blocked_routes(&self) -> Vec<(Arc<str>, Blocked)> {
        let routes: Vec<Arc<str>> = self.behind.lock().keys().cloned().collect();
        let blocked = |route: Arc<str>| Some((Arc::clone(&route), self.blocked_route(&route)?));
        routes.into_iter().filter_map(blocked).collect()
    }

    /// How many deliveries at once a route takes that is coming back: nothing behind it is
    /// passing yet. With the reason.
    pub fn returning_routes(&self) -> Vec<(Arc<str>, u32, Arc<str>)> {
        let behind = self.behind.lock().clone();
        let hosts = self.hosts.lock();
        let room = |addresses: Vec<SocketAddr>| {
            let mut sum = (0_u32, Arc::from(""));
            for address in addresses {
                let breaker = hosts.get(&address)?;
                sum.0 += match breaker.state {
                    State::Passing { .. } => return None,
                    State::Blocked { until } if until > Instant::now() => 0,
                    State::Blocked { .. } | State::Probing { .. } => 1,
                    State::Ramping { through, .. } => through * 2,
                };
                sum.1 = Arc::clone(&breaker.why);
            }
            (sum.0 > 0).then_some(sum)
        };
        let of = |(route, addresses)| room(addresses).map(|(slots, why)| (route, slots, why));
        behind.into_iter().filter_map(of).collect()
    }

    fn blocked_route(&self, route: &str) -> Option<Blocked> {
        let now = Instant::now();
        let addresses = self.behind.lock().get(route).cloned()?;
        let all: Option<Vec<Blocked>> =
            addresses.into_iter().map(|host| self.blocked(host, now)).collect();
        all?.into_iter().min_by_key(|blocked| blocked.wait)
    }

    /// These addresses are all there is behind a route that leads to one peer.
    pub fn leads_to(&self, route: &Arc<str>, addresses: impl Iterator<Item = SocketAddr>) {
        let mut behind = self.behind.lock();
        let known = behind.entry(Arc::clone(route)).or_default();
        for address in addresses {
            if !known.contains(&address) {
                if known.len() >= MOST_BEHIND {
                    known.remove(0);
                }
                known.push(address);
            }
        }
    }

    /// Leave to try a host now, or why not.
    pub fn pass(self: &Arc<Self>, host: SocketAddr) -> Result<Pass, Blocked> {
        let now = Instant::now();
        let mut hosts = self.hosts.lock();
        let Some(breaker) = hosts.get_mut(&host) else { return Ok(Pass { held: None }) };
        if matches!(breaker.state, State::Blocked { until } if until <= now) {
            breaker.state = State::Probing { under_way: 0 };
        }
        let refused = |wait: Duration| {
            // Those who wait for one moment must not come back in one.
            let wait = wait.mul_f64(1.0 + 0.5 * rand::random::<f64>());
            Blocked { host, wait, why: Arc::clone(&breaker.why) }
        };
        let under_way = match &mut breaker.state {
            State::Passing { .. } => return Ok(Pass { held: None }),
            State::Blocked { until } => return Err(refused(*until - now)),
            State::Probing { under_way } if *under_way == 0 => under_way,
            State::Ramping { through, under_way } if *under_way < *through * 2 => under_way,
            State::Probing { .. } | State::Ramping { .. } => return Err(refused(FULL)),
        };
        *under_way += 1;
        Ok(Pass { held: Some((Arc::clone(self), host)) })
    }

    /// A host could not be reached, or sent everybody away.
    pub fn failed(&self, host: SocketAddr, why: &str) {
        let terms = *self.terms.lock();
        let now = Instant::now();
        let mut hosts = self.hosts.lock();
        if hosts.len() >= MANY {
            hosts.retain(|_, breaker| !matches!(breaker.state, State::Passing { .. }));
        }
        let breaker = hosts.entry(host).or_insert_with(|| Breaker {
            state: State::Passing { failures: 0 },
            blocks: 0,
            why: Arc::from(""),
            since: now,
        });
        match &mut breaker.state {
            State::Passing { failures } => {
                *failures += 1;
                if *failures >= terms.failures {
                    breaker.since = now;
                    breaker.block(terms, why, now);
                    let why = &breaker.why;
                    tracing::warn!(%host, %why, "does not answer: left alone for a while");
                    count(1.0);
                }
            }
            // Was under way before.
            State::Blocked { until } if *until > now => {}
            _ => breaker.block(terms, why, now),
        }
    }

    /// A host answered as it should.
    pub fn worked(&self, host: SocketAddr) {
        let mut hosts = self.hosts.lock();
        let Some(breaker) = hosts.get_mut(&host) else { return };
        match &mut breaker.state {
            State::Passing { .. } => {}
            // Late news of something that began before the block.
            State::Blocked { .. } => return,
            State::Probing { under_way } => {
                breaker.state = State::Ramping { through: 1, under_way: *under_way };
                return;
            }
            State::Ramping { through, .. } => {
                *through += 1;
                if *through < ENOUGH {
                    return;
                }
                tracing::info!(%host, "answers again");
                count(-1.0);
            }
        }
        hosts.remove(&host);
    }

    /// A host asked to be left alone for so long, though it answers.
    pub fn rest(&self, host: SocketAddr, time: Duration, why: &str) {
        let now = Instant::now();
        let mut hosts = self.hosts.lock();
        let was = hosts.get(&host).map(|breaker| (breaker.since, breaker.is_passing()));
        let (since, passing) = was.unwrap_or((now, true));
        let until = now + time.mul_f64(1.0 + 0.25 * rand::random::<f64>());
        let state = State::Blocked { until };
        let since = if passing { now } else { since };
        hosts.insert(host, Breaker { state, blocks: 1, why: Arc::from(why), since });
        if passing {
            count(1.0);
        }
    }

    /// Everything that is not passing.
    pub fn seen(&self) -> Vec<Seen> {
        let now = Instant::now();
        let hosts = self.hosts.lock();
        let seen = |(host, breaker): (&SocketAddr, &Breaker)| {
            let (state, left) = match breaker.state {
                State::Passing { .. } => return None,
                State::Blocked { until } if until > now => ("blocked", until - now),
                State::Blocked { .. } | State::Probing { .. } => ("probing", Duration::ZERO),
                State::Ramping { .. } => ("ramping", Duration::ZERO),
            };
            let why = Arc::clone(&breaker.why);
            let lasted = now.saturating_duration_since(breaker.since);
            Some(Seen { host: *host, state, lasted, left, why })
        };
        hosts.iter().filter_map(seen).collect()
    }

    fn blocked(&self, host: SocketAddr, now: Instant) -> Option<Blocked> {
        let hosts = self.hosts.lock();
        let breaker = hosts.get(&host)?;
        let State::Blocked { until } = breaker.state else { return None };
        let wait = until.saturating_duration_since(now);
        let why = Arc::clone(&breaker.why);
        (!wait.is_zero()).then_some(Blocked { host, wait, why })
    }

    fn give_back(&self, host: SocketAddr) {
        if let Some(breaker) = self.hosts.lock().get_mut(&host)
            && let State::Probing { under_way } | State::Ramping { under_way, .. } =
                &mut breaker.state
        {
            *under_way = under_way.saturating_sub(1);
        }
    }
}

impl Breaker {
    fn block(&mut self, terms: Terms, why: &str, now: Instant) {
        let longer = 2_u32.saturating_pow(self.blocks.min(16));
        let time = terms.first.saturating_mul(longer).min(terms.longest);
        let until = now + time.mul_f64(0.75 + 0.5 * rand::random::<f64>());
        self.state = State::Blocked { until };
        self.blocks += 1;
        self.why = why.chars().take(200).collect::<String>().into();
    }

    const fn is_passing(&self) -> bool {
        matches!(self.state, State::Passing { .. })
    }
}

impl Terms {
    fn of(settings: &Adaptive) -> Self {
        Self {
            failures: settings.breaker_failures.max(1),
            first: settings.breaker_first,
            longest: settings.breaker_longest,
        }
    }
}

fn count(change: f64) {
    gauge!("postrider_breakers_blocked").increment(change);
    if change > 0.0 {
        counter!("postrider_breaker_blocks_total").increment(1);
    }
}

impl Pass {
    /// Whether it was given to find out if the host answers again.
    pub const fn is_held(&self) -> bool {
        self.held.is_some()
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some((breakers, host)) = &self.held {
            breakers.give_back(*host);
        }
    }
}
