//! Key pairs for DKIM: RSA with 2048 bits and Ed25519, on aws-lc-rs.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// How a key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// RSA with 2048 bits: what every receiver verifies.
    RsaSha256,
    /// Ed25519 (RFC 8463): cheap, ignored by some receivers.
    Ed25519Sha256,
}

impl Algorithm {
    /// The value of `a=`, also used in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RsaSha256 => "rsa-sha256",
            Self::Ed25519Sha256 => "ed25519-sha256",
        }
    }
}

impl FromStr for Algorithm {
    type Err = KeyError;

    fn from_str(name: &str) -> Result<Self, KeyError> {
        [Self::RsaSha256, Self::Ed25519Sha256]
            .into_iter()
            .find(|algorithm| algorithm.as_str() == name)
            .ok_or(KeyError::UnknownAlgorithm)
    }
}

/// A private key with its public part. Prints only its algorithm.
pub struct KeyPair(Inner);

enum Inner {
    Rsa(Box<RsaKeyPair>),
    Ed25519(Ed25519KeyPair),
}

/// A key that cannot be made or read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The random source or the library failed.
    #[error("a key could not be generated")]
    Generation,
    /// Not the name of an algorithm we sign with.
    #[error("expected rsa-sha256 or ed25519-sha256")]
    UnknownAlgorithm,
    /// Not a private key of this algorithm in PKCS#8.
    #[error("expected an {} private key in PKCS#8, found something else", .0.as_str())]
    Unreadable(Algorithm),
}

impl KeyPair {
    /// A new random key.
    pub fn generate(algorithm: Algorithm) -> Result<Self, KeyError> {
        let inner = match algorithm {
            Algorithm::RsaSha256 => {
                RsaKeyPair::generate(KeySize::Rsa2048).map(|key| Inner::Rsa(Box::new(key)))
            }
            Algorithm::Ed25519Sha256 => Ed25519KeyPair::generate().map(Inner::Ed25519),
        };
        inner.map(Self).map_err(|_| KeyError::Generation)
    }

    /// Reads a private key from PKCS#8.
    pub fn from_pkcs8(algorithm: Algorithm, pkcs8: &[u8]) -> Result<Self, KeyError> {
        let inner = match algorithm {
            Algorithm::RsaSha256 => {
                RsaKeyPair::from_pkcs8(pkcs8).map(|key| Inner::Rsa(Box::new(key)))
            }
            Algorithm::Ed25519Sha256 => {
                Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).map(Inner::Ed25519)
            }
        };
        inner.map(Self).map_err(|_| KeyError::Unreadable(algorithm))
    }

    /// The private key in PKCS#8, wiped when dropped; to be sealed before it is stored.
    pub fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let der = match &self.0 {
            Inner::Rsa(key) => {
                let der: Result<Pkcs8V1Der<'_>, _> = key.as_der();
                der.map(|der| der.as_ref().to_vec())
            }
            Inner::Ed25519(key) => key.to_pkcs8v1().map(|der| der.as_ref().to_vec()),
        };
        der.map(Zeroizing::new).map_err(|_| KeyError::Generation)
    }

    /// How it signs.
    pub fn algorithm(&self) -> Algorithm {
        match self.0 {
            Inner::Rsa(_) => Algorithm::RsaSha256,
            Inner::Ed25519(_) => Algorithm::Ed25519Sha256,
        }
    }

    /// The public key as it stands in `p=` before base64: SubjectPublicKeyInfo for RSA (what
    /// every verifier takes, RFC 6376 erratum 7001), the bare 32 bytes for Ed25519.
    pub fn public_key(&self) -> Result<Vec<u8>, KeyError> {
        match &self.0 {
            Inner::Rsa(key) => {
                let der: Result<PublicKeyX509Der<'_>, _> = key.public_key().as_der();
                der.map(|der| der.as_ref().to_vec()).map_err(|_| KeyError::Generation)
            }
            Inner::Ed25519(key) => Ok(key.public_key().as_ref().to_vec()),
        }
    }

    /// The text of the TXT record to publish at `selector._domainkey.domain`.
    pub fn public_record(&self) -> Result<String, KeyError> {
        Ok(record(self.algorithm(), &self.public_key()?))
    }

    /// The signature over `input`; `None` when the library refuses.
    pub(super) fn sign(&self, input: &[u8]) -> Option<Vec<u8>> {
        match &self.0 {
            Inner::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), input, &mut signature).ok()?;
                Some(signature)
            }
            // RFC 8463 signs the SHA-256 of the input, not the input.
            Inner::Ed25519(key) => {
                let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, input);
                key.try_sign(digest.as_ref()).ok().map(|signature| signature.as_ref().to_vec())
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
        write!(f, "KeyPair({})", self.algorithm().as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_pkcs8_and_does_not_print_itself() {
        for algorithm in [Algorithm::RsaSha256, Algorithm::Ed25519Sha256] {
            let key = KeyPair::generate(algorithm).expect("generate");
            let pkcs8 = key.to_pkcs8().expect("write");
            let again = KeyPair::from_pkcs8(algorithm, &pkcs8).expect("read");
            assert_eq!(again.public_key(), key.public_key());
            assert_eq!(format!("{key:?}"), format!("KeyPair({})", algorithm.as_str()));
            assert!(key.public_record().expect("record").starts_with("v=DKIM1; k="));
        }
        let wrong = KeyPair::from_pkcs8(Algorithm::RsaSha256, b"nonsense");
        assert_eq!(wrong.err(), Some(KeyError::Unreadable(Algorithm::RsaSha256)));
    }
}
