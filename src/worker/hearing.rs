//! What a reply means for what is sent next: pace, breakers, connections, and what is unknown.
//!
//! Before a letter is handed to the carrier, hosts that are left alone are taken out of its
//! plan; afterwards whoever the reply blames is told. Pace itself is the throttle's matter,
//! the retry of the letter the queue's.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::counter;
use parking_lot::{Mutex, RwLock};

use super::blame::{asked, blamed, paced};
use crate::config::{RouteKind, Settings};
use crate::domain::outcome::{Outcome, WaitReason};
use crate::domain::receipt::{Receipt, Trail};
use crate::domain::ruling::{Blame, Orders};
use crate::domain::verdict::{Cause, Class, Finality, Reach, Stage, Verdict};
use crate::queue::lane::Lane;
use crate::reply::shape;
use crate::reply::unknown::Unknowns;
use crate::route::plan::RoutePlan;
use crate::throttle::breaker::{Blocked, Breakers, Pass};
use crate::throttle::key::Plan;
use crate::throttle::pace::Asked;
use crate::throttle::pacing::Paces;

/// Domains remembered for a blocked host.
const DOMAINS: usize = 16;

/// Hosts for which something is remembered.
const HOSTS: usize = 10_000;

/// How long a host without a mailbox provider's name rests that asks for less.
const REST: Duration = Duration::from_secs(30);

/// Characters of a reply that are kept for people.
const REPLY: usize = 160;

/// Hears what comes of deliveries; one for the process.
#[derive(Debug)]
pub struct Hearing {
    /// What is shared with the other replicas.
    pub paces: Arc<Paces>,
    /// What does not answer.
    pub breakers: Arc<Breakers>,
    /// What no rule knows.
    pub unknown: Arc<Unknowns>,
    /// Routes that lead to one peer.
    single: RwLock<Vec<String>>,
    /// Mails for each connection, by host, until then.
    caps: Mutex<HashMap<Arc<str>, (u32, Instant)>>,
    /// Of blocked hosts: the name, and whose mail was put back.
    behind: Mutex<HashMap<SocketAddr, Behind>>,
}

/// What waits for a blocked host.
#[derive(Debug, Clone, Default)]
pub struct Behind {
    /// The host's name.
    pub host: String,
    /// Recipients' domains, the latest last.
    pub domains: Vec<String>,
}

/// Leave to try the hosts of a plan; held while it is tried.
#[derive(Debug, Default)]
pub struct Cleared {
    passes: Vec<Pass>,
}

impl Hearing {
    /// Hears for these parts.
    pub fn new(settings: &Settings, breakers: Arc<Breakers>) -> Self {
        let hearing = Self {
            paces: Arc::new(Paces::new(&settings.adaptive)),
            breakers,
            unknown: Arc::default(),
            single: RwLock::default(),
            caps: Mutex::default(),
            behind: Mutex::default(),
        };
        hearing.apply(settings);
        hearing
    }

    /// Takes over changed settings.
    pub fn apply(&self, settings: &Settings) {
        self.paces.apply(&settings.adaptive);
        self.breakers.apply(&settings.adaptive);
        let single = |kind: &RouteKind| !matches!(kind, RouteKind::Mx { .. });
        let routes = settings.routes.iter().filter(|route| single(&route.kind));
        *self.single.write() = routes.map(|route| route.name.clone()).collect();
        let spared = settings.routes.iter().filter(|route| route.fallback.is_some());
        let divided = settings.rules.iter().filter(|rule| rule.split.len() > 1);
        let divided = divided.flat_map(|rule| rule.split.iter().map(|share| &share.route));
        self.breakers.spare(spared.map(|route| &route.name).chain(divided).cloned().collect());
    }

