//! Whether a route with one account behind it (a relay, a provider) can be used (no I/O).
//!
//! What attempts ended in tells it: failures in a row open a breaker, a used-up allowance or a
//! refused login closes the route at once, and who asks to be left alone for a time is. (How
//! fast it is used is the throttle's matter.) While it is out nothing is begun by it, so an outage costs the mails behind it no attempt; when its
//! time has come, one delivery goes as a probe, and only when that went well the others follow.
//! Each process learns by itself: a probe costs less than an agreement.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::domain::outcome::{Outcome, WaitReason};
use crate::domain::receipt::Receipt;
use crate::domain::verdict::{Class, Reach, Stage, Verdict};

/// Failures in a row that open the breaker.
const FAILURES: u32 = 5;

/// A probe that nobody has heard of for so long is not waited for any more.
const PROBE: Duration = Duration::from_secs(120);

/// The state of one route, kept as long as its configuration.
#[derive(Debug, Default)]
pub struct Health {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    out: Option<Out>,
}

#[derive(Debug, Clone, Copy)]
struct Out {
    reason: Reason,
    until: Instant,
    /// Before jitter; the next one is twice as long.
    wait: Duration,
    probe: Probe,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Probe {
    /// Nobody has tried since it went out.
    None,
    /// Somebody tries; another may if nothing is heard until `until`.
    UnderWay,
}

/// Why a route is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// It failed several times in a row.
    Breaker,
    /// An allowance is used up.
    Quota,
    /// It does not know us.
    Login,
    /// It asked to be left alone for a time that it named.
    Pace,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Breaker, Self::Quota, Self::Login, Self::Pace];

    /// The name used in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Breaker => "breaker",
            Self::Quota => "quota",
            Self::Login => "login",
            Self::Pace => "pace",
        }
    }

    /// The first wait and the longest of our own choice.
    const fn waits(self) -> (Duration, Duration) {
        let (first, longest) = match self {
            Self::Breaker => (5, 300),
            Self::Quota => (60, 600),
            Self::Login => (30, 600),
            Self::Pace => (1, 30),
        };
        (Duration::from_secs(first), Duration::from_secs(longest))
    }

    /// Whether another route takes over meanwhile. To slow down is no reason to.
    pub const fn lets_another_take_over(self) -> bool {
        !matches!(self, Self::Pace)
    }
}

/// A route that is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shut {
    /// Why.
    pub reason: Reason,
    /// For how long at least.
    pub wait: Duration,
}

/// What an attempt told of its route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    /// It answers, whatever it said of the mail.
    Works,
    Failed,
    Out(Reason, Option<Duration>),
    /// It was not asked.
    Nothing,
}

impl Health {
    /// Leave to begin one delivery by the route. Leave given while it is out is a probe.
    pub fn enter(&self) -> Result<(), Shut> {
        let now = Instant::now();
        let mut state = self.state.lock();
        let Some(out) = &mut state.out else { return Ok(()) };
        if out.until > now {
            return Err(out.shut(now));
        }
        out.probe = Probe::UnderWay;
        out.until = now + PROBE;
        Ok(())
    }

    /// Whether the route is out, and for how long at least. While somebody probes it, a moment.
    pub fn shut(&self) -> Option<Shut> {
        let now = Instant::now();
        let state = self.state.lock();
        state.out.filter(|out| out.until > now).map(|out| out.shut(now))
    }

    /// Takes in how an attempt by the route ended. `draw` is even in 0..1 and spreads the
    /// probes of the processes. What changed, if anything did.
    pub fn note(&self, result: &Result<Receipt, Outcome>, draw: f64) -> Option<Change> {
        let now = Instant::now();
        let mut state = self.state.lock();
        let (reason, wish) = match sign(result) {
            Sign::Nothing => {
                // A probe that was put off has told nothing: another may go.
                if let Some(out) = state.out.as_mut().filter(|out| out.probe == Probe::UnderWay) {
                    out.until = now;
                }
                return None;
            }
            Sign::Works => {
                state.failures = 0;
                // What was under way when it went out says nothing of now.
                let proven = state.out.is_some_and(|out| out.probe == Probe::UnderWay);
                return if proven { state.out.take().map(|_| Change::In) } else { None };
            }
            Sign::Failed => {
                state.failures += 1;
                let probed = state.out.is_some_and(|out| out.probe == Probe::UnderWay);
                if state.failures < FAILURES && !probed {
                    return None;
                }
                (Reason::Breaker, None)
            }
            Sign::Out(reason, wish) => (reason, wish),
        };
        let (first, longest) = reason.waits();
        let before = state.out.filter(|out| out.reason == reason);
        let wait = match before {
            // Those that were under way together are one refusal.
            Some(out) if out.probe == Probe::None && out.until > now => return None,
            Some(out) => (out.wait * 2).min(longest),
            None => first,
        };
        let chosen = wait.mul_f64(0.5 + 0.5 * draw.clamp(0.0, 1.0));
        let until = now + wish.map_or(chosen, |wish| chosen.max(wish));
        state.out = Some(Out { reason, until, wait, probe: Probe::None });
        before.is_none().then_some(Change::Out(reason))
    }
}

/// What a sign changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The route went out.
    Out(Reason),
    /// It is in use again.
    In,
}

impl Out {
    fn shut(&self, now: Instant) -> Shut {
        const SOON: Duration = Duration::from_secs(1);
        let left = self.until.duration_since(now);
        let wait = if self.probe == Probe::UnderWay { left.min(SOON) } else { left };
        Shut { reason: self.reason, wait }
    }
}

