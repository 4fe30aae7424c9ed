//! An address with the name shown beside it: `Shop <orders@shop.example>`.

use std::fmt;
use std::str::FromStr;

use super::address::{Address, InvalidAddress};
use super::header::{InvalidHeader, refuse_controls};

/// A sender or recipient as written in a header (RFC 5322 3.4 `mailbox`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mailbox {
    name: Option<String>,
    address: Address,
}

/// Why a text is not a mailbox.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMailbox {
    /// The part in angle brackets, or the whole, is no address.
    #[error(transparent)]
    Address(#[from] InvalidAddress),
    /// The display name cannot be written.
    #[error("the display name {0}")]
    Name(#[from] InvalidHeader),
    /// The quotes or brackets do not match.
    #[error("expected name@example.com or Name <name@example.com>, found {0:?}")]
    Form(String),
}

/// Longest display name in bytes: enough for any name, and the folded header stays short.
pub const MAX_NAME: usize = 256;

impl Mailbox {
    /// Puts a name (may be empty: then there is none) beside an address.
    pub fn try_new(name: &str, address: Address) -> Result<Self, InvalidMailbox> {
        let name = name.trim();
        refuse_controls(name)?;
        if name.len() > MAX_NAME {
            return Err(InvalidHeader::TooLong { limit: MAX_NAME, found: name.len() }.into());
        }
        Ok(Self { name: (!name.is_empty()).then(|| name.to_owned()), address })
    }

    /// The display name, without quotes.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The address.
    pub fn address(&self) -> &Address {
        &self.address
    }
}

impl From<Address> for Mailbox {
    fn from(address: Address) -> Self {
        Self { name: None, address }
    }
}

impl FromStr for Mailbox {
    type Err = InvalidMailbox;

    fn from_str(text: &str) -> Result<Self, InvalidMailbox> {
        let form = || InvalidMailbox::Form(text.chars().take(80).collect());
        refuse_controls(text)?;
        let text = text.trim();
        let Some(open) = text.rfind('<') else {
            return Ok(Address::try_new(text)?.into());
        };
        let address = text[open + 1..].strip_suffix('>').ok_or_else(form)?;
        let name = unquote(text[..open].trim()).ok_or_else(form)?;
        Self::try_new(&name, Address::try_new(address)?)
    }
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            None => self.address.fmt(f),
            Some(name) => {
                f.write_str("\"")?;
                for c in name.chars() {
                    if matches!(c, '"' | '\\') {
                        f.write_str("\\")?;
                    }
                    write!(f, "{c}")?;
                }
                write!(f, "\" <{}>", self.address)
            }
        }
    }
}

/// The text of a display name: a quoted string without its quotes and escapes, or
/// words as they are. `None`: quotes that do not match, or brackets (two addresses
/// in one field would hide the real one).
fn unquote(name: &str) -> Option<String> {
    let Some(quoted) = name.strip_prefix('"') else {
        return (!name.contains(['"', '<', '>'])).then(|| name.to_owned());
    };
    let mut text = String::with_capacity(quoted.len());
    let mut chars = quoted.chars();
    loop {
        match chars.next()? {
            '"' => break,
            '\\' => text.push(chars.next()?),
            c => text.push(c),
        }
    }
    chars.as_str().is_empty().then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_and_addresses_are_told_apart() {
        for (text, name, address) in [
            ("a@shop.example", None, "a@shop.example"),
            ("<a@shop.example>", None, "a@shop.example"),
            ("Shop <a@shop.example>", Some("Shop"), "a@shop.example"),
            ("  The Shop  <a@SHOP.example> ", Some("The Shop"), "a@shop.example"),
            (r#""Doe, Jane" <j@x.example>"#, Some("Doe, Jane"), "j@x.example"),
            (r#""a \"b\" \\ c" <j@x.example>"#, Some(r#"a "b" \ c"#), "j@x.example"),
            (r#""<evil@x.example>" <j@x.example>"#, Some("<evil@x.example>"), "j@x.example"),
            (r#""" <j@x.example>"#, None, "j@x.example"),
            ("Müller, <j@x.example>", Some("Müller,"), "j@x.example"),
        ] {
            let mailbox: Mailbox = text.parse().expect(text);
            assert_eq!((mailbox.name(), mailbox.address().as_str()), (name, address), "{text}");
        }
    }

    #[test]
    fn what_is_no_mailbox_is_refused() {
        for text in [
            "",
            "Shop",
            "Shop <a@shop.example",
            "Shop a@shop.example>",
            "Shop <>",
            "Shop <a@shop.example> x",
            r#""Shop <a@shop.example>"#,
            r#""Shop" x <a@shop.example>"#,
            "A <a@x.example> <b@x.example>",
            "a@x.example, b@x.example",
            "Shop\r\nBcc: b@x.example <a@shop.example>",
            "Shop\u{2028} <a@shop.example>",
            "Shop\0 <a@shop.example>",
        ] {
            assert!(text.parse::<Mailbox>().is_err(), "{text:?}");
        }
        let long = format!("{} <a@x.example>", "n".repeat(MAX_NAME + 1));
        assert!(long.parse::<Mailbox>().is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(name in "[^\\p{Cc}\u{2028}\u{2029}]{0,40}") {
            let address = Address::try_new("a@x.example").expect("valid");
            if let Ok(mailbox) = Mailbox::try_new(&name, address) {
                prop_assert_eq!(mailbox.to_string().parse::<Mailbox>().expect("reads back"), mailbox);
            }
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".*") {
            let _ = text.parse::<Mailbox>();
        }
    }
}
