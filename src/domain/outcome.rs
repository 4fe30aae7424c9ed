//! Every way an attempt can end.
//!
//! A step of the pipeline hands on its result or ends the journey with one of
//! these. `queue::retry` alone turns an outcome into what is written.

use std::time::Duration;

use super::receipt::Receipt;
use super::verdict::Verdict;

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A peer took responsibility. Spends the attempt; final.
    Delivered(Receipt),
    /// A peer refused. Spends the attempt.
    Refused(Verdict),
    /// No peer could be asked. Spends the attempt.
    Unreached(Verdict),
    /// The final dot was sent and no reply came: the mail may or may not have
    /// been taken. Spends the attempt; the stream's policy decides.
    Doubtful(Verdict),
    /// We chose to wait (a limit, a pause, a shutdown). Spends no attempt.
    Postponed {
        /// How long at least.
        delay: Duration,
        /// Why.
        reason: WaitReason,
    },
    /// The recipient must not be written to. Final, no attempt was made.
    Suppressed,
    /// Its time is over. Final, no attempt was made.
    Expired,
    /// The tenant called it back. Final, no attempt was made.
    Cancelled,
    /// It was sent before, and what became of it was learned only now. Final, no attempt was made.
    Learned(Learned),
    /// It cannot be made into a mail; an operator or the tenant must look.
    Malformed {
        /// What is wrong, with the template's and variable's name where known.
        reason: String,
    },
    /// The task that carried it panicked. Spends the attempt.
    Crashed {
        /// The panic's message.
        reason: String,
    },
}

/// What an earlier worker found out about a delivery that had been taken from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Learned {
    /// A peer took it; else a peer refused it for good.
    pub delivered: bool,
    /// The peer's reply code.
    pub code: Option<i16>,
    /// The evidence of that attempt (JSON).
    pub detail: Option<String>,
}

/// Why a delivery waits although nobody refused it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WaitReason {
    /// A rate limit.
    Rate,
    /// A concurrency limit.
    Concurrency,
    /// The daemon is stopping.
    Shutdown,
    /// All connections to the host are in use.
    Connections,
    /// It is night, by the recipient's or the tenant's clock.
    QuietHours,
    /// Its route is out for now, and no other may take over.
    RouteOut,
    /// An operator holds its route back.
    Paused,
    /// A receiver asked for a pause, or what comes after it is being found out.
    Suspended,
    /// A host or a route does not answer and is left alone for a while.
    Breaker,
    /// Something of ours is missing for now (a signing key, the database).
    NotReady,
}

impl WaitReason {
    /// The name used in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Concurrency => "concurrency",
            Self::Shutdown => "shutdown",
            Self::Connections => "connections",
            Self::QuietHours => "quiet_hours",
            Self::RouteOut => "route_out",
            Self::Paused => "paused",
            Self::Suspended => "suspended",
            Self::Breaker => "breaker",
            Self::NotReady => "not_ready",
        }
    }
}
