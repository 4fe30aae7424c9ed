//! [`Keeper`]: under which text the list has somebody: in the clear, or as a keyed hash.
//!
//! A hash is HMAC-SHA256 under a key that is not in the database, of the normalised text:
//! whoever has a copy of the list can neither read it nor try addresses against it. Whoever has
//! the key looks for both forms, so a row of either is found, whatever the setting says now.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sqlx::PgPool;

use super::subject::{Subject, domain_form, normal_form};
use crate::config::Suppression;

/// Knows how the list names people.
#[derive(Clone, Default)]
pub struct Keeper {
    key: Option<Arc<hmac::Key>>,
    hashed: bool,
}

/// The list was hashed with another key than ours.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Nobody on it would be found.
    #[error(
        "suppression.key_file: expected the key with the mark {expected}, which the list of suppressions was hashed with, found one with the mark {found}; nobody on the list would be found"
    )]
    Other {
        /// The mark in the database.
        expected: String,
        /// The mark of the key that we have.
        found: String,
    },
    /// The database did not say.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Begins the hash of an address; one in the clear has an @, this has none.
const MARK: &str = "#";

/// Begins the hash of a domain: so it stands with the domains in the clear, which are few on most
/// lists and then read at once (migration 0024).
const DOMAIN_MARK: &str = "@#";

/// 32 bytes in base64 without padding.
const HASH_LEN: usize = 43;

impl Keeper {
    /// As the configuration says.
    pub fn new(settings: &Suppression) -> Self {
        let key = settings.key_bytes();
        Self {
            key: key.map(|key| Arc::new(hmac::Key::new(hmac::HMAC_SHA256, key.as_slice()))),
            hashed: settings.hashed,
        }
    }

    /// The text under which a new entry about `subject` is stored.
    pub fn entry(&self, subject: &Subject) -> String {
        self.stored(subject.as_str().to_owned())
    }

    /// The text under which the list would have this recipient.
    pub fn recipient(&self, address: &str) -> String {
        self.stored(normal_form(address))
    }

    /// Every text under which the list may have a subject.
    pub fn forms(&self, subject: &Subject) -> Vec<String> {
        self.all_forms(subject.as_str().to_owned())
    }

    /// Every text under which the list may have this recipient, but for its domain; a hash first.
    pub fn forms_of_address(&self, address: &str) -> Vec<String> {
        self.all_forms(normal_form(address))
    }

    /// Every text under which the list may have the domain of this recipient; a hash first.
    pub fn forms_of_domain(&self, address: &str) -> Vec<String> {
        self.all_forms(domain_form(address))
    }

    /// A stored text in the form of today; `None` if it cannot be told or is so already.
    pub fn renewed(&self, stored: &str) -> Option<String> {
        if Self::is_hash(stored) {
            return None;
        }
        let normal =
            if stored.starts_with('@') { domain_form(stored) } else { normal_form(stored) };
        let renewed = self.stored(normal);
        (renewed != stored).then_some(renewed)
    }

    /// Whether entries can be given as hashes: there are such, and we have their key.
    pub fn takes_hashes(&self) -> bool {
        self.key.is_some()
    }

    /// Whether a text is a hash of ours by its looks.
    pub fn is_hash(text: &str) -> bool {
        text.strip_prefix(DOMAIN_MARK).or_else(|| text.strip_prefix(MARK)).is_some_and(|rest| {
            rest.len() == HASH_LEN
                && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
    }

    /// Makes sure that this is the key of the list in this database, if there is one.
    pub async fn prove(&self, pool: &PgPool) -> Result<(), KeyError> {
        let Some(key) = &self.key else { return Ok(()) };
        let tag = hmac::sign(key, b"postrider suppression key");
        let found = URL_SAFE_NO_PAD.encode(tag.as_ref().get(..6).unwrap_or_default());
        sqlx::query(
            "insert into postrider.suppression_key(mark) values ($1) on conflict do nothing",
        )
        .bind(&found)
        .execute(pool)
        .await?;
        let expected: String = sqlx::query_scalar("select mark from postrider.suppression_key")
            .fetch_one(pool)
            .await?;
        if expected == found { Ok(()) } else { Err(KeyError::Other { expected, found }) }
    }

    fn stored(&self, normal: String) -> String {
        match &self.key {
            Some(key) if self.hashed => hash(key, &normal),
            _ => normal,
        }
    }

    fn all_forms(&self, normal: String) -> Vec<String> {
        match &self.key {
            Some(key) => vec![hash(key, &normal), normal],
            None => vec![normal],
        }
    }
}

fn hash(key: &hmac::Key, normal: &str) -> String {
    let mark = if normal.starts_with('@') { DOMAIN_MARK } else { MARK };
    let mut text = String::with_capacity(mark.len() + HASH_LEN);
    text.push_str(mark);
    URL_SAFE_NO_PAD.encode_string(hmac::sign(key, normal.as_bytes()).as_ref(), &mut text);
    text
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("hashed", &self.hashed).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::secret::Secret;

    fn keeper(hashed: bool) -> Keeper {
        let key = Secret::new("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=");
        Keeper::new(&Suppression { hashed, key: Some(key), ..Suppression::default() })
    }

    #[test]
    fn a_hash_is_the_hmac_of_the_normal_form() {
        let ann = Subject::try_new("Ann@Example.org").expect("an address");
        let stored = keeper(true).entry(&ann);
        // printf %s ann@example.org | openssl dgst -sha256 -hmac 01234567890123456789012345678901 -binary | basenc --base64url
        assert_eq!(stored, EXPECTED);
        assert!(Keeper::is_hash(&stored) && !Keeper::is_hash("ann@example.org"));
        assert_eq!(keeper(true).recipient("ANN@example.org"), stored);
        assert_eq!(keeper(false).entry(&ann), "ann@example.org");
        assert_eq!(keeper(false).forms(&ann), [stored.as_str(), "ann@example.org"]);
        assert_eq!(Keeper::default().forms(&ann), ["ann@example.org"]);
    }

    #[test]
    fn rows_of_before_are_renewed_once() {
        let stored = keeper(true).renewed("ann@example.org").expect("a hash");
        assert_eq!(stored, EXPECTED);
        assert_eq!(keeper(true).renewed(&stored), None);
        let domain = keeper(true).renewed("@example.org").expect("a hash");
        assert!(domain.starts_with("@#") && Keeper::is_hash(&domain), "{domain}");
        assert_eq!(keeper(true).renewed(&domain), None);
        assert_eq!(keeper(false).renewed("Ünal@example.org").as_deref(), Some("ünal@example.org"));
        assert_eq!(keeper(false).renewed("@example.org"), None);
    }

    #[test]
    fn the_key_does_not_print_itself() {
        assert!(!format!("{:?}", keeper(true)).contains("key"));
    }

    const EXPECTED: &str = "#_gK-v1tvxoMgHQt9c3FZAin17FrZCzlXzQwY68_taxo";
}
