//! [`Sealer`]: private keys at rest.
//!
//! AES-256-GCM under a key derived from the installation's (`[secrets] key_file`),
//! a random nonce for each sealing, and the owner as associated data: a ciphertext
//! that is moved to another tenant, domain or selector does not open. On any failure
//! the answer is an error, never part of a plaintext.
//!
//! The installation's key has versions: the newest seals, all that are configured open
//! (docs/adr/0034-key-versions.md).
//!
//! Stored form 1, under key version 1: the byte 1, 12 bytes of nonce, ciphertext, 16 bytes of
//! tag. Stored form 2: the byte 2, two bytes of the key's version, and the same behind them; the
//! three bytes are part of the associated data.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use crate::config::{KeyFault, Secrets};
use crate::domain::ids::TenantId;

/// Seals and opens what must not lie readable in the database.
pub struct Sealer {
    /// The one that seals first; never empty.
    keys: Vec<(u16, RandomizedNonceKey)>,
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
    /// A configured key is none.
    #[error("the keys in [secrets]: {0} (make one: openssl rand -base64 32)")]
    BadKey(#[from] KeyFault),
    /// Sealed by a version of the program that this one does not know, or not by us.
    #[error("the sealed key is damaged: expected form 1 or 2 and at least {MIN_LEN} bytes")]
    Damaged,
    /// The key that sealed it is not configured.
    #[error(
        "a private key was sealed under key version {version}, and [secrets] holds {known}: \
         add that version to key_file again"
    )]
    Missing {
        /// The version that sealed it.
        version: u16,
        /// What is configured.
        known: String,
    },
    /// Another key of this version sealed it, or it was sealed for another owner.
    #[error(
        "a private key does not open under key version {version}: another key of this version \
         sealed it, or its row was moved; set [secrets] key_file to the key it was sealed with"
    )]
    Refused {
        /// The version that should have opened it.
        version: u16,
    },
    /// The random source or the cipher failed.
    #[error("the cipher refused to seal")]
    Cipher,
}

impl Sealer {
    /// The sealer of this installation.
    pub fn new(secrets: &Secrets) -> Result<Self, SealError> {
        let mut keys = Vec::new();
        for key in secrets.keys()? {
            // A key of its own for this use: other parts derive theirs under other names.
            let root = hmac::Key::new(hmac::HMAC_SHA256, key.bytes.as_slice());
            let derived = hmac::sign(&root, PURPOSE);
            let sealing = RandomizedNonceKey::new(&AES_256_GCM, derived.as_ref())
                .map_err(|_| SealError::Cipher)?;
            keys.push((key.version, sealing));
        }
        if keys.is_empty() { Err(SealError::NoKey) } else { Ok(Self { keys }) }
    }

    /// The version of the key that seals.
    pub fn newest(&self) -> u16 {
        self.keys.first().map_or(0, |(version, _)| *version)
    }

    /// The versions that open, the one that seals first.
    pub fn versions(&self) -> Vec<u16> {
        self.keys.iter().map(|(version, _)| *version).collect()
    }

    /// Seals `secret` for `owner`.
    pub fn seal(&self, owner: Owner<'_>, secret: &[u8]) -> Result<Vec<u8>, SealError> {
        let (version, key) = self.keys.first().ok_or(SealError::NoKey)?;
        // Form 1 as long as it can say it: a release from before there were versions reads it.
        let head =
            if *version == 1 { vec![1] } else { [&[2][..], &version.to_be_bytes()].concat() };
        let mut text = Vec::with_capacity(secret.len() + AES_256_GCM.tag_len());
        text.extend_from_slice(secret);
        let nonce = key
            .seal_in_place_append_tag(Aad::from(owner.bytes(&head)), &mut text)
            .map_err(|_| SealError::Cipher)?;
        let mut sealed = head;
        sealed.reserve_exact(NONCE_LEN + text.len());
        sealed.extend_from_slice(nonce.as_ref());
        sealed.append(&mut text);
        Ok(sealed)
    }

    /// Opens what was sealed for `owner`. The plaintext is wiped when dropped.
    pub fn open(&self, owner: Owner<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let version = version_of(sealed).ok_or(SealError::Damaged)?;
        let (head, rest) = sealed.split_at(if sealed.first() == Some(&1) { 1 } else { 3 });
        let key = self.keys.iter().find(|(known, _)| *known == version);
        let (_, key) = key.ok_or_else(|| SealError::Missing { version, known: self.known() })?;
        let (nonce, text) = rest.split_first_chunk::<NONCE_LEN>().ok_or(SealError::Damaged)?;
        let mut text = Zeroizing::new(text.to_vec());
        let length = key
            .open_in_place(Nonce::from(nonce), Aad::from(owner.bytes(head)), &mut text)
            .map_err(|_| SealError::Refused { version })?
            .len();
        text.truncate(length);
        Ok(text)
    }

    fn known(&self) -> String {
        let versions: Vec<String> = self.versions().iter().map(ToString::to_string).collect();
        match &versions[..] {
            [one] => format!("only version {one}"),
            several => format!("versions {}", several.join(", ")),
        }
    }
}

