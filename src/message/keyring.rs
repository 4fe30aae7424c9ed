//! [`Keyring`]: what a link proves itself with, for one use, by every version of the
//! installation's key.
//!
//! Links are made under the newest version and read under all of them, so they work as long as
//! the installation keeps the version that they were made under (docs/adr/0034).

use std::fmt;

use aws_lc_rs::hmac;
use subtle::ConstantTimeEq;

use crate::config::Secrets;

/// 128 bits: nobody guesses one (RFC 2104 5 asks for at least half of the hash).
pub(super) const TAG_LEN: usize = 16;

/// The keys of one use.
#[derive(Clone)]
pub(super) struct Keyring {
    newest: hmac::Key,
    /// Those of other versions: what they signed is read, and nothing is signed.
    others: Vec<hmac::Key>,
}

impl Keyring {
    /// `purpose` keeps this use of the installation's 32 bytes apart from every other.
    pub(super) fn derive(installation_key: &[u8; 32], purpose: &[u8]) -> Self {
        Self { newest: derived(installation_key, purpose), others: Vec::new() }
    }

    /// Of every version of the installation's key; `None` where there is none.
    pub(super) fn of(secrets: &Secrets, purpose: &[u8]) -> Option<Self> {
        let keys = secrets.keys().ok()?;
        let mut keys = keys.iter().map(|key| derived(&key.bytes, purpose));
        Some(Self { newest: keys.next()?, others: keys.collect() })
    }

    /// The tag over these parts, joined: whoever calls sees to it that two lists of parts never
    /// join to the same bytes.
    pub(super) fn tag(&self, parts: &[&[u8]]) -> [u8; TAG_LEN] {
        tag(&self.newest, parts)
    }

    /// Whether one of our keys made this tag. Takes the same time whatever is wrong with it.
    pub(super) fn made(&self, found: &[u8], parts: &[&[u8]]) -> bool {
        let fits = |key: &hmac::Key| bool::from(tag(key, parts).ct_eq(found));
        fits(&self.newest) || self.others.iter().any(fits)
    }
}

fn tag(key: &hmac::Key, parts: &[&[u8]]) -> [u8; TAG_LEN] {
    let mut context = hmac::Context::with_key(key);
    for part in parts {
        context.update(part);
    }
    let mut tag = [0; TAG_LEN];
    tag.copy_from_slice(&context.sign().as_ref()[..TAG_LEN]);
    tag
}

fn derived(installation_key: &[u8; 32], purpose: &[u8]) -> hmac::Key {
    let root = hmac::Key::new(hmac::HMAC_SHA256, installation_key);
    hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&root, purpose).as_ref())
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyring(…)")
    }
}
