//! What an event says of a delivery: [`Said`].
//!
//! Words of the receiver are judged by the rules that judge reports. Where they say nothing, what
//! the provider makes of them counts; and a provider that calls a refusal passing, or a block,
//! is believed in that: such a refusal never condemns an address.

use serde_json::Value;

use super::{Origin, mailgun, sendgrid, ses};
use crate::domain::bounce_class::{Class, Hardness};
use crate::domain::ids::DeliveryId;
use crate::feedback::report::{Action, Finding};
use crate::feedback::rules;

/// An event, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Who says it.
    pub origin: Origin,
    /// The delivery that it names, by what we put into the mail.
    pub delivery: Option<DeliveryId>,
    /// Ids that the provider may have given the mail when it took it, the likeliest first.
    pub provider_ids: Vec<String>,
    /// What it says, one for each recipient that it names.
    pub news: Vec<News>,
}

/// What is said of one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// As a report would say it.
    Finding(Finding),
    /// The recipient wants no more mail.
    Unsubscribed {
        /// Its address, in lower case.
        recipient: Option<String>,
    },
}

/// The name under which a delivery's id travels with its mail.
pub(super) const NAME: &str = "postrider_delivery";

/// Most recipients of one event: each of our mails has one.
pub(super) const MOST_RECIPIENTS: usize = 20;

/// Most ids that are tried for one event.
const MOST_IDS: usize = 8;

/// What an event of `origin` says; `None` if it cannot be read.
pub fn understand(origin: Origin, raw: &[u8]) -> Option<Said> {
    let event: Value = serde_json::from_slice(raw).ok()?;
    let mut said = match origin {
        Origin::Ses => ses::said(&event),
        Origin::SendGrid => sendgrid::said(&event),
        Origin::Mailgun => mailgun::said(&event),
    };
    said.provider_ids.truncate(MOST_IDS);
    said.news.truncate(MOST_RECIPIENTS);
    Some(said)
}

/// What the provider itself makes of a refusal.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    pub(super) class: Class,
    pub(super) rule: &'static str,
    /// What it says goes before the receiver's words: it did not even ask the receiver.
    pub(super) first: bool,
}

impl View {
    pub(super) const fn new(class: Class, rule: &'static str) -> Self {
        Self { class, rule, first: false }
    }

    /// The provider refused by itself.
    pub(super) const fn own(class: Class, rule: &'static str) -> Self {
        Self { class, rule, first: true }
    }
}

/// A refusal in the receiver's words. `lasting`: the provider calls it final and no block.
pub(super) fn refusal(
    action: Action,
    recipient: Option<String>,
    words: &str,
    status: Option<&str>,
    view: Option<View>,
    lasting: bool,
) -> Finding {
    let evidence = rules::evidence(words, status);
    let judged = rules::judge(&evidence);
    let silent = !judged.by_words;
    let (class, rule) = match view {
        Some(view) if view.first || silent => (view.class, view.rule),
        _ => (judged.class, judged.rule),
    };
    let hard = if rule == judged.rule {
        judged.hardness == Hardness::Hard
    } else {
        // A code that passes speaks against the provider's view.
        class.can_be_hard() && evidence.code.is_none_or(|code| code >= 500)
    };
    let hard = hard && lasting && action == Action::Failed;
    Finding {
        recipient,
        original_recipient: None,
        action,
        class,
        hardness: if hard { Hardness::Hard } else { Hardness::Soft },
        rule,
        status: evidence.status,
        code: evidence.code,
        stage: evidence.stage,
        text: words.to_owned(),
    }
}

/// That it went well, or on.
pub(super) fn progress(
    action: Action,
    recipient: Option<String>,
    words: &str,
    rule: &'static str,
) -> Finding {
    plain(action, recipient, words, Class::Delivered, rule)
}

/// A complaint.
pub(super) fn complaint(recipient: Option<String>, words: &str, rule: &'static str) -> Finding {
    plain(Action::Complained, recipient, words, Class::Complaint, rule)
}

fn plain(
    action: Action,
    recipient: Option<String>,
    words: &str,
    class: Class,
    rule: &'static str,
) -> Finding {
    Finding {
        recipient,
        original_recipient: None,
        action,
        class,
        hardness: Hardness::Soft,
        rule,
        status: None,
        code: None,
        stage: None,
        text: words.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_block_or_a_passing_refusal_condemns_nobody_whatever_its_words() {
        let words = "550 5.1.1 user unknown";
        let found = |lasting| refusal(Action::Failed, None, words, None, None, lasting);
        assert!(found(true).condemns_address());
        assert!(!found(false).condemns_address());
        assert!(!refusal(Action::Delayed, None, words, None, None, true).condemns_address());
    }

    #[test]
    fn words_go_before_the_provider_s_view_and_its_own_refusal_before_words() {
        let bad = View::new(Class::AddressBad, "view");
        let blocked = "554 5.7.1 blocked using zen.spamhaus.org";
        let found = refusal(Action::Failed, None, blocked, None, Some(bad), true);
        assert!(found.class == Class::Policy && !found.condemns_address(), "{found:?}");
        assert!(refusal(Action::Failed, None, "", None, Some(bad), true).condemns_address());
        assert!(!refusal(Action::Failed, None, "450", None, Some(bad), true).condemns_address());
        let listed = View::own(Class::Policy, "own");
        let words = "550 5.1.1 user unknown";
        let found = refusal(Action::Failed, None, words, None, Some(listed), true);
        assert_eq!((found.class, found.rule), (Class::Policy, "own"));
    }

    proptest! {
        #[test]
        fn any_json_is_understood_or_not(raw in "[\\[\\]{}\":,a-z0-9 ]{0,80}") {
            for origin in Origin::ALL {
                let _ = understand(origin, raw.as_bytes());
            }
        }
    }
}
