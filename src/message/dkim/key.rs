//! A DKIM key pair.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{self, KeySize};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256};
use aws_lc_rs::{digest, error::Unspecified};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// How a key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// RSA of 2048 bits with SHA-256: what every receiver knows.
    RsaSha256,
    /// Ed25519 with SHA-256 (RFC 8463): small and fast, not known everywhere.
    Ed25519Sha256,
}

/// A private key, and the public one that the DNS shows.
pub struct KeyPair(Inner);

enum Inner {
    // Boxed: a parsed RSA key is large beside the other.
    Rsa(Box<rsa::KeyPair>),
    Ed25519(Ed25519KeyPair),
}

/// A private key that cannot be used or made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefused {
    /// Not PKCS#8, or not of the algorithm it is stored under.
    #[error("expected an {0} private key in PKCS#8")]
    Unreadable(Algorithm),
    /// Too short for today's receivers.
    #[error("expected an RSA key of at least 2048 bits, found {0}")]
    TooShort(usize),
    /// The library or the system's randomness failed.
    #[error("no key could be generated")]
    Generate,
}

/// Shortest RSA modulus in bits (RFC 8301 3.2 recommends 2048).
const MIN_RSA_BITS: usize = 2048;

impl Algorithm {
    /// The value of `a=` (RFC 6376 3.3, RFC 8463 3), and the name used in storage.
    pub const fn tag(self) -> &'static str {
        match self {
            Self::RsaSha256 => "rsa-sha256",
            Self::Ed25519Sha256 => "ed25519-sha256",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.tag())
    }
}

/// A name that is no algorithm of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected rsa-sha256 or ed25519-sha256, found {0:?}")]
pub struct UnknownAlgorithm(String);

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    fn from_str(text: &str) -> Result<Self, UnknownAlgorithm> {
        [Self::RsaSha256, Self::Ed25519Sha256]
            .into_iter()
            .find(|algorithm| algorithm.tag() == text)
            .ok_or_else(|| UnknownAlgorithm(text.chars().take(40).collect()))
    }
}

impl KeyPair {
    /// Makes a new key. RSA takes some tenths of a second: not for an async task.
    pub fn generate(algorithm: Algorithm) -> Result<Self, KeyRefused> {
        let refused = |_: Unspecified| KeyRefused::Generate;
        Ok(Self(match algorithm {
            Algorithm::RsaSha256 => {
                Inner::Rsa(Box::new(rsa::KeyPair::generate(KeySize::Rsa2048).map_err(refused)?))
            }
            Algorithm::Ed25519Sha256 => {
                Inner::Ed25519(Ed25519KeyPair::generate().map_err(refused)?)
            }
        }))
    }

    /// Reads a stored key.
    pub fn from_pkcs8(algorithm: Algorithm, der: &[u8]) -> Result<Self, KeyRefused> {
        let unreadable = |_| KeyRefused::Unreadable(algorithm);
        Ok(Self(match algorithm {
            Algorithm::RsaSha256 => {
                let key = rsa::KeyPair::from_pkcs8(der).map_err(unreadable)?;
                let bits = key.public_modulus_len() * 8;
                if bits < MIN_RSA_BITS {
                    return Err(KeyRefused::TooShort(bits));
                }
                Inner::Rsa(Box::new(key))
            }
            Algorithm::Ed25519Sha256 => {
                Inner::Ed25519(Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(unreadable)?)
            }
        }))
    }

    /// The private key as it is stored (encrypted, by the caller); wiped on drop.
    pub fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, KeyRefused> {
        let der = match &self.0 {
            Inner::Rsa(key) => AsDer::<Pkcs8V1Der<'_>>::as_der(&**key).map(|d| d.as_ref().to_vec()),
            Inner::Ed25519(key) => key.to_pkcs8v1().map(|d| d.as_ref().to_vec()),
        };
        der.map(Zeroizing::new).map_err(|_| KeyRefused::Generate)
    }

    /// How it signs.
    pub fn algorithm(&self) -> Algorithm {
        match self.0 {
            Inner::Rsa(_) => Algorithm::RsaSha256,
            Inner::Ed25519(_) => Algorithm::Ed25519Sha256,
        }
    }

    /// The public key as it is stored and published: SubjectPublicKeyInfo for RSA, which
    /// every verifier takes, and the bare 32 bytes for Ed25519 (RFC 8463 4).
    pub fn public_key(&self) -> Result<Vec<u8>, KeyRefused> {
        match &self.0 {
            Inner::Rsa(key) => {
                let der: Result<PublicKeyX509Der<'_>, _> = key.public_key().as_der();
                der.map(|der| der.as_ref().to_vec()).map_err(|_| KeyRefused::Generate)
            }
            Inner::Ed25519(key) => Ok(key.public_key().as_ref().to_vec()),
        }
    }

    /// The text of the TXT record at `selector._domainkey.domain` (RFC 6376 3.6.1).
    pub fn public_record(&self) -> Result<String, KeyRefused> {
        Ok(record(self.algorithm(), &self.public_key()?))
    }

    /// Signs the canonical headers.
    pub(super) fn sign(&self, input: &[u8]) -> Result<Vec<u8>, Unspecified> {
        match &self.0 {
            Inner::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), input, &mut signature)?;
                Ok(signature)
            }
            // RFC 8463 3: the hash is what is signed.
            Inner::Ed25519(key) => {
                let hash = digest::digest(&digest::SHA256, input);
                Ok(key.try_sign(hash.as_ref())?.as_ref().to_vec())
            }
        }
    }
}

/// The text of the TXT record of a stored public key.
pub fn record(algorithm: Algorithm, public_key: &[u8]) -> String {
    let kind = match algorithm {
        Algorithm::RsaSha256 => "rsa",
        Algorithm::Ed25519Sha256 => "ed25519",
    };
    format!("v=DKIM1; k={kind}; p={}", STANDARD.encode(public_key))
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPair({}, …)", self.algorithm())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_stored_and_read_back() {
        for algorithm in [Algorithm::RsaSha256, Algorithm::Ed25519Sha256] {
            let key = KeyPair::generate(algorithm).expect("a key");
            let der = key.to_pkcs8().expect("stored");
            let again = KeyPair::from_pkcs8(algorithm, &der).expect("read back");
            assert_eq!(again.public_record(), key.public_record());
            assert_eq!(again.sign(b"x").expect("signed"), key.sign(b"x").expect("signed"));
            assert_eq!(algorithm.tag().parse(), Ok(algorithm));
            let other = match algorithm {
                Algorithm::RsaSha256 => Algorithm::Ed25519Sha256,
                Algorithm::Ed25519Sha256 => Algorithm::RsaSha256,
            };
            assert!(KeyPair::from_pkcs8(other, &der).is_err());
            assert!(KeyPair::from_pkcs8(algorithm, &der[1..]).is_err());
            assert!(!format!("{key:?}").contains(&STANDARD.encode(&**der)[30..40]));
        }
    }

    #[test]
    fn records_are_those_of_the_rfcs() {
        let record = |algorithm| {
            KeyPair::generate(algorithm).and_then(|key| key.public_record()).expect("a record")
        };
        assert!(record(Algorithm::RsaSha256).starts_with("v=DKIM1; k=rsa; p=MIIBIjANBgkqhkiG9w0B"));
        let ed25519 = record(Algorithm::Ed25519Sha256);
        let key = ed25519.strip_prefix("v=DKIM1; k=ed25519; p=").expect("the form");
        assert_eq!(STANDARD.decode(key).expect("base64").len(), 32);
    }
}
