//! Step: which of its lane's ways does this delivery take? And what its end tells of that way.
//!
//! A route that is out is not begun: the delivery takes another one, or waits unspent. Whoever
//! finds out that a route is out, and knows that nothing was taken there, hands its delivery
//! back unspent too if another can take over. What may have been taken is never handed over.

use std::sync::Arc;
use std::time::Duration;

use super::pipeline::Claim;
use crate::domain::outcome::{Outcome, WaitReason};
use crate::domain::receipt::Receipt;
use crate::queue::job::Job;
use crate::route::choice::{Loyalty, RouteChoice};
use crate::route::health::Change;

/// The way for a claimed delivery.
pub fn choose(claim: &Claim) -> Result<Arc<RouteChoice>, Outcome> {
    let loyalty = loyalty(&claim.job);
    claim.choice.for_delivery(claim.job.id, loyalty).map_err(|shut| Outcome::Postponed {
        // Spread, so that what waited for a route does not come back to it as one wave.
        delay: shut.wait.mul_f64(1.0 + rand::random::<f64>()),
        reason: WaitReason::RouteOut,
    })
}

/// Takes in how an attempt by `way` ended.
pub fn learn(
    claim: &Claim,
    way: &RouteChoice,
    result: Result<Receipt, Outcome>,
) -> Result<Receipt, Outcome> {
    let Some(health) = way.health().filter(|_| claim.choice.minds(way)) else { return result };
    if let Some(change) = health.note(&result, rand::random()) {
        report(way, change);
    }
    let untaken = match &result {
        Err(Outcome::Refused(verdict) | Outcome::Unreached(verdict)) => verdict.blames_route(),
        Err(Outcome::Postponed { reason, .. }) => *reason == WaitReason::Breaker,
        _ => false,
    };
    let out = health.shut().is_some_and(|shut| shut.reason.lets_another_take_over());
    let free = loyalty(&claim.job) == Loyalty::Free;
    if out && untaken && free && claim.choice.has_another_than(way) {
        return Err(Outcome::Postponed { delay: Duration::ZERO, reason: WaitReason::RouteOut });
    }
    result
}

fn loyalty(job: &Job) -> Loyalty {
    if job.suspect { Loyalty::Bound } else { Loyalty::Free }
}

/// Routes go out seldom, and an operator has to know.
fn report(way: &RouteChoice, change: Change) {
    let route = &*way.route;
    match change {
        Change::Out(reason) => {
            tracing::error!(route, reason = reason.as_str(), "a route is out");
            super::metrics::route_out(route, reason);
        }
        Change::In => {
            tracing::info!(route, "a route is in use again");
            super::metrics::route_in(route);
        }
    }
}