    /// Takes out of the plan what is left alone now, or puts the letter back untouched.
    pub fn clear(&self, plan: &mut RoutePlan, domain: &str) -> Result<Cleared, Outcome> {
        let mut cleared = Cleared::default();
        if self.single.read().iter().any(|name| **name == *plan.route) {
            self.breakers.leads_to(&plan.route, plan.hops.iter().map(|hop| hop.address));
        }
        let mut first = None;
        plan.hops.retain(|hop| match self.breakers.pass(hop.address) {
            Ok(pass) => {
                cleared.passes.push(pass);
                true
            }
            Err(blocked) => {
                let sooner = |(known, _): &(Blocked, Arc<str>)| blocked.wait < known.wait;
                if first.as_ref().is_none_or(sooner) {
                    first = Some((blocked, Arc::clone(&hop.host)));
                }
                false
            }
        });
        if let Some((blocked, host)) = first.filter(|_| plan.hops.is_empty()) {
            return Err(self.put_back(&blocked, &host, domain));
        }
        let mut caps = self.caps.lock();
        if !caps.is_empty() {
            caps.retain(|_, (_, until)| *until > Instant::now());
            for hop in &mut plan.hops {
                if let Some((cap, _)) = caps.get(&hop.host) {
                    hop.messages_per_connection = hop.messages_per_connection.min(*cap);
                }
            }
        }
        Ok(cleared)
    }

    /// Hears how an attempt ended. What only met a host that is left alone by now is put back
    /// untouched, unless it was sent to find out.
    pub fn heard(
        &self,
        lane: &Lane,
        plan: &RoutePlan,
        cleared: &Cleared,
        trail: &Trail,
        ended: Result<Receipt, Outcome>,
    ) -> Result<Receipt, Outcome> {
        let keys = Plan {
            tenant: Arc::clone(&lane.tenant_name),
            mailbox_provider: plan.mailbox_provider.clone(),
            source: Arc::from(plan.source.name.as_str()),
            route: Arc::clone(&plan.route),
        };
        match &ended {
            Ok(_) => self.worked(plan, &keys, trail),
            Err(Outcome::Refused(verdict) | Outcome::Doubtful(verdict)) => {
                self.refused(plan, &keys, trail, verdict);
            }
            Err(Outcome::Unreached(verdict)) => {
                self.refused(plan, &keys, trail, verdict);
                if verdict.stage <= Stage::Ehlo && !cleared.is_probe() {
                    let hosts = plan.hops.iter().map(|hop| hop.address);
                    let blocked: Option<Vec<Blocked>> =
                        hosts.map(|host| self.breakers.pass(host).err()).collect();
                    let first = blocked.into_iter().flatten().min_by_key(|one| one.wait);
                    if let Some(first) = first {
                        let host = trail.host.as_deref().unwrap_or_default();
                        return Err(self.put_back(&first, host, ""));
                    }
                }
            }
            Err(_) => {}
        }
        ended
    }

    /// Whose mail waits for a host.
    pub fn behind(&self, host: SocketAddr) -> Behind {
        self.behind.lock().get(&host).cloned().unwrap_or_default()
    }

    /// Forgets what waited for hosts that are passing again.
    pub fn forget_but(&self, hosts: &[SocketAddr]) {
        self.behind.lock().retain(|host, _| hosts.contains(host));
    }

    fn put_back(&self, blocked: &Blocked, host: &str, domain: &str) -> Outcome {
        let mut behind = self.behind.lock();
        if behind.len() < HOSTS || behind.contains_key(&blocked.host) {
            let one = behind.entry(blocked.host).or_default();
            host.clone_into(&mut one.host);
            if !domain.is_empty() && !one.domains.iter().any(|known| known == domain) {
                if one.domains.len() >= DOMAINS {
                    one.domains.remove(0);
                }
                one.domains.push(domain.to_owned());
            }
        }
        Outcome::Postponed { delay: blocked.wait, reason: WaitReason::Breaker }
    }

    /// A host took a letter, or answered about it as a host does.
    fn worked(&self, plan: &RoutePlan, keys: &Plan, trail: &Trail) {
        self.answered(plan, trail);
        self.paces.passed(&paced(keys), trail.took);
    }

    fn answered(&self, plan: &RoutePlan, trail: &Trail) {
        let asked = plan.hops.iter().find(|hop| Some(hop.address.ip()) == trail.peer);
        if let Some(hop) = asked {
            self.breakers.worked(hop.address);
        }
    }

