//! Step: which of its lane's ways does this delivery take? And what its end tells of that way.
//!
//! A route that is out is not begun: the delivery takes another one, or waits unspent. Whoever
//! finds out that a route is out, and knows that nothing was taken there, hands its delivery
//! back unspent too if another can take over. What may have been taken stays with the route that
//! may have it, for as long as its stream says (docs/adr/0018).

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::aside::Aside;
use super::pipeline::Claim;
use crate::domain::outcome::{Outcome, WaitReason};
use crate::domain::receipt::Receipt;
use crate::queue::job::Job;
use crate::route::choice::{Loyalty, NoWay, RouteChoice};
use crate::route::health::Change;

/// What is held back is not looked at again before this.
const HELD: Duration = Duration::from_secs(2);

/// The way for a claimed delivery. `doubt_wait`: how long one in doubt stays with its route.
pub fn choose(
    claim: &Claim,
    aside: &Aside,
    doubt_wait: Duration,
) -> Result<Arc<RouteChoice>, Outcome> {
    let loyalty = loyalty(&claim.job, doubt_wait);
    claim.choice.for_delivery(claim.job.id, loyalty).map_err(|no_way| match no_way {
        NoWay::Out(shut) => Outcome::Postponed {
            // Spread, so that what waited for a route does not come back to it as one wave.
            delay: shut.wait.mul_f64(1.0 + rand::random::<f64>()),
            reason: WaitReason::RouteOut,
        },
        NoWay::Held => {
            let route = match loyalty {
                Loyalty::Bound(Some(route)) => route.into(),
                _ => Arc::clone(claim.choice.share_of(claim.job.id)),
            };
            let delay = aside.wait(&route, HELD, rand::random(), Instant::now());
            Outcome::Postponed { delay, reason: WaitReason::Paused }
        }
    })
}

/// Takes in how an attempt by `way` ended.
pub fn learn(
    claim: &Claim,
    way: &RouteChoice,
    doubt_wait: Duration,
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
    let free = loyalty(&claim.job, doubt_wait) == Loyalty::Free;
    if out && untaken && free && claim.choice.has_another_than(way) {
        return Err(Outcome::Postponed { delay: Duration::ZERO, reason: WaitReason::RouteOut });
    }
    result
}

fn loyalty(job: &Job, doubt_wait: Duration) -> Loyalty<'_> {
    match &job.doubt {
        _ if !job.suspect => Loyalty::Free,
        Some(doubt) if doubt.age >= doubt_wait => Loyalty::Free,
        doubt => Loyalty::Bound(doubt.as_ref().and_then(|doubt| doubt.route.as_deref())),
    }
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
