//! From how an attempt ended to what is written (pure).
//!
//! The only place that turns an outcome into a settlement. Waiting is not
//! failing: a postponed delivery gets its attempt back.

use std::time::Duration;

use super::job::Job;
use super::settle::{DeadReason, Ending, Settlement};
use crate::domain::backoff::Backoff;
use crate::domain::outcome::Outcome;
use crate::domain::receipt::Trail;
use crate::domain::verdict::{Finality, Verdict};

/// How a stream wants its deliveries retried.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryPolicy {
    /// Waits between tries.
    pub backoff: Backoff,
    /// Longest wait that a peer may ask for.
    pub longest_hint: Duration,
    /// What becomes of a delivery that may have been taken already.
    pub on_doubt: OnDoubt,
    /// How long such a delivery waits for the route that may have taken it, before another may.
    pub doubt_wait: Duration,
    /// Crashes after which a delivery becomes a dead letter.
    pub max_crashes: u16,
}

/// What becomes of a delivery in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDoubt {
    /// Send again, flagged, with the same Message-ID: a duplicate is possible.
    Resend,
    /// Keep it as a dead letter until someone decides: a loss is possible.
    Hold,
}

/// What is to be written for `job`, whose attempt left `trail` and ended in `outcome`.
/// `draw` is even in 0..1 and spreads the retries.
pub fn decide(
    job: &Job,
    outcome: &Outcome,
    trail: &Trail,
    policy: &RetryPolicy,
    draw: f64,
) -> Settlement {
    let tried = u32::from(job.attempt);
    let ending = match outcome {
        Outcome::Delivered(_) => Ending::Delivered,
        Outcome::Refused(verdict) | Outcome::Unreached(verdict) => match verdict.finality {
            Finality::Final => Ending::Bounced { condemned: verdict.condemns_address() },
            Finality::Passing => {
                Ending::Deferred { delay: delay(verdict, tried, policy, draw), in_doubt: false }
            }
        },
        Outcome::Doubtful(verdict) => match policy.on_doubt {
            OnDoubt::Resend => {
                Ending::Deferred { delay: delay(verdict, tried, policy, draw), in_doubt: true }
            }
            OnDoubt::Hold => Ending::Dead(DeadReason::Doubt),
        },
        Outcome::Postponed { delay, .. } => Ending::Released { delay: *delay },
        Outcome::Suppressed => Ending::Suppressed,
        Outcome::Expired => Ending::Expired,
        Outcome::Cancelled => Ending::Cancelled,
        Outcome::Learned(learned) => Ending::Learned { delivered: learned.delivered },
        Outcome::Malformed { .. } => Ending::Dead(DeadReason::Malformed),
        Outcome::Crashed { .. } if job.attempt >= policy.max_crashes => {
            Ending::Dead(DeadReason::Crashed)
        }
        // Nobody knows how far the task came.
        Outcome::Crashed { .. } if policy.on_doubt == OnDoubt::Hold => {
            Ending::Dead(DeadReason::Doubt)
        }
        Outcome::Crashed { .. } => {
            Ending::Deferred { delay: policy.backoff.delay(tried, draw), in_doubt: true }
        }
    };
    Settlement::new(job, ending, outcome, trail)
}

