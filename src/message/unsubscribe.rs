//! One-click unsubscribe links (RFC 8058): a token that names a delivery.
//!
//! The token is opaque and cannot be guessed or altered: the delivery's number and
//! an HMAC over it. Nothing is stored for it, so links work as long as the
//! installation keeps the version of its key that they were made under.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::keyring::{Keyring, TAG_LEN};
use crate::config::Secrets;
use crate::domain::ids::DeliveryId;

/// Proof that a link was made here, for this delivery.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// Makes and reads tokens.
#[derive(Clone)]
pub struct TokenKey(Keyring);

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

const ID_LEN: usize = 8;

impl TokenKey {
    /// Derives the key from the installation's 32 bytes.
    pub fn derive(installation_key: &[u8; 32]) -> Self {
        Self(Keyring::derive(installation_key, PURPOSE))
    }

    /// Of every version of the installation's key; `None` where there is none.
    pub fn of(secrets: &Secrets) -> Option<Self> {
        Keyring::of(secrets, PURPOSE).map(Self)
    }

    /// The token of a delivery; always the same one.
    pub fn token(&self, delivery: DeliveryId) -> Token {
        let id = delivery.get().to_be_bytes();
        let mut bytes = [0; ID_LEN + TAG_LEN];
        bytes[..ID_LEN].copy_from_slice(&id);
        bytes[ID_LEN..].copy_from_slice(&self.0.tag(&[&id]));
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
        if !self.0.made(tag, &[id]) {
            return Err(InvalidToken::Forged);
        }
        let id = id.try_into().map_err(|_| InvalidToken::Malformed)?;
        Ok(DeliveryId::new(i64::from_be_bytes(id)))
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
    use crate::config::secret::Secret;
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
    fn a_link_of_an_older_key_goes_on_to_work() {
        let (old, new) = (
            "Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc=",
            "ODg4ODg4ODg4ODg4ODg4ODg4ODg4ODg4ODg4ODg4ODg=",
        );
        let of =
            |text: String| TokenKey::of(&Secrets { key: Some(Secret::new(text)) }).expect("keys");
        let (before, after) = (of(old.into()), of(format!("1:{old} 2:{new}")));
        let id = DeliveryId::new(42);
        assert_eq!(after.read(before.token(id).as_str()), Ok(id));
        assert_ne!(after.token(id), before.token(id), "new links are made under the new key");
        let retired = of(format!("2:{new}")).read(before.token(id).as_str());
        assert_eq!(retired, Err(InvalidToken::Forged));
        assert_eq!(after.read(&before.token(id).as_str()[..31]), Err(InvalidToken::Malformed));
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
