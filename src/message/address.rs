//! Mail addresses, parsed once at the edge.
//!
//! Stricter than RFC 5321 where the letter of it only ever served attackers:
//! no quoted local part, no comment, no domain literal, no host without a dot.

use std::fmt;
use std::str::FromStr;

use email_address::{EmailAddress, Options};

/// An address that can be put on the wire as it is: the domain is lower-case
/// A-labels, the local part is as given (it may hold UTF-8, RFC 6531).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    text: String,
    at: usize,
}

/// Why a text is not an address we can write to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected an address like name@example.com, found {found:?}: {reason}")]
pub struct InvalidAddress {
    found: String,
    reason: String,
}

/// RFC 5321 4.5.3.1.3 allows 256 octets for a path, two of which are brackets.
const MAX_LEN: usize = 254;

impl Address {
    /// Reads a bare address (no display name, no comment, no domain literal).
    pub fn try_new(text: &str) -> Result<Self, InvalidAddress> {
        let refuse =
            |reason: String| InvalidAddress { found: text.chars().take(80).collect(), reason };
        if text.chars().any(|c| c.is_control() || c == '\u{2028}' || c == '\u{2029}') {
            return Err(refuse("control characters are not allowed".into()));
        }
        let options =
            Options::default().with_required_tld().without_domain_literal().without_display_text();
        let parsed = EmailAddress::parse_with_options(text, options)
            .map_err(|error| refuse(error.to_string()))?;
        let domain = idna::domain_to_ascii_strict(parsed.domain())
            .map_err(|_| refuse("the domain is not a valid host name".into()))?
            .to_ascii_lowercase();
        let labels: Vec<&str> = domain.split('.').collect();
        let tld = labels.last().copied().unwrap_or_default();
        if labels.len() < 2 || tld.bytes().all(|b| b.is_ascii_digit()) {
            return Err(refuse("the domain is not a public host name".into()));
        }
        let local = parsed.local_part();
        if local.starts_with('"') {
            return Err(refuse("quoted local parts are not accepted".into()));
        }
        let text = format!("{local}@{domain}");
        if text.len() > MAX_LEN {
            return Err(refuse(format!("longer than {MAX_LEN} octets")));
        }
        Ok(Self { at: local.len(), text })
    }

    /// The whole address.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What stands before the @.
    pub fn local(&self) -> &str {
        &self.text[..self.at]
    }

    /// The domain: lower-case A-labels.
    pub fn domain(&self) -> &str {
        &self.text[self.at + 1..]
    }

    /// Whether it can be sent to a peer without SMTPUTF8.
    pub fn is_ascii(&self) -> bool {
        self.text.is_ascii()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        Self::try_new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn address(local: usize, domain: usize) -> String {
        // Labels of at most 63 octets, the last one a TLD.
        let mut text = "d".repeat(domain - 4);
        for at in (50..text.len()).step_by(51) {
            text.replace_range(at..=at, ".");
        }
        format!("{}@{text}.com", "l".repeat(local))
    }

    #[test]
    fn addresses_are_normalised() {
        for (text, expected) in [
            ("jane@example.com", "jane@example.com"),
            ("Jane.Doe+tag@EXAMPLE.com", "Jane.Doe+tag@example.com"),
            ("a@b.co", "a@b.co"),
            ("o'neil@example.com", "o'neil@example.com"),
            ("a_b@example.com", "a_b@example.com"),
            ("x@sub.domain.example.museum", "x@sub.domain.example.museum"),
            ("müller@example.com", "müller@example.com"),
            ("用户@例子.中国", "用户@xn--fsqu00a.xn--fiqs8s"),
            ("jane@bücher.example", "jane@xn--bcher-kva.example"),
            ("jane@xn--bcher-kva.example", "jane@xn--bcher-kva.example"),
            ("jane@1.2.3.com", "jane@1.2.3.com"),
        ] {
            let parsed = Address::try_new(text).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(parsed.as_str(), expected);
            assert_eq!(format!("{}@{}", parsed.local(), parsed.domain()), expected);
            assert!(parsed.domain().is_ascii());
            assert_eq!(Address::try_new(parsed.as_str()), Ok(parsed), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_written_to_is_refused() {
        for text in [
            "",
            "jane",
            "@example.com",
            "jane@",
            "jane@example",
            "jane@localhost",
            "jane@@example.com",
            "jane@a@example.com",
            "jane@example.com.",
            "jane@.example.com",
            "jane@example..com",
            "jane@-example.com",
            "jane@example-.com",
            "jane@under_score.example.com",
            "jane@127.0.0.1",
            "jane@[127.0.0.1]",
            "jane@[IPv6:::1]",
            "jane@example.123",
            "jane@exa mple.com",
            ".jane@example.com",
            "jane.@example.com",
            "ja..ne@example.com",
            "ja ne@example.com",
            " jane@example.com",
            "jane@example.com ",
            "\"jane\"@example.com",
            "\"ja@ne\"@example.com",
            "\"jane\\\"\"@example.com",
            "jane(comment)@example.com",
            "jane@example.com(comment)",
            "Jane <jane@example.com>",
            "<jane@example.com>",
            "jane@example.com,joe@example.com",
            "jane@example.com;joe@example.com",
            "jane@example.com\r\nRCPT TO:<joe@example.com>",
            "jane\n@example.com",
            "jane@example.com\0",
            "jane@exa\u{2028}mple.com",
            "jane\u{85}@example.com",
            "jane\u{7f}@example.com",
            "jane>@example.com",
            "jane\u{a0}doe@example.com",
            "jane@xn--.example.com",
            "jane@example\u{3002}",
        ] {
            assert!(Address::try_new(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn lengths_are_bounded() {
        assert!(Address::try_new(&address(64, 100)).is_ok());
        assert!(Address::try_new(&address(65, 100)).is_err());
        assert!(Address::try_new(&address(54, 199)).is_ok());
        assert!(Address::try_new(&address(55, 199)).is_err());
        assert!(Address::try_new(&format!("a@{}.com", "d".repeat(64))).is_err());
        // 33 letters of two octets each: the limit counts octets.
        assert!(Address::try_new(&format!("{}@example.com", "é".repeat(33))).is_err());
    }

    #[test]
    fn only_ascii_goes_to_a_peer_without_smtputf8() {
        assert!(Address::try_new("jane@bücher.example").is_ok_and(|a| a.is_ascii()));
        assert!(Address::try_new("müller@example.com").is_ok_and(|a| !a.is_ascii()));
    }

    #[test]
    fn the_error_shows_what_was_found_but_not_all_of_it() {
        let error = Address::try_new(&"x".repeat(500)).expect_err("refused").to_string();
        assert!(error.contains("expected an address") && error.len() < 250, "{error}");
    }

    proptest! {
        #[test]
        fn nothing_accepted_can_break_a_command(text in "(?s).{0,40}(@.{0,20})?") {
            if let Ok(address) = Address::try_new(&text) {
                let bad = |c: char| c.is_control() || c.is_whitespace() || "<>,;()[]\"\\".contains(c);
                prop_assert!(!address.as_str().contains(bad), "{:?}", address);
                prop_assert_eq!(address.as_str().matches('@').count(), 1);
            }
        }

        #[test]
        fn plain_addresses_are_accepted(local in "[a-z][a-z0-9]{0,20}", domain in "[a-z][a-z0-9]{0,20}") {
            let text = format!("{local}@{domain}.example");
            prop_assert_eq!(Address::try_new(&text).map(|a| a.to_string()), Ok(text));
        }
    }
}
