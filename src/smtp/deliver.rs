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
//! costs the letter nothing. Pace, retry and suppression are decided by others.

use std::sync::Arc;

use parking_lot::RwLock;
use tokio::time::Instant;

use super::broken_tls::BrokenTls;
use super::classify::classify;
use super::command::EhloName;
use super::connection::Connection;
use super::metrics::Metrics;
use super::open::{OpenFailure, Opening};
use super::pool::{Key, Leave, Lent, Loan, PATIENCE, Pool, Unavailable};
use super::session::{Carried, carry, unfit};
use super::tls::{Tls, TlsFault};
use crate::config::{self, TlsMode};
use crate::domain::outcome::{Outcome, WaitReason};
use crate::domain::receipt::{Receipt, Trail};
use crate::domain::verdict::{Cause, Class, Finality, Reach, Stage, Verdict};
use crate::message::letter::Letter;
use crate::route::plan::{Hop, RoutePlan};
use crate::throttle::breaker::{Breakers, Spot};

/// The SMTP carrier; one for the whole daemon.
pub struct Smtp {
    settings: RwLock<Arc<config::Smtp>>,
    tls: Tls,
    pool: Pool,
    broken_tls: BrokenTls,
    breakers: Option<Arc<Breakers>>,
    metrics: Metrics,
}

/// One attempt, ended.
#[derive(Debug)]
pub struct Delivery {
    /// Which way it went, as far as it came.
    pub trail: Trail,
    /// The receipt, or how else it ended.
    pub result: Result<Receipt, Outcome>,
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
            broken_tls: BrokenTls::default(),
            breakers: None,
            metrics,
        }
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

    /// The same; `may_begin` is asked when a connection is at hand and nothing of the letter
    /// was said, and may end the attempt.
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
            ..Trail::default()
        };
        let result = self.try_hops(may_begin, letter, plan, &mut trail).await;
        trail.took = started.elapsed();
        Delivery { trail, result }
    }

    async fn try_hops(
        &self,
        may_begin: &(dyn Fn() -> Result<(), Outcome> + Sync),
        letter: &Letter,
        plan: &RoutePlan,
        trail: &mut Trail,
    ) -> Result<Receipt, Outcome> {
        let ehlo = EhloName::try_new(&plan.source.ehlo)
            .map_err(|error| Outcome::Unreached(of_our_source(error.to_string())))?;
        let mut worst = None;
        for hop in &plan.hops {
            trail.host = Some(Arc::clone(&hop.host));
            trail.peer = Some(hop.address.ip());
            trail.tls = None;
            match self.try_hop(may_begin, letter, plan, hop, &ehlo, trail).await {
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

    async fn try_hop(
        &self,
        may_begin: &(dyn Fn() -> Result<(), Outcome> + Sync),
        letter: &Letter,
        plan: &RoutePlan,
        hop: &Hop,
        ehlo: &EhloName,
        trail: &mut Trail,
    ) -> Result<Receipt, Ended> {
        let settings = Arc::clone(&self.settings.read());
        let key = Key::new(&plan.source, hop);
        let mut lent = match self.pool.lend(key, hop.max_connections).await {
            Ok(Loan::Parked(lent)) => *lent,
            Ok(Loan::Fresh(leave)) => self.open(leave, plan, hop, ehlo, &settings).await?,
            Err(unavailable) => return Err(Ended::Stop(postponed(unavailable))),
        };
        if let Err(outcome) = may_begin() {
            lent.park(hop.messages_per_connection);
            return Err(Ended::Stop(outcome));
        }
        loop {
            trail.tls = lent.tls().cloned();
            if let Some(verdict) = unfit(lent.capabilities(), letter) {
                lent.park(hop.messages_per_connection);
                return Err(Ended::Stop(Outcome::Refused(verdict)));
            }
            let carried = carry(&mut lent, letter, &settings).await;
            if lent.is_reused() && went_stale(&carried) {
                lent = self.open(lent.discard(), plan, hop, ehlo, &settings).await?;
                continue;
            }
            lent.park(hop.messages_per_connection);
            return ending(carried);
        }
    }

    async fn open(
        &self,
        leave: Leave,
        plan: &RoutePlan,
        hop: &Hop,
        ehlo: &EhloName,
        settings: &config::Smtp,
    ) -> Result<Lent, Ended> {
        let may_fall_back = hop.tls == TlsMode::Opportunistic;
        let in_clear = may_fall_back && self.broken_tls.knows(hop.address);
        let opening = Opening {
            hop,
            source: &plan.source,
            ehlo,
            tls_mode: if in_clear { TlsMode::None } else { hop.tls },
            tls: &self.tls,
            limits: settings,
            metrics: &self.metrics,
        };
        let opened = match Connection::open(opening).await {
            Err(failure) if failure.tls_is_broken && may_fall_back && !in_clear => {
                self.broken_tls.remember(hop.address);
                self.metrics.tls_fallback.increment(1);
                Connection::open(Opening { tls_mode: TlsMode::None, ..opening }).await
            }
            opened => opened,
        };
        self.mind(hop, opened.as_ref().err());
        match opened {
            Ok(connection) => {
                self.metrics.opened.increment(1);
                if connection.tls().is_some() {
                    self.metrics.tls.increment(1);
                }
                Ok(leave.fill(connection))
            }
            Err(failure) => {
                self.metrics.failed.increment(1);
                Err(not_opened(failure))
            }
        }
    }
}

impl Smtp {
    /// A host that cannot be reached or sends everybody away is told to the breakers; what
    /// goes wrong behind the greeting is a matter between it and us.
    fn mind(&self, hop: &Hop, failure: Option<&OpenFailure>) {
        let Some(breakers) = &self.breakers else { return };
        let spot = Spot::Host(hop.address);
        match failure {
            None => breakers.worked(&spot),
            Some(failure) if failure.stage <= Stage::Ehlo => {
                breakers.failed(&spot, &format!("{} at {}", failure.cause, failure.stage));
            }
            Some(_) => {}
        }
    }
}

fn not_opened(failure: OpenFailure) -> Ended {
    by_reach(classify(failure.stage, failure.cause))
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
