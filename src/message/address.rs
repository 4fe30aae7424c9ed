//! Mail addresses, parsed once at the edge.

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
