//! Names and values of header fields that a tenant may set.
//!
//! A line break in a value would start a header of its own, or end the header
//! section; so these types refuse every control character. They do not strip:
//! a value that looked like an attack must not be sent in another shape.

use std::fmt;

/// The name of a custom header field.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HeaderName(String);

/// The value of a header field before folding: no control character, bounded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderText(String);

/// Why a header field cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHeader {
    /// Not RFC 5322 `ftext`.
    #[error("expected letters, digits and hyphens, found {0:?}")]
    Name(String),
    /// The field belongs to us.
    #[error("{0} cannot be set by a custom header: {1}")]
    Reserved(String, &'static str),
    /// A line break, NUL or another control character.
    #[error("holds the control character U+{:04X} at character {at}; line breaks are not allowed here", *found as u32)]
    Control {
        /// The character.
        found: char,
        /// Where, from 1.
        at: usize,
    },
    /// Longer than a header may be.
    #[error("is {found} bytes long, {limit} are allowed")]
    TooLong {
        /// Bytes allowed.
        limit: usize,
        /// Bytes found.
        found: usize,
    },
}

/// RFC 5322 2.1.1 allows 998 bytes in a line; the name takes part of one.
pub const MAX_NAME: usize = 76;

/// A value that has no place to fold must still fit in a line of 998 bytes with its name.
pub const MAX_VALUE: usize = 900;

const BY_FIELD: &str = "use the field of the message";
const BY_US: &str = "it is written for every mail";
const BY_RECEIVER: &str = "it is written on the way";

const BY_PROVIDER: &str = "a provider takes it for an order of the installation";

/// Fields by which providers take orders, such as the name under which they speak of a mail in
/// their callbacks: a tenant could have them speak of somebody else's.
const TO_PROVIDERS: [&str; 4] = ["x-ses-", "x-mailgun-", "x-smtpapi", "x-sg-"];

/// Fields that a custom header would contradict.
const RESERVED: &[(&str, &str)] = &[
    ("from", BY_FIELD),
    ("to", BY_FIELD),
    ("cc", BY_FIELD),
    ("bcc", BY_FIELD),
    ("reply-to", BY_FIELD),
    ("subject", BY_FIELD),
    ("sender", BY_US),
    ("date", BY_US),
    ("message-id", BY_US),
    ("mime-version", BY_US),
    ("dkim-signature", BY_US),
    ("return-path", BY_RECEIVER),
    ("received", BY_RECEIVER),
    ("authentication-results", BY_RECEIVER),
    ("delivered-to", BY_RECEIVER),
];

impl HeaderName {
    /// Reads a name: letters, digits, hyphen and underscore, and none of ours.
    pub fn try_new(name: &str) -> Result<Self, InvalidHeader> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if name.is_empty() || !name.bytes().all(allowed) {
            return Err(InvalidHeader::Name(name.chars().take(80).collect()));
        }
        if name.len() > MAX_NAME {
            return Err(InvalidHeader::TooLong { limit: MAX_NAME, found: name.len() });
        }
        let lower = name.to_ascii_lowercase();
        let reserved = RESERVED.iter().find(|(reserved, _)| *reserved == lower);
        if let Some((_, why)) = reserved {
            return Err(InvalidHeader::Reserved(name.to_owned(), why));
        }
        if ["content-", "resent-", "arc-"].iter().any(|prefix| lower.starts_with(prefix)) {
            return Err(InvalidHeader::Reserved(name.to_owned(), BY_US));
        }
        if TO_PROVIDERS.iter().any(|prefix| lower.starts_with(prefix)) {
            return Err(InvalidHeader::Reserved(name.to_owned(), BY_PROVIDER));
        }
        Ok(Self(name.to_owned()))
    }

    /// As given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a bulk mail writes this field itself (RFC 8058).
    pub fn is_unsubscribe(&self) -> bool {
        self.0.eq_ignore_ascii_case("list-unsubscribe")
            || self.0.eq_ignore_ascii_case("list-unsubscribe-post")
    }
}

impl HeaderText {
    /// Reads a value of at most `limit` bytes; white space around it is dropped.
    pub fn try_new(value: &str, limit: usize) -> Result<Self, InvalidHeader> {
        let value = value.trim();
        if value.len() > limit {
            return Err(InvalidHeader::TooLong { limit, found: value.len() });
        }
        refuse_controls(value)?;
        Ok(Self(value.to_owned()))
    }

    /// The value.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Refuses what could end a line somewhere on the way: C0, DEL, C1 (NEL is one),
/// and Unicode's line and paragraph separators. A tab becomes part of the refusal
/// too: nobody writes one on purpose.
pub(crate) fn refuse_controls(text: &str) -> Result<(), InvalidHeader> {
    let bad = |c: char| c.is_control() || c == '\u{2028}' || c == '\u{2029}';
    match text.chars().position(bad) {
        None => Ok(()),
        Some(at) => Err(InvalidHeader::Control {
            found: text.chars().nth(at).unwrap_or_default(),
            at: at + 1,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn our_fields_and_odd_names_are_refused() {
        for name in [
            "",
            "From",
            "TO",
            "bcc",
            "Message-ID",
            "Content-Type",
            "content-transfer-encoding",
            "DKIM-Signature",
            "Received",
            "Sender",
            "ARC-Seal",
            "Resent-To",
            "X Foo",
            "X:Foo",
            "X-Foo\r\nBcc",
            "X-Foö",
            "X-\0",
        ] {
            assert!(HeaderName::try_new(name).is_err(), "{name:?}");
        }
        assert!(HeaderName::try_new(&"x".repeat(MAX_NAME + 1)).is_err());
        for name in ["X-Campaign", "List-Id", "In-Reply-To", "Feedback-ID", "__proto__"] {
            assert!(HeaderName::try_new(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn nobody_gives_orders_to_a_provider() {
        for name in ["X-SES-MESSAGE-TAGS", "x-smtpapi", "X-SG-EID", "X-Mailgun-Variables"] {
            let error = HeaderName::try_new(name).expect_err(name);
            assert!(error.to_string().contains("order of the installation"), "{error}");
        }
    }

    #[test]
    fn a_control_character_is_named() {
        let error = HeaderText::try_new("ab\ncd", 100).expect_err("refused");
        assert_eq!(error, InvalidHeader::Control { found: '\n', at: 3 });
        assert!(error.to_string().contains("U+000A"), "{error}");
        for value in ["a\rb", "a\0b", "a\u{85}b", "a\u{2028}b", "a\u{2029}b", "a\u{7f}b", "a\tb"] {
            assert!(HeaderText::try_new(value, 100).is_err(), "{value:?}");
        }
    }

    #[test]
    fn the_limit_is_in_bytes() {
        assert!(HeaderText::try_new(&"é".repeat(5), 10).is_ok());
        assert!(HeaderText::try_new(&"é".repeat(5), 9).is_err());
    }

    proptest! {
        #[test]
        fn no_accepted_value_holds_a_line_break(value in "(?s).*") {
            if let Ok(text) = HeaderText::try_new(&value, 4_000) {
                let breaks = ['\r', '\n', '\0', '\u{85}', '\u{2028}', '\u{2029}'];
                prop_assert!(!text.as_str().contains(breaks));
            }
        }
    }
}
