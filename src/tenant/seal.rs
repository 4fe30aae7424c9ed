//! [`Sealer`]: private keys at rest.
//!
//! AES-256-GCM under a key derived from the installation's (`[secrets] key_file`),
//! a random nonce for each sealing, and the owner as associated data: a ciphertext
//! that is moved to another tenant, domain or selector does not open. On any failure
//! the answer is an error, never part of a plaintext.
//!
//! Stored form: one version byte, 12 bytes of nonce, ciphertext, 16 bytes of tag.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::config::Secrets;
use crate::domain::ids::TenantId;

/// Seals and opens what must not lie readable in the database.
pub struct Sealer {
    key: RandomizedNonceKey,
}

/// Whose secret it is: part of what the seal proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner<'a> {
    /// The tenant.
    pub tenant: TenantId,
    /// Its sending domain, lower-case A-labels.
    pub domain: &'a str,
    /// The DKIM selector.
    pub selector: &'a str,
}

/// Why something cannot be sealed or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// No key is configured.
    #[error(
        "no key to seal private keys with: set key_file in [secrets] or POSTRIDER_KEY \
         (make one: openssl rand -base64 32)"
    )]
    NoKey,
    /// The configured key is not 32 bytes of base64.
    #[error(
        "the key in [secrets] must be 32 bytes in base64, found {found} \
         (make one: openssl rand -base64 32)"
    )]
    BadKey {
        /// What was found, without its content.
        found: String,
    },
    /// Sealed by a version of the program that this one does not know, or not by us.
    #[error("the sealed key is damaged: expected version {VERSION} and at least {MIN_LEN} bytes")]
    Damaged,
    /// Another key sealed it, or it was sealed for another owner.
    #[error(
        "a private key does not open: it was sealed under another key, or its row was moved; \
         set [secrets] key_file to the key it was sealed with"
    )]
    Refused,
    /// The random source or the cipher failed.
    #[error("the cipher refused to seal")]
    Cipher,
}

impl Sealer {
    /// The sealer of this installation.
    pub fn new(secrets: &Secrets) -> Result<Self, SealError> {
        let text = secrets.key.as_ref().ok_or(SealError::NoKey)?;
        let raw = STANDARD
            .decode(text.expose().trim())
            .map(Zeroizing::new)
            .map_err(|_| SealError::BadKey { found: "something that is not base64".into() })?;
        if raw.len() != AES_256_GCM.key_len() {
            return Err(SealError::BadKey { found: format!("{} bytes", raw.len()) });
        }
        // A key of its own for this use: other parts derive theirs under other names.
        let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &raw), PURPOSE);
        let key = RandomizedNonceKey::new(&AES_256_GCM, derived.as_ref())
            .map_err(|_| SealError::Cipher)?;
        Ok(Self { key })
    }

    /// Seals `secret` for `owner`.
    pub fn seal(&self, owner: Owner<'_>, secret: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut text = Vec::with_capacity(secret.len() + AES_256_GCM.tag_len());
        text.extend_from_slice(secret);
        let nonce = self
            .key
            .seal_in_place_append_tag(Aad::from(owner.bytes()), &mut text)
            .map_err(|_| SealError::Cipher)?;
        let mut sealed = Vec::with_capacity(1 + NONCE_LEN + text.len());
        sealed.push(VERSION);
        sealed.extend_from_slice(nonce.as_ref());
        sealed.append(&mut text);
        Ok(sealed)
    }

    /// Opens what was sealed for `owner`. The plaintext is wiped when dropped.
    pub fn open(&self, owner: Owner<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (&version, rest) = sealed.split_first().ok_or(SealError::Damaged)?;
        if version != VERSION || sealed.len() < MIN_LEN {
            return Err(SealError::Damaged);
        }
        let (nonce, text) = rest.split_first_chunk::<NONCE_LEN>().ok_or(SealError::Damaged)?;
        let mut text = Zeroizing::new(text.to_vec());
        let length = self
            .key
            .open_in_place(Nonce::from(nonce), Aad::from(owner.bytes()), &mut text)
            .map_err(|_| SealError::Refused)?
            .len();
        text.truncate(length);
        Ok(text)
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(…)")
    }
}

impl Owner<'_> {
    /// No two owners have the same bytes: neither name can hold a zero byte.
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.tenant.get().to_be_bytes().to_vec();
        bytes.extend_from_slice(self.domain.as_bytes());
        bytes.push(0);
        bytes.extend_from_slice(self.selector.as_bytes());
        bytes
    }
}

const PURPOSE: &[u8] = b"postrider: private keys at rest, 1";
const VERSION: u8 = 1;
/// Version, nonce and tag of an empty secret.
const MIN_LEN: usize = 1 + NONCE_LEN + 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::secret::Secret;

    const OWNER: Owner<'_> =
        Owner { tenant: TenantId::new(7), domain: "shop.example", selector: "a" };

    fn sealer(byte: u8) -> Sealer {
        let key = Secret::new(STANDARD.encode([byte; 32]));
        Sealer::new(&Secrets { key: Some(key), ..Secrets::default() }).expect("a sealer")
    }

    #[test]
    fn what_was_sealed_opens_for_its_owner() {
        let sealed = sealer(1).seal(OWNER, b"private").expect("sealed");
        assert!(!sealed.windows(7).any(|w| w == b"private"));
        assert_eq!(sealer(1).open(OWNER, &sealed).expect("open").as_slice(), b"private");
        assert_ne!(sealed, sealer(1).seal(OWNER, b"private").expect("sealed"), "a fresh nonce");
    }

    #[test]
    fn another_key_or_another_owner_does_not_open_it() {
        let sealed = sealer(1).seal(OWNER, b"private").expect("sealed");
        assert_eq!(sealer(2).open(OWNER, &sealed).expect_err("key"), SealError::Refused);
        for moved in [
            Owner { tenant: TenantId::new(8), ..OWNER },
            Owner { domain: "shop.exampl", selector: "ea", ..OWNER },
            Owner { selector: "b", ..OWNER },
        ] {
            assert_eq!(sealer(1).open(moved, &sealed).expect_err("moved"), SealError::Refused);
        }
    }

    #[test]
    fn damage_is_an_error_at_every_byte_and_length() {
        let sealed = sealer(1).seal(OWNER, b"private").expect("sealed");
        for at in 0..sealed.len() {
            let mut bent = sealed.clone();
            bent[at] ^= 1;
            assert!(sealer(1).open(OWNER, &bent).is_err(), "byte {at}");
            assert!(sealer(1).open(OWNER, &sealed[..at]).is_err(), "length {at}");
        }
    }

    #[test]
    fn a_key_of_another_size_is_refused_without_showing_it() {
        let bad = |text: &str| {
            Sealer::new(&Secrets { key: Some(Secret::new(text)), ..Secrets::default() })
                .expect_err("refused")
                .to_string()
        };
        assert!(bad(&STANDARD.encode([1u8; 16])).contains("16 bytes"));
        assert!(!bad("hunter2!").contains("hunter2"));
        assert_eq!(Sealer::new(&Secrets::default()).expect_err("none"), SealError::NoKey);
        assert_eq!(format!("{:?}", sealer(1)), "Sealer(…)");
    }
}
