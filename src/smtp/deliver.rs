//! One letter, one plan: tries the plan's hops in order until one ends the attempt.
//!
//! ```text
//! hop ─► lend a connection ─► open ─► fit? ─► carry ─► receipt
//!  ▲            │              │        │       │
//!  │         postpone          │     refuse     ├─► refused: recipient, message, source
//!  └──── next hop ◄────────────┴────────────────┴─► host or session at fault
//! ```
//!
//! Promises: no hop is tried after one that may have taken the letter; TLS that a
//! hop demands is had or the hop fails; a connection that went stale in the pool
//! costs the letter nothing, nor does one over which it was begun behind another's body.
//! Pace, retry and suppression are decided by others.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::RwLock;
use tokio::time::Instant;

use super::classify::classify;
use super::command::EhloName;
use super::connection::Connection;
use super::host_memory::HostMemory;
use super::metrics::Metrics;
use super::open::OpenFailure;
use super::pool::{Hand, Key, Lent, Loan, PATIENCE, Pool, Unavailable};
use super::session::{self, Carried, carry, unfit};
use super::tls::{Tls, TlsFault};
use crate::config;
use crate::domain::outcome::{Outcome, WaitReason};
use crate::domain::receipt::{Receipt, Trail};
use crate::domain::trace::Notes;
use crate::domain::verdict::{Cause, Class, Finality, Reach, Stage, Verdict};
use crate::message::letter::Letter;
use crate::route::plan::{Hop, RoutePlan};
use crate::route::tls_result::Tally;
use crate::telemetry::traces;
use crate::throttle::breaker::Breakers;

mod opening;
mod results;

/// The SMTP carrier; one for the whole daemon.
pub struct Smtp {
    settings: RwLock<Arc<config::Smtp>>,
    tls: Tls,
    pool: Pool,
    /// Hosts whose TLS is broken: opportunistic TLS must not stumble for every mail.
    broken_tls: HostMemory,
    breakers: Option<Arc<Breakers>>,
    /// Hosts that offered PIPELINING and lost an envelope behind a body.
    lost_behind: HostMemory,
    /// Addresses that were slower to answer than another one of their host.
    unanswering: HostMemory,
    metrics: Metrics,
    tally: Arc<Tally>,
}

/// One attempt, ended.
#[derive(Debug)]
pub struct Delivery {
    /// Which way it went, as far as it came.
    pub trail: Trail,
    /// The receipt, or how else it ended.
    pub result: Result<Receipt, Outcome>,
    /// Whether the peer takes the next letter's envelope behind a body: then one more
    /// letter for each connection has work at once.
    pub takes_next: bool,
}

/// What a letter's attempt is made with.
struct Attempt<'a> {
    may_begin: &'a (dyn Fn() -> Result<(), Outcome> + Sync),
    letter: &'a Letter,
    plan: &'a RoutePlan,
    ehlo: EhloName,
    settings: Arc<config::Smtp>,
    /// Addresses to which no connection could be had.
    dead: Vec<SocketAddr>,
    takes_next: bool,
}

/// How a hop ended that brought no receipt.
enum Ended {
    /// The attempt is over.
    Stop(Outcome),
    /// Another hop may do better.
    NextHop(Outcome),
}

impl Smtp {
    /// Trusts the roots that browsers trust. Install the metrics recorder before.
    pub fn new(settings: &config::Smtp) -> Result<Self, TlsFault> {
        Ok(Self::with_tls(settings, Tls::new()?))
    }

    /// Trusts what `tls` trusts.
    pub fn with_tls(settings: &config::Smtp, tls: Tls) -> Self {
        let metrics = Metrics::register();
        Self {
            settings: RwLock::new(Arc::new(settings.clone())),
            tls,
            pool: Pool::new(settings.max_connections, settings.idle_timeout, metrics.clone()),
            broken_tls: HostMemory::default(),
            breakers: None,
            lost_behind: HostMemory::default(),
            unanswering: HostMemory::default(),
            metrics,
            tally: Arc::default(),
        }
    }

    /// From now on `tally` counts how TLS goes.
    #[must_use]
    pub fn counting(mut self, tally: Arc<Tally>) -> Self {
        self.tally = tally;
        self
    }

    /// Tells `breakers` which hosts answer.
    #[must_use]
    pub fn minding(self, breakers: Arc<Breakers>) -> Self {
        Self { breakers: Some(breakers), ..self }
    }

    /// Takes new settings; mails under way keep theirs.
    pub fn apply(&self, settings: &config::Smtp) {
        self.pool.apply(settings.max_connections, settings.idle_timeout);
        *self.settings.write() = Arc::new(settings.clone());
    }

