//! API keys: make, parse, hash, compare.
//!
//! A key is `pr_PREFIX_SECRET`: 8 characters to look it up by, and 256 random
//! bits. It is shown once; only the SHA-256 of the whole key is kept, which is
//! enough for a random key (a slow hash guards weak passwords, not these).

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::Rng;
use subtle::ConstantTimeEq;

/// What every key starts with, so that scanners can find leaked ones.
const BRAND: &str = "pr_";
const PREFIX_LEN: usize = 8;
/// 32 of them, so that five random bits choose one evenly.
const LETTERS: &[u8] = b"0123456789abcdefghjkmnpqrstvwxyz";
const SECRET_LEN: usize = 43;

/// A key as its holder knows it. Prints only its prefix.
#[derive(Clone)]
pub struct ApiKey(String);

/// Text that is not a key of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a key like pr_xxxxxxxx_…")]
pub struct InvalidKey;

impl ApiKey {
    /// A new random key.
    pub fn generate() -> Self {
        let mut rng = rand::rng();
        let mut prefix = [0u8; PREFIX_LEN];
        for byte in &mut prefix {
            *byte = LETTERS[(rng.next_u32() & 31) as usize];
        }
        let mut secret = [0u8; 32];
        rng.fill_bytes(&mut secret);
        Self(format!(
            "{BRAND}{}_{}",
            String::from_utf8_lossy(&prefix),
            URL_SAFE_NO_PAD.encode(secret)
        ))
    }

    /// Reads a key; says nothing of what was wrong.
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        let rest = text.strip_prefix(BRAND).ok_or(InvalidKey)?;
        let (prefix, secret) = rest.split_at_checked(PREFIX_LEN).ok_or(InvalidKey)?;
        let secret = secret.strip_prefix('_').ok_or(InvalidKey)?;
        let fine = |s: &str| s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if secret.len() != SECRET_LEN || !fine(prefix) || !fine(secret) {
            return Err(InvalidKey);
        }
        Ok(Self(text.to_owned()))
    }

    /// The part that is stored readable and looked up by.
    pub fn prefix(&self) -> &str {
        &self.0[..BRAND.len() + PREFIX_LEN]
    }

    /// What is stored of the rest.
    pub fn hash(&self) -> [u8; 32] {
        let mut out = [0u8; 32];
        out.copy_from_slice(digest(&SHA256, self.0.as_bytes()).as_ref());
        out
    }

    /// Whether this key made `hash`, in constant time.
    pub fn matches(&self, hash: &[u8]) -> bool {
        self.hash().as_slice().ct_eq(hash).into()
    }

    /// The whole key: to be shown once, to the one who asked for it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKey({}_…)", self.prefix())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_and_matches_only_itself() {
        let key = ApiKey::generate();
        let again = ApiKey::parse(key.reveal()).expect("a key");
        assert!(again.matches(&key.hash()));
        assert!(!ApiKey::generate().matches(&key.hash()));
        assert!(!format!("{key:?}").contains(&key.reveal()[12..]));
    }

    #[test]
    fn other_texts_are_no_keys() {
        for text in [
            "",
            "pr_",
            "pr_abcdefgh_",
            "pr_äöüäöüäö_x",
            "sk_abcdefgh_0123456789012345678901234567890123456789012",
        ] {
            assert!(ApiKey::parse(text).is_err(), "{text}");
        }
    }
}