    pub(super) fn refused(&self, plan: &RoutePlan, keys: &Plan, trail: &Trail, verdict: &Verdict) {
        let said = shape::redacted(&verdict.cause.to_string(), REPLY);
        let Some(ruling) = &verdict.ruling else {
            self.without_rule(plan, keys, trail, verdict, said);
            return;
        };
        if ruling.orders.alert {
            counter!("postrider_reply_alerts_total", "rule" => ruling.rule.to_string())
                .increment(1);
            tracing::warn!(
                rule = &*ruling.rule,
                mailbox_provider = keys.mailbox_provider.as_str(),
                source = &*keys.source,
                tenant = &*keys.tenant,
                identity = ruling.identity.as_deref(),
                reply = said,
                "a receiver's reply needs somebody's attention"
            );
        }
        self.cap_messages(trail, &ruling.orders);
        let closes = matches!(&verdict.cause, Cause::Reply(reply) if reply.code == 421);
        if verdict.stage >= Stage::Mail && !closes {
            self.answered(plan, trail);
        }
        if ruling.orders.touch_pace() {
            let asked = asked(&ruling.orders, &ruling.rule, &said);
            self.slow_down(ruling.blame, plan, keys, trail, verdict, asked);
        } else {
            self.deferred(keys, trail, verdict, ruling.blame);
        }
    }

    /// No rule knows it, or it is no reply of SMTP.
    fn without_rule(
        &self,
        plan: &RoutePlan,
        keys: &Plan,
        trail: &Trail,
        verdict: &Verdict,
        said: String,
    ) {
        let is_reply = match &verdict.cause {
            Cause::Reply(reply) => {
                self.unknown.note(verdict.stage, reply);
                true
            }
            _ => false,
        };
        if verdict.class == Class::Throttled {
            let of_route = matches!(verdict.reach, Reach::Destination | Reach::Route);
            let blame = if of_route { Blame::Route } else { Blame::Source };
            let asked = Asked { slow: true, reply: said, ..Asked::default() };
            self.slow_down(Some(blame), plan, keys, trail, verdict, asked);
        } else if is_reply {
            self.deferred(keys, trail, verdict, None);
        }
    }

    fn slow_down(
        &self,
        blame: Option<Blame>,
        plan: &RoutePlan,
        keys: &Plan,
        trail: &Trail,
        verdict: &Verdict,
        asked: Asked,
    ) {
        match blame.and_then(|blame| blamed(blame, keys)) {
            Some(key) => self.paces.refused(&key, trail.took, Some(asked)),
            // Nobody knows what else this host serves: it alone rests.
            None => self.rest(plan, trail, verdict, &asked.reply),
        }
    }

    /// A deferral without a word about the pace counts where it is about us.
    fn deferred(&self, keys: &Plan, trail: &Trail, verdict: &Verdict, blame: Option<Blame>) {
        let about_us = matches!(
            blame,
            None | Some(
                Blame::Host
                    | Blame::Source
                    | Blame::MailboxProvider
                    | Blame::Route
                    | Blame::Identity
            )
        );
        let counts = verdict.finality == Finality::Passing
            && verdict.stage >= Stage::Mail
            && about_us
            && matches!(
                verdict.class,
                Class::Throttled | Class::Policy | Class::Transient | Class::Unknown
            );
        if counts {
            let blame = blame.filter(|blame| *blame != Blame::Host).unwrap_or(Blame::Source);
            if let Some(key) = blamed(blame, keys) {
                self.paces.refused(&key, trail.took, None);
            }
        } else if verdict.stage >= Stage::Mail && verdict.finality == Finality::Final {
            // It answered at the pace it was asked; what it said is another matter.
            self.paces.passed(&paced(keys), trail.took);
        }
    }

    fn rest(&self, plan: &RoutePlan, trail: &Trail, verdict: &Verdict, reply: &str) {
        let hop = plan.hops.iter().find(|hop| Some(hop.address.ip()) == trail.peer);
        let Some(hop) = hop else { return };
        let ordered = verdict.ruling.as_ref().and_then(|ruling| ruling.orders.suspend);
        let time = ordered.unwrap_or(REST).max(verdict.retry_after.unwrap_or_default());
        self.breakers.rest(hop.address, time, reply);
    }

    fn cap_messages(&self, trail: &Trail, orders: &Orders) {
        let (Some(cap), Some(host)) = (orders.messages_per_connection, &trail.host) else { return };
        let mut caps = self.caps.lock();
        if caps.len() < HOSTS {
            caps.insert(Arc::clone(host), (cap, Instant::now() + orders.lasts));
        }
    }
}

impl Cleared {
    /// Whether this try is to find out if a host answers again.
    pub fn is_probe(&self) -> bool {
        self.passes.iter().any(Pass::is_held)
    }
}
