//! Step: may it start now? The permits were taken with the claim; here they are checked
//! against what the plan found, and the session against its trust.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::aside::Aside;
use super::shutdown::Stopping;
use super::writing::Writing;
use crate::domain::outcome::{Outcome, WaitReason};
use crate::queue::lane::Lane;
use crate::queue::session::Session;
use crate::route::choice::RouteChoice;
use crate::route::plan::RoutePlan;
use crate::throttle::gate::{NotYet, Permit};
use crate::throttle::key::Plan;
use crate::throttle::limiter::Limiter;

/// How long a delivery is put off that lacks a permit and was told no time.
const PUT_OFF: Duration = Duration::from_secs(1);

/// How long a delivery in hand waits for such a permit: longer than an exchange of limits
/// takes, as they are not asked for ahead.
const PATIENCE: Duration = Duration::from_millis(300);

/// Whether this process may begin anything at all.
#[derive(Debug, Clone)]
pub struct Ready {
    /// Its right to its leases.
    pub session: Arc<Session>,
    /// Whether it stops.
    pub stopping: Stopping,
    /// Whether an outcome could be written.
    pub writing: Writing,
}

/// Guards the moment before a peer is asked.
#[derive(Debug)]
pub struct Admission {
    /// All limits.
    pub limiter: Arc<Limiter>,
    /// Whether anything may begin.
    pub ready: Ready,
    /// What has no room on its route while others of its lane go by another.
    pub aside: Aside,
}

impl Ready {
    /// Postpones what would begin while the process stops or may have been fenced.
    pub fn check(&self) -> Result<(), Outcome> {
        let postponed = |reason| Outcome::Postponed { delay: Duration::ZERO, reason };
        if self.stopping.is_set() {
            return Err(postponed(WaitReason::Shutdown));
        }
        if !self.session.is_trusted() || !self.writing.is_possible() {
            // Somebody may have fenced us and given this job away, or what came of it could
            // not be recorded: do not begin.
            return Err(postponed(WaitReason::NotReady));
        }
        Ok(())
    }
}

impl Admission {
    /// Exchanges the permit of `from` where a delivery takes another way of its lane. Of a share
    /// of the lane permits were asked for before the claim: if none is left the delivery is put
    /// aside, and only a few wait whether the next exchange of limits brings one.
    pub async fn change_over(
        &self,
        lane: &Lane,
        from: &RouteChoice,
        way: &RouteChoice,
        permit: &mut Permit,
    ) -> Result<(), Outcome> {
        let share = from.is_divided() && from.routes().any(|route| *route == way.route);
        if way.source != from.source || way.route != from.route {
            let keys = Plan {
                tenant: Arc::clone(&lane.tenant_name),
                mailbox_provider: lane.mailbox_provider.clone(),
                source: Arc::clone(&way.source),
                route: Arc::clone(&way.route),
            };
            let patient = if share { self.aside.patient(&way.route, Instant::now()) } else { None };
            let patience = if share && patient.is_none() { Duration::ZERO } else { PATIENCE };
            permit.give_back();
            match self.exchange(&keys, patience).await {
                Ok(fitting) => *permit = fitting,
                Err(none) if share => {
                    let (least, now) = (none.wait.unwrap_or(PUT_OFF), Instant::now());
                    let delay = self.aside.wait(&way.route, least, rand::random(), now);
                    return Err(Outcome::Postponed { delay, reason: none.reason });
                }
                Err(none) => return Err(postponed(none)),
            }
        }
        if share {
            self.aside.had_room(&way.route, Instant::now());
        }
        Ok(())
    }

    /// Lets a planned delivery start, or postpones it. `permit` is exchanged when the MX
    /// showed another mailbox provider than the lane's.
    pub async fn admit(
        &self,
        lane: &Lane,
        plan: &RoutePlan,
        permit: &mut Permit,
    ) -> Result<(), Outcome> {
        self.ready.check()?;
        if plan.mailbox_provider == lane.mailbox_provider {
            return Ok(());
        }
        let keys = Plan {
            tenant: Arc::clone(&lane.tenant_name),
            mailbox_provider: plan.mailbox_provider.clone(),
            source: Arc::from(plan.source.name.as_str()),
            route: Arc::clone(&plan.route),
        };
        permit.give_back();
        *permit = self.exchange(&keys, PATIENCE).await.map_err(postponed)?;
        Ok(())
    }

    /// A permit for `keys`, if there is one within `patience`.
    async fn exchange(&self, keys: &Plan, patience: Duration) -> Result<Permit, NotYet> {
        let gate = self.limiter.gate(keys);
        let give_up = tokio::time::Instant::now() + patience;
        loop {
            let eased = self.limiter.eased();
            tokio::pin!(eased);
            eased.as_mut().enable();
            let mut taken = gate.take(1);
            if let Some(fitting) = taken.permits.pop() {
                return Ok(fitting);
            }
            let now = tokio::time::Instant::now();
            let again = taken.wait.map_or(give_up, |wait| now + wait);
            if now >= give_up || again > give_up {
                let reason = taken.reason().unwrap_or(WaitReason::Concurrency);
                return Err(NotYet { wait: taken.wait, reason });
            }
            tokio::select! {
                () = &mut eased => {}
                () = tokio::time::sleep_until(again) => {}
            }
        }
    }

    /// Exchanges a permit that has grown old while its delivery was held up.
    pub async fn freshen(&self, permit: &mut Permit) -> Result<(), Outcome> {
        let give_up = tokio::time::Instant::now() + PUT_OFF;
        loop {
            let eased = self.limiter.eased();
            tokio::pin!(eased);
            eased.as_mut().enable();
            let Err(not_yet) = permit.freshen() else { return Ok(()) };
            let now = tokio::time::Instant::now();
            let again = not_yet.wait.map_or(give_up, |wait| now + wait);
            if now >= give_up || again > give_up {
                return Err(postponed(not_yet));
            }
            tokio::select! {
                () = &mut eased => {}
                () = tokio::time::sleep_until(again) => {}
            }
        }
    }
}

fn postponed(not_yet: NotYet) -> Outcome {
    Outcome::Postponed { delay: not_yet.wait.unwrap_or(PUT_OFF), reason: not_yet.reason }
}