/// Under which key version something was sealed; `None` if it is no seal of ours.
/// `postrider.sealed_under` says the same in the database.
pub fn version_of(sealed: &[u8]) -> Option<u16> {
    match sealed {
        [1, ..] if sealed.len() >= MIN_LEN => Some(1),
        [2, high, low, ..] if sealed.len() >= MIN_LEN + 2 => {
            Some(u16::from_be_bytes([*high, *low]))
        }
        _ => None,
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(…)")
    }
}

impl Owner<'_> {
    /// No two owners have the same bytes: neither name can hold a zero byte. Form 1 has no more
    /// than that; what form 2 has before its nonce cannot be changed either.
    fn bytes(&self, head: &[u8]) -> Vec<u8> {
        let mut bytes = if head == [1] { Vec::new() } else { head.to_vec() };
        bytes.extend_from_slice(&self.tenant.get().to_be_bytes());
        bytes.extend_from_slice(self.domain.as_bytes());
        bytes.push(0);
        bytes.extend_from_slice(self.selector.as_bytes());
        bytes
    }
}

const PURPOSE: &[u8] = b"postrider: private keys at rest, 1";
/// Form, nonce and tag of an empty secret.
const MIN_LEN: usize = 1 + NONCE_LEN + 16;

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use crate::config::secret::Secret;

    const OWNER: Owner<'_> =
        Owner { tenant: TenantId::new(7), domain: "shop.example", selector: "a" };

    /// A key for each version.
    fn ring(keys: &[(u16, u8)]) -> Sealer {
        let written =
            |(version, byte): &(u16, u8)| format!("{version}:{}", STANDARD.encode([*byte; 32]));
        let text: Vec<String> = keys.iter().map(written).collect();
        Sealer::new(&Secrets { key: Some(Secret::new(text.join("\n"))) }).expect("a sealer")
    }

    fn sealer(byte: u8) -> Sealer {
        ring(&[(1, byte)])
    }

    #[test]
    fn what_was_sealed_opens_for_its_owner() {
        let sealed = sealer(1).seal(OWNER, b"private").expect("sealed");
        assert!(!sealed.windows(7).any(|w| w == b"private"));
        assert_eq!(sealer(1).open(OWNER, &sealed).expect("open").as_slice(), b"private");
        assert_ne!(sealed, sealer(1).seal(OWNER, b"private").expect("sealed"), "a fresh nonce");
    }

    #[test]
    fn the_newest_version_seals_and_all_open() {
        let (old, both, new) = (ring(&[(1, 1)]), ring(&[(1, 1), (2, 2)]), ring(&[(2, 2)]));
        let first = old.seal(OWNER, b"private").expect("sealed");
        let second = both.seal(OWNER, b"private").expect("sealed");
        assert_eq!([version_of(&first), version_of(&second)], [Some(1), Some(2)]);
        for sealed in [&first, &second] {
            assert_eq!(both.open(OWNER, sealed).expect("open").as_slice(), b"private");
        }
        assert_eq!(new.open(OWNER, &second).expect("open").as_slice(), b"private");
        let missing = new.open(OWNER, &first).expect_err("gone").to_string();
        assert!(
            missing.contains("key version 1") && missing.contains("only version 2"),
            "{missing}"
        );
        let unknown = old.open(OWNER, &second).expect_err("not known yet");
        assert_eq!(unknown, SealError::Missing { version: 2, known: "only version 1".into() });
        let other = ring(&[(1, 1), (2, 9)]).open(OWNER, &second).expect_err("another key");
        assert_eq!(other, SealError::Refused { version: 2 });
        // The version is part of what is sealed.
        let mut posed = second;
        posed[2] = 3;
        assert!(ring(&[(3, 2)]).open(OWNER, &posed).is_err());
    }

    #[test]
    fn another_key_or_another_owner_does_not_open_it() {
        for make in [sealer as fn(u8) -> Sealer, |byte| ring(&[(9, byte)])] {
            let sealed = make(1).seal(OWNER, b"private").expect("sealed");
            let refused = |error| matches!(error, SealError::Refused { .. });
            assert!(refused(make(2).open(OWNER, &sealed).expect_err("key")));
            for moved in [
                Owner { tenant: TenantId::new(8), ..OWNER },
                Owner { domain: "shop.exampl", selector: "ea", ..OWNER },
                Owner { selector: "b", ..OWNER },
            ] {
                assert!(refused(make(1).open(moved, &sealed).expect_err("moved")));
            }
        }
    }

    #[test]
    fn damage_is_an_error_at_every_byte_and_length() {
        for sealer in [sealer(1), ring(&[(2, 1)])] {
            let sealed = sealer.seal(OWNER, b"private").expect("sealed");
            for at in 0..sealed.len() {
                let mut bent = sealed.clone();
                bent[at] ^= 1;
                assert!(sealer.open(OWNER, &bent).is_err(), "byte {at}");
                assert!(sealer.open(OWNER, &sealed[..at]).is_err(), "length {at}");
            }
        }
    }

    #[test]
    fn a_key_of_another_size_is_refused_without_showing_it() {
        let bad = |text: &str| {
            Sealer::new(&Secrets { key: Some(Secret::new(text)) }).expect_err("refused").to_string()
        };
        assert!(bad(&STANDARD.encode([1u8; 16])).contains("16 bytes"));
        assert!(!bad("hunter2!").contains("hunter2"));
        assert_eq!(Sealer::new(&Secrets::default()).expect_err("none"), SealError::NoKey);
        assert_eq!(format!("{:?}", sealer(1)), "Sealer(…)");
    }
}
