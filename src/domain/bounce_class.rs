//! What a refusal, a report or a provider's callback is about: the one taxonomy.
//!
//! Replies on the wire, reports that come back by mail and events of providers end in the
//! same classes, so that a count, a suppression and an event mean the same wherever they come
//! from.

use serde::{Deserialize, Serialize};

/// What kind of refusal or feedback it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// The mailbox does not exist.
    AddressBad,
    /// The domain does not exist or takes no mail.
    DomainBad,
    /// The mailbox is full.
    MailboxFull,
    /// The mailbox is switched off or barred; it may come back.
    MailboxDisabled,
    /// Refused for policy or reputation.
    Policy,
    /// Asked to slow down.
    Throttled,
    /// An allowance is used up: nothing goes until it is renewed.
    Quota,
    /// Refused for what the mail contains.
    Content,
    /// Authentication or configuration between us and the peer.
    Configuration,
    /// Network, timeouts, greylisting, overload: passes by itself.
    Transient,
    /// The mail is too large.
    Size,
    /// The recipient called the mail spam.
    Complaint,
    /// A program answered for the recipient (vacation, ticket system).
    AutoReply,
    /// The report says that it was delivered.
    Delivered,
    /// None of the rules knows it.
    Unknown,
}

impl Class {
    /// What a reply on the wire can be; the others come by report or callback.
    pub const ALL: [Self; 12] = [
        Self::AddressBad,
        Self::DomainBad,
        Self::MailboxFull,
        Self::MailboxDisabled,
        Self::Policy,
        Self::Throttled,
        Self::Quota,
        Self::Content,
        Self::Configuration,
        Self::Transient,
        Self::Size,
        Self::Unknown,
    ];

    /// The name used in logs, metrics and the attempt history.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AddressBad => "address_bad",
            Self::DomainBad => "domain_bad",
            Self::MailboxFull => "mailbox_full",
            Self::MailboxDisabled => "mailbox_disabled",
            Self::Policy => "policy",
            Self::Throttled => "throttled",
            Self::Quota => "quota",
            Self::Content => "content",
            Self::Configuration => "configuration",
            Self::Transient => "transient",
            Self::Size => "size",
            Self::Complaint => "complaint",
            Self::AutoReply => "auto_reply",
            Self::Delivered => "delivered",
            Self::Unknown => "unknown",
        }
    }

    /// Whether a final refusal of this class says that the mailbox cannot take mail for now. Such
    /// failures add up to a suppression; others, policy, reputation and content above all, do not.
    pub const fn is_soft_of_mailbox(self) -> bool {
        matches!(self, Self::MailboxFull | Self::MailboxDisabled | Self::Transient)
    }

    /// Whether a final refusal of this class says that no mail will ever reach the recipient.
    /// Policy, blocks and content never do.
    pub const fn can_be_hard(self) -> bool {
        matches!(self, Self::AddressBad | Self::DomainBad)
    }
}

/// Whether the recipient is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hardness {
    /// No mail will ever reach this recipient.
    Hard,
    /// Another mail may.
    Soft,
}

impl Hardness {
    /// The name used in logs, metrics and the attempt history.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hard => "hard",
            Self::Soft => "soft",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_address_and_its_domain_can_be_lost() {
        for class in [Class::Policy, Class::Content, Class::Complaint, Class::MailboxFull] {
            assert!(!class.can_be_hard(), "{}", class.as_str());
        }
        assert!(Class::AddressBad.can_be_hard() && Class::DomainBad.can_be_hard());
        for class in [Class::Policy, Class::Content, Class::Throttled, Class::Quota, Class::Unknown]
        {
            assert!(!class.is_soft_of_mailbox(), "{}", class.as_str());
        }
        assert!(Class::MailboxFull.is_soft_of_mailbox() && Class::Transient.is_soft_of_mailbox());
    }
}
