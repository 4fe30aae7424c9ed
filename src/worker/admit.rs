//! Step: may it start now? The permits were taken with the claim; here they are checked
//! against what the plan found, and the session against its trust.

use std::sync::Arc;
use std::time::Duration;

use super::shutdown::Stopping;
use super::writing::Writing;
use crate::domain::outcome::{Outcome, WaitReason};
use crate::queue::lane::Lane;
use crate::queue::session::Session;
use crate::route::plan::RoutePlan;
use crate::route::planner::RouteChoice;
use crate::throttle::gate::Permit;
use crate::throttle::key::Plan;
use crate::throttle::limiter::Limiter;

/// How long a delivery waits that lacks a permit of a concurrency limit.
const CONCURRENCY_WAIT: Duration = Duration::from_secs(1);

/// Guards the moment before a peer is asked.
#[derive(Debug)]
pub struct Admission {
    /// All limits.
    pub limiter: Arc<Limiter>,
    /// This process's right to its leases.
    pub session: Arc<Session>,
    /// Whether this process stops.
    pub stopping: Stopping,
    /// Whether an outcome could be written.
    pub writing: Writing,
}

impl Admission {
    /// Lets a planned delivery start, or postpones it. `permit` is exchanged when the MX
    /// showed another mailbox provider than the lane's, or another source was chosen.
    pub fn admit(
        &self,
        lane: &Lane,
        choice: &RouteChoice,
        plan: &RoutePlan,
        permit: &mut Permit,
    ) -> Result<(), Outcome> {
        if self.stopping.is_set() {
            return Err(Outcome::Postponed { delay: Duration::ZERO, reason: WaitReason::Shutdown });
        }
        if !self.session.is_trusted() || !self.writing.is_possible() {
            // Somebody may have fenced us and given this job away, or what came of it could
            // not be recorded: do not begin.
            return Err(Outcome::Postponed { delay: Duration::ZERO, reason: WaitReason::NotReady });
        }
        if plan.mailbox_provider == lane.mailbox_provider && plan.source.name == *choice.source {
            return Ok(());
        }
        let keys = Plan {
            tenant: Arc::clone(&lane.tenant_name),
            mailbox_provider: plan.mailbox_provider.clone(),
            source: Arc::from(plan.source.name.as_str()),
            route: Arc::clone(&plan.route),
        };
        let mut taken = self.limiter.gate(&keys).take(1);
        let Some(fitting) = taken.permits.pop() else {
            let (delay, reason) = match taken.wait {
                Some(wait) => (wait, WaitReason::Rate),
                None => (CONCURRENCY_WAIT, WaitReason::Concurrency),
            };
            return Err(Outcome::Postponed { delay, reason });
        };
        *permit = fitting;
        Ok(())
    }
}
