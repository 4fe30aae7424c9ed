//! Complaints in the standard's form (RFC 5965), redacted ones too.
//!
//! Many providers black out the recipient (RFC 6590): then the return path and the Message-ID
//! of the mail lead to the delivery, and the finding names nobody.

use super::address;
use super::fields::Group;
use super::report::{Action, Finding, Original};
use crate::domain::bounce_class::{Class, Hardness};

/// What kinds of report are no complaint of a recipient (RFC 5965 7.3, RFC 6591, RFC 6430).
const NO_COMPLAINT: [&str; 2] = ["not-spam", "auth-failure"];

/// What the report says; one finding per recipient that it names, or one that names nobody.
pub(super) fn findings(groups: &[Group]) -> Vec<Finding> {
    let kind = groups.iter().find_map(|group| group.get("feedback-type")).unwrap_or("abuse");
    let kind = kind.trim().to_ascii_lowercase();
    if NO_COMPLAINT.contains(&kind.as_str()) {
        return Vec::new();
    }
    let named: Vec<String> = groups
        .iter()
        .flat_map(|group| ["original-rcpt-to", "removal-recipient"].map(|name| group.get(name)))
        .flatten()
        .filter_map(readable)
        .collect();
    let mut recipients: Vec<Option<String>> = Vec::new();
    for one in named {
        if !recipients.contains(&Some(one.clone())) {
            recipients.push(Some(one));
        }
    }
    if recipients.is_empty() {
        recipients.push(None);
    }
    let finding = |recipient| Finding {
        recipient,
        original_recipient: None,
        action: Action::Complained,
        class: Class::Complaint,
        hardness: Hardness::Soft,
        rule: "feedback report",
        status: None,
        code: None,
        stage: None,
        text: format!("feedback type {}", super::fields::clip(&kind, 40)),
    };
    recipients.into_iter().map(finding).collect()
}

/// Completes what the enclosed mail does not say.
pub(super) fn complete(original: &mut Original, groups: &[Group]) {
    let sender = groups.iter().find_map(|group| group.get("original-mail-from"));
    if let Some(sender) = sender.and_then(address::first) {
        original.envelope_sender = Some(address::normal(sender));
    }
}

/// An address that was not blacked out.
fn readable(text: &str) -> Option<String> {
    let found = address::normal(address::first(text)?);
    let local = found.split('@').next().unwrap_or_default();
    let hidden =
        local.contains("redact") || local.contains('*') || local.bytes().all(|b| b == b'x');
    (!hidden).then_some(found)
}