    /// Begins no more mails and takes leave of all idle connections.
    pub async fn drain(&self) {
        self.pool.drain().await;
    }

    /// Tries the plan's hops in order.
    pub async fn deliver(&self, letter: &Letter, plan: &RoutePlan) -> Delivery {
        self.deliver_while(&|| Ok(()), letter, plan).await
    }

    /// The same; `may_begin` is asked when a connection is at hand and before anything of the
    /// letter but its envelope was said, and may end the attempt.
    pub async fn deliver_while(
        &self,
        may_begin: &(dyn Fn() -> Result<(), Outcome> + Sync),
        letter: &Letter,
        plan: &RoutePlan,
    ) -> Delivery {
        let started = Instant::now();
        let mut trail = Trail {
            route: Some(Arc::clone(&plan.route)),
            source: Some(plan.source.name.as_str().into()),
            notes: Notes::new(traces::are_on()),
            ..Trail::default()
        };
        let ehlo = match EhloName::try_new(&plan.source.ehlo) {
            Ok(ehlo) => ehlo,
            Err(error) => {
                let result = Err(Outcome::Unreached(of_our_source(error.to_string())));
                return Delivery { trail, result, takes_next: false };
            }
        };
        let (settings, dead) = (Arc::clone(&self.settings.read()), Vec::new());
        let mut attempt =
            Attempt { may_begin, letter, plan, ehlo, settings, dead, takes_next: false };
        let result = self.try_hops(&mut attempt, &mut trail).await;
        trail.took = started.elapsed();
        Delivery { trail, result, takes_next: attempt.takes_next }
    }

    async fn try_hops(
        &self,
        attempt: &mut Attempt<'_>,
        trail: &mut Trail,
    ) -> Result<Receipt, Outcome> {
        let mut worst = None;
        for (at, hop) in attempt.plan.hops.iter().enumerate() {
            if attempt.dead.contains(&hop.address) {
                continue;
            }
            let spare = attempt.plan.hops.get(at + 1).filter(|next| next.host == hop.host);
            match self.try_hop(attempt, hop, spare, trail).await {
                Ok(receipt) => return Ok(receipt),
                Err(Ended::Stop(outcome)) => return Err(outcome),
                // One host that may do better later outweighs one that never will.
                Err(Ended::NextHop(outcome)) => {
                    if worst.is_none() || is_passing(&outcome) {
                        worst = Some(outcome);
                    }
                }
            }
        }
        Err(worst.unwrap_or_else(|| {
            Outcome::Unreached(classify(Stage::Resolve, Cause::Dns("no host to try".into())))
        }))
    }

    /// Tries one hop; `spare` is another address of the same host, for when the first does
    /// not answer at once.
    async fn try_hop(
        &self,
        attempt: &mut Attempt<'_>,
        mut hop: &Hop,
        spare: Option<&Hop>,
        trail: &mut Trail,
    ) -> Result<Receipt, Ended> {
        note_hop(trail, hop);
        let key = Key::new(&attempt.plan.source, hop);
        let mut lent = match self.pool.lend(key, hop.max_connections, attempt.letter).await {
            Ok(Loan::Parked(lent) | Loan::Begun(lent)) => *lent,
            Ok(Loan::Fresh(leave)) => {
                let (lent, won) = self.open_either(attempt, leave, hop, spare).await?;
                hop = won.map_or(hop, |spare| spare);
                lent
            }
            Err(unavailable) => return Err(Ended::Stop(postponed(unavailable))),
        };
        note_hop(trail, hop);
        if let Err(outcome) = (attempt.may_begin)() {
            lent.park(hop.messages_per_connection);
            return Err(Ended::Stop(outcome));
        }
        loop {
            trail.tls = lent.tls().cloned();
            if let Some(verdict) = unfit(lent.capabilities(), attempt.letter) {
                lent.park(hop.messages_per_connection);
                return Err(Ended::Stop(Outcome::Refused(verdict)));
            }
            let begun = lent.has_begun();
            let (carried, hand) = self.carry_and_take_along(attempt, hop, &mut lent).await;
            trail.notes.take_from(lent.notes());
            if begun && was_lost_behind(&carried) {
                // It would go on losing them: from now on one after the other.
                self.lost_behind.remember(hop.address);
                self.metrics.behind_lost.increment(1);
                lent = self.open(attempt, lent.discard(), hop).await?;
                continue;
            }
            if lent.is_reused() && went_stale(&carried) {
                lent = self.open(attempt, lent.discard(), hop).await?;
                continue;
            }
            match hand {
                Some(hand) if lent.has_begun() => {
                    self.metrics.behind_used.increment(1);
                    lent.hand_over(hand);
                }
                _ => lent.park(hop.messages_per_connection),
            }
            return ending(carried);
        }
    }

