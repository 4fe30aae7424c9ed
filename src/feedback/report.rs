//! What a mail that came back says: [`Report`].

use crate::domain::bounce_class::{Class, Hardness};
use crate::domain::verdict::{EnhancedStatus, Stage};

/// What kind of mail it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A delivery status notification (RFC 3464).
    Dsn,
    /// A failure or delay told in somebody's own words.
    Bounce,
    /// A complaint (RFC 5965).
    Complaint,
    /// A program answered for the recipient (RFC 3834).
    AutoReply,
    /// Anything else: no feedback.
    Ordinary,
}

/// What happened to the mail to a recipient (RFC 3464 2.3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// It was given up.
    Failed,
    /// It is still being tried.
    Delayed,
    /// It lies in the mailbox.
    Delivered,
    /// It went on to a system that sends no reports.
    Relayed,
    /// It went to several addresses, all of which stand for this one.
    Expanded,
    /// The recipient complained.
    Complained,
    /// A program answered.
    Answered,
}

/// What is said of one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The address, lower-case, if the report names it.
    pub recipient: Option<String>,
    /// The address that we had written to, where it differs.
    pub original_recipient: Option<String>,
    /// What happened.
    pub action: Action,
    /// The kind of failure.
    pub class: Class,
    /// Whether the recipient is lost.
    pub hardness: Hardness,
    /// The rule that decided.
    pub rule: &'static str,
    /// The enhanced status.
    pub status: Option<EnhancedStatus>,
    /// The reply code.
    pub code: Option<u16>,
    /// When it was refused, if the report says so.
    pub stage: Option<Stage>,
    /// The words that were judged, cut short.
    pub text: String,
}

/// What can lead to the delivery that it is about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Original {
    /// Message-ID of the mail that was sent, without brackets.
    pub message_id: Option<String>,
    /// Its envelope sender, where the report holds it: our return path.
    pub envelope_sender: Option<String>,
    /// Its addressee, where the report holds it.
    pub to: Option<String>,
}

/// A mail that came back, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What kind of mail it is.
    pub kind: Kind,
    /// All recipients that it speaks of. A failure that names nobody has one without address.
    pub findings: Vec<Finding>,
    /// The mail that it is about.
    pub original: Original,
}

impl Kind {
    /// The name used in logs, metrics and `postrider report`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dsn => "dsn",
            Self::Bounce => "bounce",
            Self::Complaint => "complaint",
            Self::AutoReply => "auto_reply",
            Self::Ordinary => "ordinary",
        }
    }
}

impl Action {
    /// The name used in logs, metrics and `postrider report`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Delayed => "delayed",
            Self::Delivered => "delivered",
            Self::Relayed => "relayed",
            Self::Expanded => "expanded",
            Self::Complained => "complained",
            Self::Answered => "answered",
        }
    }
}

impl Finding {
    /// Whether the address itself is lost, so that it may be suppressed. A domain that is gone
    /// today may be a slip of a name server; policy, blocks and content never count.
    pub fn condemns_address(&self) -> bool {
        self.action == Action::Failed
            && self.class == Class::AddressBad
            && self.hardness == Hardness::Hard
    }
}