fn sign(result: &Result<Receipt, Outcome>) -> Sign {
    match result {
        Ok(_) => Sign::Works,
        Err(Outcome::Refused(verdict)) => of_refusal(verdict),
        Err(Outcome::Unreached(verdict)) if is_login(verdict) => {
            Sign::Out(Reason::Login, verdict.retry_after)
        }
        Err(Outcome::Unreached(verdict) | Outcome::Doubtful(verdict)) => match verdict.reach {
            Reach::Route | Reach::Host | Reach::Session => Sign::Failed,
            _ => Sign::Nothing,
        },
        // Every address of a relay is left alone for now.
        Err(Outcome::Postponed { delay, reason: WaitReason::Breaker }) => {
            Sign::Out(Reason::Breaker, Some(*delay))
        }
        Err(_) => Sign::Nothing,
    }
}

fn of_refusal(verdict: &Verdict) -> Sign {
    if is_login(verdict) {
        return Sign::Out(Reason::Login, verdict.retry_after);
    }
    match (verdict.reach, verdict.class) {
        (Reach::Route, Class::Quota) => Sign::Out(Reason::Quota, verdict.retry_after),
        (Reach::Route, Class::Throttled) => match verdict.retry_after {
            Some(wish) => Sign::Out(Reason::Pace, Some(wish)),
            None => Sign::Works,
        },
        (Reach::Route, _) => Sign::Failed,
        // A relay that takes no sessions.
        (Reach::Host, _) if verdict.stage < Stage::Mail => Sign::Failed,
        _ => Sign::Works,
    }
}

/// The account is refused: by a provider's answer, or by a relay at AUTH.
fn is_login(verdict: &Verdict) -> bool {
    verdict.class == Class::Configuration
        && (verdict.reach == Reach::Route || verdict.stage == Stage::Auth)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::verdict::{Cause, Finality, PeerReply};

    const MINUTE: Duration = Duration::from_secs(60);

    fn refused(class: Class, reach: Reach, wait: Option<Duration>) -> Result<Receipt, Outcome> {
        Err(Outcome::Refused(verdict(class, reach, wait)))
    }

    fn verdict(class: Class, reach: Reach, retry_after: Option<Duration>) -> Verdict {
        let cause = Cause::Timeout;
        let finality = Finality::Passing;
        Verdict { stage: Stage::Dot, cause, class, finality, reach, retry_after, ruling: None }
    }

    #[allow(clippy::unnecessary_wraps, reason = "it stands beside failed")]
    fn well() -> Result<Receipt, Outcome> {
        Ok(Receipt { reply: PeerReply { code: 200, enhanced: None, text: String::new() } })
    }

    fn failed() -> Result<Receipt, Outcome> {
        Err(Outcome::Unreached(verdict(Class::Transient, Reach::Route, None)))
    }

    #[tokio::test(start_paused = true)]
    async fn failures_in_a_row_open_the_breaker_and_a_probe_closes_it() {
        let health = Health::default();
        for _ in 1..FAILURES {
            assert_eq!(health.note(&failed(), 1.0), None);
            assert_eq!(health.enter(), Ok(()));
        }
        assert_eq!(health.note(&failed(), 1.0), Some(Change::Out(Reason::Breaker)));
        assert_eq!(health.note(&failed(), 1.0), None, "one that was under way");
        let shut = health.enter().expect_err("out");
        assert_eq!((shut.reason, shut.wait), (Reason::Breaker, Duration::from_secs(5)));
        assert_eq!(health.note(&well(), 1.0), None, "it had begun before");
        assert!(health.shut().is_some());

        tokio::time::advance(shut.wait).await;
        assert_eq!(health.enter(), Ok(()), "the probe");
        let shut = health.enter().expect_err("one at a time");
        assert_eq!(shut.wait, Duration::from_secs(1));
        assert_eq!(health.note(&failed(), 1.0), None, "out as before");
        assert_eq!(health.shut().map(|shut| shut.wait), Some(Duration::from_secs(10)));

        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(health.enter(), Ok(()));
        assert_eq!(health.note(&well(), 1.0), Some(Change::In));
        assert_eq!((health.enter(), health.shut()), (Ok(()), None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_used_up_allowance_and_a_refused_login_close_it_at_once() {
        for (class, reason) in
            [(Class::Quota, Reason::Quota), (Class::Configuration, Reason::Login)]
        {
            let health = Health::default();
            let change = health.note(&refused(class, Reach::Route, None), 0.0);
            assert_eq!(change, Some(Change::Out(reason)));
            assert!(health.enter().is_err_and(|shut| shut.reason == reason));
        }
        let health = Health::default();
        health.note(&refused(Class::Quota, Reach::Route, Some(MINUTE * 20)), 0.0);
        assert_eq!(health.shut().map(|shut| shut.wait), Some(MINUTE * 20), "what it asked for");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_said_of_a_mail_says_that_the_route_works() {
        let health = Health::default();
        for _ in 0..20 {
            health.note(&failed(), 0.5);
            health.note(&refused(Class::AddressBad, Reach::Recipient, None), 0.5);
            health.note(&refused(Class::Configuration, Reach::Message, None), 0.5);
        }
        assert_eq!(health.shut(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_told_nothing_is_followed_by_another() {
        let health = Health::default();
        health.note(&refused(Class::Quota, Reach::Route, None), 1.0);
        tokio::time::advance(MINUTE).await;
        assert_eq!(health.enter(), Ok(()));
        assert!(health.enter().is_err());
        health.note(&Err(Outcome::Suppressed), 0.5);
        assert_eq!(health.enter(), Ok(()));
        assert!(health.enter().is_err());
        tokio::time::advance(PROBE).await;
        assert_eq!(health.enter(), Ok(()), "the other was never heard of");
    }
}
