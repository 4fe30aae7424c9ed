//! Unsubscribe links (RFC 8058): an opaque token for each delivery that only this
//! installation can make.
//!
//! The token names the delivery and nothing else; who is unsubscribed from what is looked
//! up when it comes back. It holds no address and cannot be turned into another's.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::domain::ids::DeliveryId;

/// Keeps this use of the installation's key apart from others.
const LABEL: &[u8] = b"postrider unsubscribe v1";

/// Octets of the code that are kept: 128 bits cannot be guessed.
const TAG_LEN: usize = 16;

/// Makes and reads tokens.
pub struct Tokens {
    key: hmac::Key,
}

/// A token that was not made with this key, or not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this unsubscribe link is not valid")]
pub struct InvalidToken;

impl Tokens {
    /// Derives the tokens' key from the installation's.
    pub fn new(installation_key: &[u8]) -> Self {
        let root = hmac::Key::new(hmac::HMAC_SHA256, installation_key);
        let derived = hmac::sign(&root, LABEL);
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()) }
    }

    /// The token of a delivery: 32 characters that are safe in a URL.
    pub fn token(&self, delivery: DeliveryId) -> String {
        let id = delivery.get().to_be_bytes();
        let tag = hmac::sign(&self.key, &id);
        let mut bytes = Vec::with_capacity(id.len() + TAG_LEN);
        bytes.extend_from_slice(&id);
        bytes.extend_from_slice(&tag.as_ref()[..TAG_LEN]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The link for a delivery under the API's public address.
    pub fn link(&self, public_url: &str, delivery: DeliveryId) -> String {
        format!("{}/u/{}", public_url.trim_end_matches('/'), self.token(delivery))
    }

    /// Which delivery a token stands for. Compares in constant time.
    pub fn read(&self, token: &str) -> Result<DeliveryId, InvalidToken> {
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| InvalidToken)?;
        let (id, tag) = bytes.split_first_chunk::<8>().ok_or(InvalidToken)?;
        let expected = hmac::sign(&self.key, id);
        verify_slices_are_equal(tag, &expected.as_ref()[..TAG_LEN]).map_err(|_| InvalidToken)?;
        Ok(DeliveryId::new(i64::from_be_bytes(*id)))
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_and_no_other_does() {
        let tokens = Tokens::new(&[7; 32]);
        let token = tokens.token(DeliveryId::new(42));
        assert_eq!(tokens.read(&token), Ok(DeliveryId::new(42)));
        assert_eq!(Tokens::new(&[8; 32]).read(&token), Err(InvalidToken), "another key");
        for at in 0..token.len() {
            let mut forged = token.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).expect("text");
            assert_eq!(tokens.read(&forged), Err(InvalidToken), "changed at {at}");
        }
        for text in ["", "x", "%%%", &token[..30], &format!("{token}AAAA")] {
            assert_eq!(tokens.read(text), Err(InvalidToken), "{text}");
        }
        let link = tokens.link("https://mail.example.org/", DeliveryId::new(42));
        assert_eq!(link, format!("https://mail.example.org/u/{token}"));
    }
}