fn delay(verdict: &Verdict, tried: u32, policy: &RetryPolicy, draw: f64) -> Duration {
    let own = policy.backoff.delay(tried, draw);
    // The peer's wish is a floor within bounds, spread upwards so that the mails it
    // was said to do not come back together.
    verdict.retry_after.map_or(own, |wish| {
        let wish = wish.min(policy.longest_hint);
        own.max(wish.mul_f64(1.0 + 0.1 * draw))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{DeliveryId, Hold, LaneId, MessageId, TenantId};
    use crate::domain::outcome::{Learned, WaitReason};
    use crate::domain::receipt::Receipt;
    use crate::domain::verdict::{Cause, Class, PeerReply, Reach, Stage};
    use crate::queue::Generation;
    use crate::queue::settle::Kind;
    use std::time::Instant;

    fn job(attempt: u16) -> Job {
        Job {
            id: DeliveryId::new(1),
            message: MessageId::new(1),
            tenant: TenantId::new(1),
            lane: LaneId::new(1),
            generation: Generation::try_new(0).expect("a generation"),
            hold: Hold::new(3),
            attempt,
            suspect: false,
            doubt: None,
            bar: None,
            recipient: "a@example.org".into(),
            listed: "a@example.org".into(),
            payload: None,
            waited: Duration::ZERO,
            claimed_at: Instant::now(),
        }
    }

    fn policy(on_doubt: OnDoubt) -> RetryPolicy {
        RetryPolicy {
            backoff: Backoff::try_new(Duration::from_secs(60), 2.0, Duration::from_secs(3600))
                .expect("valid"),
            longest_hint: Duration::from_secs(600),
            on_doubt,
            doubt_wait: Duration::from_secs(3600),
            max_crashes: 3,
        }
    }

    fn verdict(finality: Finality, class: Class, retry_after: Option<u64>) -> Verdict {
        Verdict {
            stage: Stage::Rcpt,
            cause: Cause::Reply(PeerReply { code: 450, enhanced: None, text: "no".into() }),
            class,
            finality,
            reach: Reach::Recipient,
            retry_after: retry_after.map(Duration::from_secs),
            ruling: None,
        }
    }

    fn ending(attempt: u16, outcome: &Outcome, on_doubt: OnDoubt) -> Ending {
        decide(&job(attempt), outcome, &Trail::default(), &policy(on_doubt), 1.0).ending
    }

    #[test]
    fn every_outcome_has_its_settlement() {
        use Finality::{Final, Passing};
        let receipt =
            Receipt { reply: PeerReply { code: 250, enhanced: None, text: String::new() } };
        let minute = Duration::from_secs(60);
        let table: Vec<(u16, Outcome, OnDoubt, Ending)> = vec![
            (1, Outcome::Delivered(receipt), OnDoubt::Resend, Ending::Delivered),
            (
                1,
                Outcome::Refused(verdict(Final, Class::AddressBad, None)),
                OnDoubt::Resend,
                Ending::Bounced { condemned: true },
            ),
            (
                1,
                Outcome::Refused(verdict(Final, Class::Policy, None)),
                OnDoubt::Resend,
                Ending::Bounced { condemned: false },
            ),
            (
                1,
                Outcome::Refused(verdict(Passing, Class::AddressBad, None)),
                OnDoubt::Resend,
                Ending::Deferred { delay: minute, in_doubt: false },
            ),
            (
                2,
                Outcome::Unreached(verdict(Passing, Class::Transient, None)),
                OnDoubt::Resend,
                Ending::Deferred { delay: 2 * minute, in_doubt: false },
            ),
            (
                1,
                Outcome::Refused(verdict(Passing, Class::Throttled, Some(500))),
                OnDoubt::Resend,
                Ending::Deferred { delay: Duration::from_secs(550), in_doubt: false },
            ),
            (
                1,
                Outcome::Refused(verdict(Passing, Class::Throttled, Some(90_000))),
                OnDoubt::Resend,
                Ending::Deferred { delay: Duration::from_secs(660), in_doubt: false },
            ),
            (
                1,
                Outcome::Doubtful(verdict(Passing, Class::Transient, None)),
                OnDoubt::Resend,
                Ending::Deferred { delay: minute, in_doubt: true },
            ),
            (
                1,
                Outcome::Doubtful(verdict(Passing, Class::Transient, None)),
                OnDoubt::Hold,
                Ending::Dead(DeadReason::Doubt),
            ),
            (
                1,
                Outcome::Postponed { delay: minute, reason: WaitReason::Rate },
                OnDoubt::Resend,
                Ending::Released { delay: minute },
            ),
            (
                2,
                Outcome::Learned(Learned { delivered: true, code: Some(250), detail: None }),
                OnDoubt::Hold,
                Ending::Learned { delivered: true },
            ),
            (1, Outcome::Suppressed, OnDoubt::Resend, Ending::Suppressed),
            (1, Outcome::Expired, OnDoubt::Resend, Ending::Expired),
            (1, Outcome::Cancelled, OnDoubt::Resend, Ending::Cancelled),
            (
                1,
                Outcome::Malformed { reason: "x".into() },
                OnDoubt::Resend,
                Ending::Dead(DeadReason::Malformed),
            ),
            (
                2,
                Outcome::Crashed { reason: "x".into() },
                OnDoubt::Resend,
                Ending::Deferred { delay: 2 * minute, in_doubt: true },
            ),
            (
                3,
                Outcome::Crashed { reason: "x".into() },
                OnDoubt::Resend,
                Ending::Dead(DeadReason::Crashed),
            ),
        ];
        for (attempt, outcome, on_doubt, expected) in table {
            assert_eq!(ending(attempt, &outcome, on_doubt), expected, "{outcome:?}");
        }
    }

    #[test]
    fn a_settlement_carries_its_claim() {
        let settlement =
            decide(&job(1), &Outcome::Expired, &Trail::default(), &policy(OnDoubt::Hold), 0.0);
        assert_eq!(settlement.hold, Hold::new(3));
        assert_eq!(settlement.ending.kind(), Kind::Expired);
    }
}
