//! `[feedback]`: where reports about our mail come back to, and how long they matter.

use std::time::Duration;

use crate::config::reader::Reader;

/// Return paths and what becomes of reports.
#[derive(Debug, Clone, PartialEq)]
pub struct Feedback {
    /// Domain of the envelope senders, one for each delivery; none: the sender's own address
    /// is used, and reports go to the sender. A sending domain may have its own
    /// (`postrider domain return-path`).
    pub return_path_domain: Option<String>,
    /// How long a return path is honoured after its mail was accepted (90 d).
    pub honour: Duration,
    /// How long raw reports are kept for inspection once they are dealt with (7 d).
    pub keep_reports: Duration,
}

impl Default for Feedback {
    fn default() -> Self {
        Self {
            return_path_domain: None,
            honour: Duration::from_secs(90 * 86_400),
            keep_reports: Duration::from_secs(7 * 86_400),
        }
    }
}

impl Feedback {
    pub(in crate::config) fn read(section: Reader<'_>) -> Self {
        let default = Self::default();
        let (hour, year) = (Duration::from_secs(3_600), Duration::from_secs(366 * 86_400));
        let feedback = Self {
            return_path_domain: section.checked(
                "return_path_domain",
                "a domain like bounces.example.com in lower case",
                is_domain,
            ),
            honour: section.duration("honour", default.honour, hour..=year),
            keep_reports: section.duration("keep_reports", default.keep_reports, hour..=year),
        };
        section.end();
        feedback
    }
}

/// A host name with at least one dot, lower-case A-labels.
pub(super) fn is_domain(text: &str) -> bool {
    // A local part of 64 octets must fit before it (RFC 5321 4.5.3.1.3).
    text.len() <= 180
        && text.contains('.')
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_return_path_domain_is_a_host_name() {
        assert!(is_domain("bounces.example.com"));
        for bad in ["", "localhost", "Bounces.example.com", "a..b", "-a.b", "a b.c", "a.b>", "ä.de"]
        {
            assert!(!is_domain(bad), "{bad}");
        }
    }
}
