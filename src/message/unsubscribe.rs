//! One-click unsubscribe links (RFC 8058): a token that names a delivery.
//!
//! The token is opaque and cannot be guessed or altered: the delivery's number and
//! an HMAC over it. Nothing is stored for it, so links work as long as the
//! installation keeps the key that signed them. Several keys can be valid: the first
//! signs, and one that is retired later stays behind it for as long as its links matter.

use std::fmt;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq;

use crate::config::{LinkKey, Secrets};
use crate::domain::ids::DeliveryId;

/// Proof that a link was made here, for this delivery.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// Makes and reads tokens.
#[derive(Clone)]
pub struct TokenKey(hmac::Key);

/// All keys that are valid, the one that signs first.
#[derive(Debug, Clone)]
pub struct TokenKeys(Vec<TokenKey>);

/// A text that is no token of this installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// Not of the form of a token: cut off, or something else.
    #[error("this is not an unsubscribe link, or only a part of one")]
    Malformed,
    /// Of its form, but signed by none of our keys.
    #[error("this is not an unsubscribe link of ours, or it was changed on the way")]
    Forged,
}

impl InvalidToken {
    /// The name in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Forged => "forged",
        }
    }
}

/// Keeps this use of the installation's key apart from every other.
const PURPOSE: &[u8] = b"postrider unsubscribe token v1";

/// 128 bits: nobody guesses one (RFC 2104 5 asks for at least half of the hash).
const TAG_LEN: usize = 16;

const ID_LEN: usize = 8;

impl TokenKey {
    /// Derives the key from the installation's 32 bytes.
    pub fn derive(installation_key: &[u8; 32]) -> Self {
        let root = hmac::Key::new(hmac::HMAC_SHA256, installation_key);
        let derived = hmac::sign(&root, PURPOSE);
        Self(hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()))
    }

    /// The token of a delivery; always the same one.
    pub fn token(&self, delivery: DeliveryId) -> Token {
        let id = delivery.get().to_be_bytes();
        let mut bytes = [0; ID_LEN + TAG_LEN];
        bytes[..ID_LEN].copy_from_slice(&id);
        bytes[ID_LEN..].copy_from_slice(&hmac::sign(&self.0, &id).as_ref()[..TAG_LEN]);
        Token(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// The delivery that a token names. Takes the same time whatever is wrong with the tag.
    pub fn read(&self, token: &str) -> Result<DeliveryId, InvalidToken> {
        let mut bytes = [0; ID_LEN + TAG_LEN];
        match URL_SAFE_NO_PAD.decode_slice(token, &mut bytes) {
            Ok(len) if len == bytes.len() => {}
            _ => return Err(InvalidToken::Malformed),
        }
        let (id, tag) = bytes.split_at(ID_LEN);
        let expected = hmac::sign(&self.0, id);
        if !bool::from(expected.as_ref()[..TAG_LEN].ct_eq(tag)) {
            return Err(InvalidToken::Forged);
        }
        let id = id.try_into().map_err(|_| InvalidToken::Malformed)?;
        Ok(DeliveryId::new(i64::from_be_bytes(id)))
    }
}

impl TokenKeys {
    /// The keys of an installation; `None` when it has none.
    pub fn new(secrets: &Secrets) -> Option<Self> {
        let installation = secrets.key_bytes();
        let derive = |key: LinkKey| match key {
            LinkKey::Own(key) => Some(TokenKey::derive(&key)),
            LinkKey::Installation => installation.as_ref().map(|key| TokenKey::derive(key)),
        };
        let keys: Vec<TokenKey> = secrets.links().into_iter().filter_map(derive).collect();
        (!keys.is_empty()).then_some(Self(keys))
    }

    /// The token of a delivery under the key that signs.
    pub fn token(&self, delivery: DeliveryId) -> Option<Token> {
        self.0.first().map(|key| key.token(delivery))
    }

    /// The delivery that a token names, if any of the keys signed it.
    pub fn read(&self, token: &str) -> Result<DeliveryId, InvalidToken> {
        let mut fault = InvalidToken::Malformed;
        for key in &self.0 {
            match key.read(token) {
                Ok(delivery) => return Ok(delivery),
                Err(error) => fault = error,
            }
        }
        Err(fault)
    }
}

impl Token {
    /// As it stands in a link.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The address that List-Unsubscribe names: `{public_url}/u/{token}`.
pub fn link(public_url: &str, token: &Token) -> String {
    format!("{}/u/{}", public_url.trim_end_matches('/'), token.0)
}

impl fmt::Debug for Token {
    /// Whoever has it can unsubscribe someone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_link_names_its_delivery() {
        let key = TokenKey::derive(&[7; 32]);
        let token = key.token(DeliveryId::new(42));
        assert_eq!(key.read(token.as_str()), Ok(DeliveryId::new(42)));
        assert_eq!(
            link("https://mail.shop.example/", &token),
            format!("https://mail.shop.example/u/{}", token.as_str())
        );
        assert_eq!(token.as_str().len(), 32);
        assert!(TokenKey::derive(&[8; 32]).read(token.as_str()).is_err());
    }

    #[test]
    fn the_first_key_signs_and_all_are_honoured() {
        use crate::config::secret::Secret;
        let own = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
        let secrets = |links: Option<String>| Secrets {
            key: Some(Secret::new("dGVzdCBrZXkgb2YgMzIgYnl0ZXMsIG5vIHNlY3JldCE=")),
            link_keys: links.map(Secret::new),
        };
        let old = TokenKeys::new(&secrets(None)).expect("the installation's");
        let both = TokenKeys::new(&secrets(Some(format!("{own}\ninstallation")))).expect("both");
        let new = TokenKeys::new(&secrets(Some(own.into()))).expect("the new one");
        let id = DeliveryId::new(42);
        let before = old.token(id).expect("a token");
        let after = both.token(id).expect("a token");
        assert_ne!(before.as_str(), after.as_str());
        assert_eq!(both.read(before.as_str()), Ok(id));
        assert_eq!(both.read(after.as_str()), Ok(id));
        assert_eq!(new.read(after.as_str()), Ok(id));
        assert_eq!(new.read(before.as_str()), Err(InvalidToken::Forged), "it was retired");
        assert_eq!(both.read(&before.as_str()[..31]), Err(InvalidToken::Malformed));
    }

    proptest! {
        #[test]
        fn a_changed_token_is_refused(id in any::<i64>(), at in 0_usize..32, to in "[A-Za-z0-9_-]") {
            let key = TokenKey::derive(&[1; 32]);
            let token = key.token(DeliveryId::new(id));
            let mut changed = token.as_str().to_owned();
            changed.replace_range(at..=at, &to);
            prop_assert_eq!(key.read(&changed).is_ok(), changed == token.as_str());
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in ".*") {
            prop_assert!(TokenKey::derive(&[1; 32]).read(&text).is_err());
        }
    }
}
