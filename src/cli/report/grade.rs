//! What a label of Sisimai's vocabulary is in our classes, and counts of hits and misses.

use crate::domain::bounce_class::Class as C;

/// The classes that are right for a label. Where a label lies between two of ours, both are.
pub(super) fn classes(reason: &str) -> &'static [C] {
    match reason {
        "userunknown" | "hasmoved" | "suspend" => &[C::AddressBad],
        "hostunknown" | "notaccept" => &[C::DomainBad],
        "mailboxfull" => &[C::MailboxFull],
        "rejected" | "blocked" | "badreputation" | "requireptr" => &[C::Policy],
        "policyviolation" | "notcompliantrfc" => &[C::Policy, C::Content],
        "spamdetected" | "virusdetected" | "contenterror" => &[C::Content],
        "authfailure" | "failedstarttls" | "securityerror" | "norelaying" | "systemerror"
        | "mailererror" | "syntaxerror" => &[C::Configuration],
        // Some count it as reputation, some as a passing fault.
        "speeding" | "toomanyconn" => &[C::Throttled, C::Policy, C::Transient],
        "expired" | "networkerror" | "systemfull" => &[C::Transient],
        "onhold" | "undefined" => &[C::Unknown, C::Transient],
        "mesgtoobig" | "exceedlimit" => &[C::Size],
        "feedback" => &[C::Complaint],
        "vacation" => &[C::AutoReply],
        "delivered" => &[C::Delivered],
        _ => &[],
    }
}

/// `filtered`: the label of those who do not know either. "User unknown" from a receiver that
/// says so of mail it does not want.
pub(super) fn is_ambiguous(reason: &str) -> bool {
    reason == "filtered"
}

/// Hits and misses of a yes-or-no question.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Hits {
    pub(super) yes_right: u32,
    pub(super) yes_wrong: u32,
    pub(super) no_wrong: u32,
}

impl Hits {
    pub(super) fn count(&mut self, said: bool, right: bool) {
        match (said, right) {
            (true, true) => self.yes_right += 1,
            (true, false) => self.yes_wrong += 1,
            (false, true) => self.no_wrong += 1,
            (false, false) => {}
        }
    }

    /// Of what was said to be so, how much is.
    pub(super) fn precision(self) -> f64 {
        share(self.yes_right, self.yes_right + self.yes_wrong)
    }

    /// Of what is so, how much was said to be.
    pub(super) fn recall(self) -> f64 {
        share(self.yes_right, self.yes_right + self.no_wrong)
    }
}

/// 1 where there is nothing to count.
pub(super) fn share(part: u32, whole: u32) -> f64 {
    if whole == 0 { 1.0 } else { f64::from(part) / f64::from(whole) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precision_and_recall() {
        let mut hits = Hits::default();
        for (said, right) in
            [(true, true), (true, false), (false, true), (false, false), (true, true)]
        {
            hits.count(said, right);
        }
        assert_eq!((hits.precision(), hits.recall()), (2.0 / 3.0, 2.0 / 3.0));
        assert!((Hits::default().precision() - 1.0).abs() < f64::EPSILON);
    }
}
