//! [`Subject`]: whom an entry of the list is about, in the one form that is compared (pure).
//!
//! The domain is lower-case A-labels. The local part is brought to Unicode's composed form
//! (NFC), lower-cased letter by letter, and composed again; a final sigma counts as a sigma. Its
//! case means nothing here although RFC 5321 2.4 lets a receiver tell by it: hardly one does, and
//! a list that is evaded by a capital letter is none. `ß` stays `ß`, and what follows a plus sign
//! is part of the address.

use std::fmt;
use std::str::FromStr;

use unicode_normalization::UnicodeNormalization;

use crate::message::address::{Address, InvalidAddress};

/// An address or a whole domain, normalised.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    /// `ann@example.org`.
    Address(String),
    /// `@example.org`: everybody there; not at its subdomains.
    Domain(String),
}

impl Subject {
    /// Reads `ann@example.org`, or a domain as `@example.org` or `example.org`.
    pub fn try_new(text: &str) -> Result<Self, InvalidAddress> {
        // Composed first: an address is not taken in the other form.
        let text: String = text.trim().nfc().collect();
        let text = text.as_str();
        match text.rsplit_once('@') {
            Some((local, _)) if !local.is_empty() => {
                Ok(Self::Address(normal_form(Address::try_new(text)?.as_str())))
            }
            found => {
                let domain = found.map_or(text, |(_, domain)| domain);
                let probe = Address::try_new(&format!("postmaster@{domain}"))?;
                Ok(Self::Domain(domain_form(probe.as_str())))
            }
        }
    }

    /// As it is compared.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Address(text) | Self::Domain(text) => text,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Subject {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        Self::try_new(text)
    }
}

/// The compared form of an address that was read before.
pub fn normal_form(address: &str) -> String {
    let (local, domain) = address.rsplit_once('@').unwrap_or((address, ""));
    let domain = domain.to_ascii_lowercase();
    if local.is_ascii() {
        return format!("{}@{domain}", local.to_ascii_lowercase());
    }
    let lower = local.nfc().flat_map(char::to_lowercase);
    let local: String = lower.map(|c| if c == 'ς' { 'σ' } else { c }).nfc().collect();
    format!("{local}@{domain}")
}

/// The compared form of the domain of an address that was read before.
pub fn domain_form(address: &str) -> String {
    let domain = address.rsplit_once('@').map_or(address, |(_, domain)| domain);
    format!("@{}", domain.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_means_the_same_person_is_the_same_text() {
        for (text, expected) in [
            ("Ann@Example.ORG", "ann@example.org"),
            (" ann@example.org ", "ann@example.org"),
            ("Ann+News@example.org", "ann+news@example.org"),
            ("MÜLLER@bücher.example", "müller@xn--bcher-kva.example"),
            ("mu\u{308}ller@BÜCHER.example", "müller@xn--bcher-kva.example"),
            ("ΣΊΣΥΦΟΣ@example.org", "σίσυφοσ@example.org"),
            ("σίσυφος@example.org", "σίσυφοσ@example.org"),
            ("用户@例子.中国", "用户@xn--fsqu00a.xn--fiqs8s"),
            ("@Example.org", "@example.org"),
            ("bücher.example", "@xn--bcher-kva.example"),
        ] {
            let subject = Subject::try_new(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(subject.as_str(), expected);
            assert_eq!(Subject::try_new(subject.as_str()), Ok(subject), "{text}");
        }
        for bad in ["", "@", "ann@", "ann", "localhost", "a b@c.example", "@exa mple.org", "#abc"] {
            assert!(Subject::try_new(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn the_form_of_a_form_is_itself(local in "\\PC{1,12}", domain in "[a-z]{1,8}\\.example") {
            let once = normal_form(&format!("{local}@{domain}"));
            prop_assert_eq!(normal_form(&once), once.clone());
        }
    }
}
