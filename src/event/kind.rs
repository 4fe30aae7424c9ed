//! [`EventKind`]: what can be told.

use std::fmt;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventKind {
    /// The receiver took a mail.
    Delivered,
    /// The receiver refused it for good.
    Bounced,
    /// It was given up: its time was over.
    Expired,
    /// A recipient must not be written to any more, or was not.
    Suppressed,
    /// It was called back.
    Cancelled,
    /// It cannot be processed; an operator decides.
    DeadLettered,
    /// It is tried again later.
    Deferred,
    /// A message, or more recipients of it, were stored.
    Accepted,
    /// A recipient complained.
    Complained,
    /// A recipient wants no further mail.
    Unsubscribed,
    /// An endpoint of the tenant is told nothing more.
    EndpointDisabled,
    /// A mail's picture was asked for: it was shown, or looked through by a machine.
    Opened,
    /// A link in a mail was followed.
    Clicked,
    /// Bounces or complaints of a stream are near the limit.
    StreamWarned,
    /// They reached it: the stream is held back.
    StreamPaused,
    /// An operator let the stream go again.
    StreamResumed,
}

impl EventKind {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::Delivered,
        Self::Bounced,
        Self::Expired,
        Self::Suppressed,
        Self::Cancelled,
        Self::DeadLettered,
        Self::Deferred,
        Self::Accepted,
        Self::Complained,
        Self::Unsubscribed,
        Self::EndpointDisabled,
        Self::Opened,
        Self::Clicked,
        Self::StreamWarned,
        Self::StreamPaused,
        Self::StreamResumed,
    ];

    /// As the log numbers it.
    pub const fn number(self) -> i16 {
        match self {
            Self::Delivered => 1,
            Self::Bounced => 2,
            Self::Expired => 3,
            Self::Suppressed => 4,
            Self::Cancelled => 5,
            Self::DeadLettered => 6,
            Self::Deferred => 7,
            Self::Accepted => 8,
            Self::Complained => 9,
            Self::Unsubscribed => 10,
            Self::EndpointDisabled => 11,
            Self::Opened => 12,
            Self::Clicked => 13,
            Self::StreamWarned => 14,
            Self::StreamPaused => 15,
            Self::StreamResumed => 16,
        }
    }

    /// `type` of the event.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Bounced => "bounced",
            Self::Expired => "expired",
            Self::Suppressed => "suppressed",
            Self::Cancelled => "cancelled",
            Self::DeadLettered => "dead_lettered",
            Self::Deferred => "deferred",
            Self::Accepted => "accepted",
            Self::Complained => "complained",
            Self::Unsubscribed => "unsubscribed",
            Self::EndpointDisabled => "endpoint_disabled",
            Self::Opened => "opened",
            Self::Clicked => "clicked",
            Self::StreamWarned => "stream_warned",
            Self::StreamPaused => "stream_paused",
            Self::StreamResumed => "stream_resumed",
        }
    }

    /// The kind that the log numbers so.
    pub fn from_number(number: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }

    /// The kind of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Reads a list of names; the fault names the first that is none.
    pub fn read_all<'n>(
        names: impl IntoIterator<Item = &'n str>,
    ) -> Result<Vec<Self>, UnknownKind> {
        let mut kinds = Vec::new();
        for name in names {
            let kind = Self::from_name(name)
                .ok_or_else(|| UnknownKind(name.chars().take(40).collect()))?;
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        Ok(kinds)
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name that is no kind of event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownKind(String);

impl fmt::Display for UnknownKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = EventKind::ALL.into_iter().map(EventKind::as_str).collect();
        write!(f, "expected one of {}, found {:?}", names.join(", "), self.0)
    }
}

impl std::error::Error for UnknownKind {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_belong_to_one_kind_each() {
        for kind in EventKind::ALL {
            assert_eq!(EventKind::from_number(kind.number()), Some(kind));
            assert_eq!(EventKind::from_name(kind.as_str()), Some(kind));
        }
        let read = EventKind::read_all(["bounced", "bounced", "complained"]);
        assert_eq!(read, Ok(vec![EventKind::Bounced, EventKind::Complained]));
        let unknown = EventKind::read_all(["read"]).expect_err("unknown");
        assert!(unknown.to_string().ends_with("found \"read\""), "{unknown}");
    }
}
