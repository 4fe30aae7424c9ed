//! What a rule says of a reply beyond the verdict: whom it blames and what is to be done.
//!
//! The rules are data (`config/replies.toml`, docs/replies.md). What they order is carried out
//! by others: retries by the queue, pace by the throttle, connections by the carrier.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::verdict::Reach;

/// Who or what a reply finds fault with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Blame {
    /// This connection only.
    Session,
    /// The host that answered.
    Host,
    /// Our source address at this mailbox provider.
    Source,
    /// All we send to this mailbox provider.
    MailboxProvider,
    /// The account behind a route (a relay's, a provider's).
    Route,
    /// A domain of the tenant that signs or sends: DKIM, SPF, From.
    Identity,
    /// A domain that the mail links to.
    Url,
    /// What the mail contains.
    Content,
    /// The recipient's address.
    Recipient,
    /// The recipient's mailbox: the address is good.
    Mailbox,
}

impl Blame {
    /// Every one, from the narrowest connection to the mailbox.
    pub const ALL: [Self; 10] = [
        Self::Session,
        Self::Host,
        Self::Source,
        Self::MailboxProvider,
        Self::Route,
        Self::Identity,
        Self::Url,
        Self::Content,
        Self::Recipient,
        Self::Mailbox,
    ];

    /// The name used in the rules, in logs and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Host => "host",
            Self::Source => "source",
            Self::MailboxProvider => "mailbox_provider",
            Self::Route => "route",
            Self::Identity => "identity",
            Self::Url => "url",
            Self::Content => "content",
            Self::Recipient => "recipient",
            Self::Mailbox => "mailbox",
        }
    }

    /// How far a refusal with this blame reaches.
    pub const fn reach(self) -> Reach {
        match self {
            Self::Session => Reach::Session,
            Self::Host => Reach::Host,
            Self::Source | Self::Identity => Reach::Source,
            Self::MailboxProvider | Self::Route => Reach::Destination,
            Self::Url | Self::Content => Reach::Message,
            Self::Recipient | Self::Mailbox => Reach::Recipient,
        }
    }
}

impl fmt::Display for Blame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is to be done about a reply.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Orders {
    /// The recipient's address is dead: write to it no more, once this is final.
    pub suppress: bool,
    /// Tell the operators.
    pub alert: bool,
    /// The connection is used up: a fresh one may do better at once.
    pub reconnect: bool,
    /// Take a part of the pace away from whom it blames.
    pub slow: bool,
    /// The same of connections.
    pub fewer_connections: bool,
    /// Send nothing for whom it blames for so long.
    pub suspend: Option<Duration>,
    /// Send no more than so many an hour, for [`lasts`](Self::lasts).
    pub rate_per_hour: Option<u32>,
    /// Hold no more than so many deliveries in hand, for [`lasts`](Self::lasts).
    pub connections: Option<u32>,
    /// Close a connection after so many mails, for [`lasts`](Self::lasts).
    pub messages_per_connection: Option<u32>,
    /// How long those hold.
    pub lasts: Duration,
    /// Try this mail again no sooner than after this.
    pub retry_after: Option<Duration>,
}

impl Orders {
    /// Whether anything about the pace follows.
    pub const fn touch_pace(&self) -> bool {
        self.slow
            || self.fewer_connections
            || self.suspend.is_some()
            || self.rate_per_hour.is_some()
            || self.connections.is_some()
    }
}

/// What the rule that knew a reply says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruling {
    /// The rule's name.
    pub rule: Arc<str>,
    /// Who is at fault; `None`: as the stage says.
    pub blame: Option<Blame>,
    /// The domain that the reply names (of an identity or a URL), in lower case.
    pub identity: Option<Arc<str>>,
    /// What is to be done.
    pub orders: Arc<Orders>,
}
