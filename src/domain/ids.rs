//! Names and numbers by which tenants, messages and deliveries are known.
//!
//! Numeric ids are minted by the database only (never from host, pid or local
//! clock). Outside they are written with a prefix, so that one kind cannot be
//! taken for another: `msg_0R8K…`, `dlv_0R8K…`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Crockford's alphabet: no I, L, O, U, so an id survives being read aloud.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Characters of a written id: 13 x 5 bits hold 63 bits and sort as the numbers do.
const WRITTEN_LEN: usize = 13;

/// An id that does not read as one of its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidId {
    expected: &'static str,
    found: String,
}

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "expected an id like {}{}, found {:?}",
            self.expected,
            "0".repeat(WRITTEN_LEN),
            self.found
        )
    }
}

impl std::error::Error for InvalidId {}

fn write_base32(value: i64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut text = [b'0'; WRITTEN_LEN];
    let mut rest = value as u64;
    for slot in text.iter_mut().rev() {
        *slot = ALPHABET[(rest & 31) as usize];
        rest >>= 5;
    }
    f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
}

fn read_base32(text: &str) -> Option<i64> {
    if text.len() != WRITTEN_LEN {
        return None;
    }
    let mut value: u128 = 0;
    for byte in text.bytes() {
        let digit = ALPHABET.iter().position(|a| *a == byte.to_ascii_uppercase())?;
        value = (value << 5) | digit as u128;
    }
    i64::try_from(value).ok()
}

macro_rules! numeric_id {
    ($(#[$doc:meta])* $name:ident($repr:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name($repr);

        impl $name {
            /// Wraps a number that the database gave out.
            pub const fn new(value: $repr) -> Self {
                Self(value)
            }

            /// The number as the database knows it.
            pub const fn get(self) -> $repr {
                self.0
            }
        }
    };
}

macro_rules! written_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(i64);

        impl $name {
            /// Wraps a number that the database gave out.
            pub const fn new(value: i64) -> Self {
                Self(value)
            }

            /// The number as the database knows it.
            pub const fn get(self) -> i64 {
                self.0
            }

            /// The cell that minted it. Its row may have moved since, and an id from before
            /// there were cells may name any: where to look first, no more.
            pub const fn minted_in(self) -> CellNumber {
                CellNumber(((self.0 >> 16) & 63) as u8)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($prefix)?;
                write_base32(self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                text.strip_prefix($prefix)
                    .and_then(read_base32)
                    .map(Self)
                    .ok_or_else(|| InvalidId { expected: $prefix, found: text.chars().take(40).collect() })
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

numeric_id!(
    /// A cell, 0 to 63: one database with the whole schema.
    CellNumber(u8)
);
numeric_id!(
    /// One customer of the installation.
    TenantId(i64)
);
numeric_id!(
    /// A tenant's stream: the unit of pause and cancel.
    StreamId(i32)
);
numeric_id!(
    /// Tenant x destination pool x priority x stream.
    LaneId(i32)
);
numeric_id!(
    /// Destination pool: a mailbox provider, or 0 for everyone else.
    PoolId(i16)
);
numeric_id!(
    /// One incarnation of a worker process: half of the fence.
    SessionId(i64)
);
numeric_id!(
    /// Claims ever made of a job, monotonic: the other half of the fence.
    Hold(i32)
);

written_id!(
    /// What a tenant submitted: content, sender, recipients.
    MessageId,
    "msg_"
);
written_id!(
    /// One message to one recipient: the unit of work. The queue calls it a job.
    DeliveryId,
    "dlv_"
);
written_id!(
    /// Something that a tenant is told of its mail.
    EventId,
    "evt_"
);
written_id!(
    /// An endpoint of a tenant that is told.
    WebhookId,
    "whk_"
);

/// Who receives: `google`, `microsoft`, …, or [`MailboxProvider::OTHER`].
///
/// Not to be mixed up with a *provider*, an HTTP service that sends for us.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MailboxProvider(Arc<str>);

impl MailboxProvider {
    /// The name of the pool for every destination that no rule names.
    pub const OTHER: &'static str = "other";

    /// Names a mailbox provider.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// Everyone that no rule names.
    pub fn other() -> Self {
        Self(Arc::from(Self::OTHER))
    }

    /// The name as configured.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MailboxProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_written_id_reads_back(value in 0..i64::MAX) {
            let id = DeliveryId::new(value);
            prop_assert_eq!(id.to_string().parse::<DeliveryId>(), Ok(id));
        }

        #[test]
        fn written_ids_sort_as_numbers(a in 0..i64::MAX, b in 0..i64::MAX) {
            prop_assert_eq!(
                MessageId::new(a).to_string().cmp(&MessageId::new(b).to_string()),
                a.cmp(&b)
            );
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".*") {
            let _ = text.parse::<MessageId>();
        }
    }

    #[test]
    fn an_id_names_the_cell_that_minted_it() {
        let id = (218_000_000_000_i64 << 22) | (37 << 16) | 65_535;
        assert_eq!(MessageId::new(id).minted_in(), CellNumber::new(37));
    }

    #[test]
    fn one_kind_is_not_taken_for_another() {
        let id = MessageId::new(7).to_string();
        assert!(id.parse::<DeliveryId>().is_err());
        assert!("msg_ZZZZZZZZZZZZZ".parse::<MessageId>().is_err());
    }
}
