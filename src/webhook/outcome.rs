//! [`Answer`]: what a request came to.

use std::fmt;
use std::time::Duration;

/// What an endpoint made of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// It took it: any status from 200 to 299.
    Taken {
        /// The status.
        status: u16,
    },
    /// It said no, for now.
    Refused {
        /// The status. Redirects too: they are not followed.
        status: u16,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// It wants nothing any more (410).
    Gone,
    /// There was no answer.
    Unreached {
        /// Why.
        why: String,
    },
}

impl Answer {
    /// By the status of an answer.
    pub(super) const fn of(status: u16, retry_after: Option<Duration>) -> Self {
        match status {
            200..=299 => Self::Taken { status },
            410 => Self::Gone,
            _ => Self::Refused { status, retry_after },
        }
    }

    /// The label of the metric.
    pub(super) const fn outcome(&self) -> &'static str {
        match self {
            Self::Taken { .. } => "taken",
            Self::Refused { .. } | Self::Gone => "refused",
            Self::Unreached { .. } => "unreached",
        }
    }

    /// The status, where there was an answer.
    pub(super) const fn status(&self) -> Option<u16> {
        match self {
            Self::Taken { status } | Self::Refused { status, .. } => Some(*status),
            Self::Gone => Some(410),
            Self::Unreached { .. } => None,
        }
    }

    /// Whether it was taken.
    pub(super) const fn is_taken(&self) -> bool {
        matches!(self, Self::Taken { .. })
    }

    /// The wait that the endpoint asked for.
    pub(super) const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken { status } | Self::Refused { status, .. } => {
                write!(f, "answered with status {status}")
            }
            Self::Gone => f.write_str("answered with status 410: it is gone"),
            Self::Unreached { why } => write!(f, "could not be reached: {why}"),
        }
    }
}