    /// Carries the letter, and takes the first in the line along if that is possible.
    async fn carry_and_take_along(
        &self,
        attempt: &mut Attempt<'_>,
        hop: &Hop,
        lent: &mut Lent,
    ) -> (Carried, Option<Hand>) {
        let may = attempt.settings.envelope_behind_body && !self.lost_behind.knows(hop.address);
        let (waiting, most) = (lent.waiting(), hop.messages_per_connection);
        let (mut hand, takes_next) = (None, &mut attempt.takes_next);
        let mut take_along = |connection: &Connection| {
            if !may || !session::may_take_along(connection, most) {
                return None;
            }
            *takes_next = true;
            let offered = connection.capabilities();
            let (next, its) =
                waiting.take_first(|letter| session::may_be_taken_along(offered, letter))?;
            let envelope = session::envelope(offered, &next).ok()?;
            hand = Some(its);
            Some(envelope)
        };
        let carried = carry(lent, attempt.letter, &attempt.settings, &mut take_along).await;
        (carried, hand)
    }
}

fn note_hop(trail: &mut Trail, hop: &Hop) {
    trail.host = Some(Arc::clone(&hop.host));
    trail.peer = Some(hop.address.ip());
    trail.tls = None;
}

fn not_opened(failure: OpenFailure) -> Ended {
    by_reach(classify(failure.stage, failure.cause))
}

/// Whether a peer that offers PIPELINING seems to have dropped or garbled an envelope that
/// came behind a body. Nothing of the letter was accepted.
fn was_lost_behind(carried: &Carried) -> bool {
    match carried {
        Carried::Lost { mail_was_answered, cause, .. } => {
            !mail_was_answered && matches!(cause, Cause::Timeout)
        }
        Carried::Refused(Stage::Mail | Stage::Rcpt | Stage::Data, reply) => {
            matches!(reply.code, 500 | 503)
        }
        _ => false,
    }
}

/// Whether a connection had died in the pool or was used up: nothing of this letter was
/// accepted, and a fresh connection to the same host may take it.
fn went_stale(carried: &Carried) -> bool {
    match carried {
        Carried::Lost { mail_was_answered, cause, .. } => {
            !mail_was_answered && matches!(cause, Cause::Connection(_) | Cause::Protocol(_))
        }
        Carried::Refused(Stage::Mail, reply) => {
            let verdict = classify(Stage::Mail, Cause::Reply(reply.clone()));
            verdict.finality == Finality::Passing && may_do_better_elsewhere(&verdict)
        }
        _ => false,
    }
}

fn ending(carried: Carried) -> Result<Receipt, Ended> {
    Err(match carried {
        Carried::Accepted(reply) => return Ok(Receipt { reply }),
        Carried::Refused(stage, reply) => by_reach(classify(stage, Cause::Reply(reply))),
        Carried::Lost { stage, cause, .. } => by_reach(classify(stage, cause)),
        Carried::Doubtful(cause) => Ended::Stop(Outcome::Doubtful(classify(Stage::Dot, cause))),
        Carried::Unsayable(error) => Ended::Stop(Outcome::Malformed { reason: error.to_string() }),
    })
}

fn by_reach(verdict: Verdict) -> Ended {
    let try_next = may_do_better_elsewhere(&verdict);
    let outcome = match verdict.cause {
        Cause::Reply(_) | Cause::Capability(_) => Outcome::Refused(verdict),
        _ => Outcome::Unreached(verdict),
    };
    if try_next { Ended::NextHop(outcome) } else { Ended::Stop(outcome) }
}

fn may_do_better_elsewhere(verdict: &Verdict) -> bool {
    matches!(verdict.reach, Reach::Host | Reach::Session)
}

fn is_passing(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Refused(verdict) | Outcome::Unreached(verdict) => {
            verdict.finality == Finality::Passing
        }
        _ => true,
    }
}

fn postponed(unavailable: Unavailable) -> Outcome {
    let reason = match unavailable {
        Unavailable::Busy => WaitReason::Connections,
        Unavailable::Draining => WaitReason::Shutdown,
    };
    Outcome::Postponed { delay: PATIENCE, reason }
}

fn of_our_source(text: String) -> Verdict {
    let verdict = classify(Stage::Ehlo, Cause::Capability(text));
    Verdict { class: Class::Configuration, reach: Reach::Source, ..verdict }
}
