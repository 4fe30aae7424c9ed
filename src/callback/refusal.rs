//! Why a callback is not taken.

/// What is wrong with it, or why it cannot be dealt with now. Nothing of it was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It holds no signature.
    #[error("it is not signed: switch the signature on at the provider")]
    Unsigned,
    /// Its signature is not that of a configured account.
    #[error("its signature is not that of an account in [callbacks]")]
    Forged,
    /// It was signed too long ago, or in the future.
    #[error("it was signed too long ago, or in the future")]
    Stale,
    /// Its token was used before.
    #[error("it was taken before")]
    Replayed,
    /// It comes by a topic that is not configured.
    #[error("its topic is not in callbacks.ses.topics")]
    UnknownTopic,
    /// It is not what the provider writes.
    #[error("it is not what this provider writes")]
    Malformed,
    /// It holds more events than are taken at once.
    #[error("it holds more events than callbacks.max_events")]
    TooMany,
    /// Its body is too large.
    #[error("its body is larger than callbacks.max_body_bytes")]
    TooLarge,
    /// Others are being worked on, or too many wait for the daemons.
    #[error("others come first")]
    Busy,
    /// The key for its signature cannot be had now.
    #[error("the key for its signature cannot be had now")]
    NoKey,
    /// It cannot be stored now.
    #[error("it cannot be stored now")]
    Database,
}

impl Refusal {
    /// The name in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unsigned => "unsigned",
            Self::Forged => "forged",
            Self::Stale => "stale",
            Self::Replayed => "replayed",
            Self::UnknownTopic => "unknown_topic",
            Self::Malformed => "malformed",
            Self::TooMany => "too_many",
            Self::TooLarge => "too_large",
            Self::Busy => "busy",
            Self::NoKey => "no_key",
            Self::Database => "database",
        }
    }
}
