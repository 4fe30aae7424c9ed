//! [`TrackingKey`]: makes the addresses that tracked links lead over, and reads them.
//!
//! A token is the delivery's number, an HMAC and, for a click, where the link leads. The HMAC
//! covers the host too: what one tenant's mail was signed for works on that tenant's host and on
//! no other, so nobody lends a foreign name to pages of his own.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::target::Target;
use crate::config::Secrets;
use crate::domain::ids::DeliveryId;
use crate::message::keyring::{Keyring, TAG_LEN};

/// Makes and reads addresses.
#[derive(Clone)]
pub struct TrackingKey(Keyring);

/// A link that was followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clicked {
    /// Of which mail.
    pub delivery: DeliveryId,
    /// Where it leads.
    pub target: Target,
}

/// A text that is no token of this installation for this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLink {
    /// Not of the form of a token: cut off, or something else.
    #[error("this is not a link of ours, or only a part of one")]
    Malformed,
    /// Of its form, but signed by none of our keys, or for another host.
    #[error("this is not a link of ours, or it was changed on the way")]
    Forged,
}

impl InvalidLink {
    /// The name in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Forged => "forged",
        }
    }
}

/// Keeps this use of the installation's key apart from every other.
const PURPOSE: &[u8] = b"postrider tracking link v1";

const ID_LEN: usize = 8;

/// Longest token that is looked at, in bytes; those that are made are shorter.
const MAX_TOKEN: usize = 4_096;

/// What a token is for: one for the picture is none for a link, whatever follows it.
#[derive(Clone, Copy)]
enum Use {
    Open,
    Click,
}

impl TrackingKey {
    /// Derives the key from the installation's 32 bytes.
    pub fn derive(installation_key: &[u8; 32]) -> Self {
        Self(Keyring::derive(installation_key, PURPOSE))
    }

    /// Of every version of the installation's key; `None` where there is none.
    pub fn of(secrets: &Secrets) -> Option<Self> {
        Keyring::of(secrets, PURPOSE).map(Self)
    }

    /// The address of a mail's picture: `https://{host}/o/{token}`.
    pub fn open_link(&self, host: &str, delivery: DeliveryId) -> String {
        format!("https://{host}/o/{}", self.token(Use::Open, host, delivery, ""))
    }

    /// The address of a link that leads to `target`: `https://{host}/c/{token}`.
    pub fn click_link(&self, host: &str, delivery: DeliveryId, target: &Target) -> String {
        format!("https://{host}/c/{}", self.token(Use::Click, host, delivery, target.as_str()))
    }

    /// Whose picture was asked for at `host`.
    pub fn read_open(&self, host: &str, token: &str) -> Result<DeliveryId, InvalidLink> {
        match self.read(Use::Open, host, token)? {
            (delivery, rest) if rest.is_empty() => Ok(delivery),
            _ => Err(InvalidLink::Malformed),
        }
    }

    /// Which link was followed at `host`, and where it leads.
    pub fn read_click(&self, host: &str, token: &str) -> Result<Clicked, InvalidLink> {
        let (delivery, target) = self.read(Use::Click, host, token)?;
        // What is signed is one. Should that ever not be so, nobody is sent there.
        let target = Target::read(&target).ok_or(InvalidLink::Malformed)?;
        Ok(Clicked { delivery, target })
    }

    fn token(&self, what: Use, host: &str, delivery: DeliveryId, target: &str) -> String {
        let id = delivery.get().to_be_bytes();
        let tag = self.tag(what, host, id, target);
        URL_SAFE_NO_PAD.encode([&id[..], &tag[..], target.as_bytes()].concat())
    }

    /// Takes the same time whatever is wrong with the tag.
    fn read(
        &self,
        what: Use,
        host: &str,
        token: &str,
    ) -> Result<(DeliveryId, String), InvalidLink> {
        let malformed = InvalidLink::Malformed;
        if token.len() > MAX_TOKEN {
            return Err(malformed);
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| malformed)?;
        let (id, rest) = bytes.split_first_chunk::<ID_LEN>().ok_or(malformed)?;
        let (tag, target) = rest.split_first_chunk::<TAG_LEN>().ok_or(malformed)?;
        let host = host.as_bytes();
        if !self.0.made(tag, &parts(&what.mark(host), host, id, target)) {
            return Err(InvalidLink::Forged);
        }
        let target = str::from_utf8(target).map_err(|_| malformed)?;
        Ok((DeliveryId::new(i64::from_be_bytes(*id)), target.to_owned()))
    }

    fn tag(&self, what: Use, host: &str, id: [u8; ID_LEN], target: &str) -> [u8; TAG_LEN] {
        let host = host.as_bytes();
        self.0.tag(&parts(&what.mark(host), host, &id, target.as_bytes()))
    }
}

/// Everything before the target has its length in it or a fixed one.
fn parts<'a>(mark: &'a [u8; 3], host: &'a [u8], id: &'a [u8], target: &'a [u8]) -> [&'a [u8]; 4] {
    [mark, host, id, target]
}

impl Use {
    /// The use and the host's length.
    fn mark(self, host: &[u8]) -> [u8; 3] {
        let letter = match self {
            Self::Open => b'o',
            Self::Click => b'c',
        };
        let [high, low] = u16::try_from(host.len()).unwrap_or(u16::MAX).to_be_bytes();
        [letter, high, low]
    }
}

impl fmt::Debug for TrackingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TrackingKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::secret::Secret;
    use proptest::prelude::*;

    const HOST: &str = "link.shop.example";

    fn key() -> TrackingKey {
        TrackingKey::derive(&[7; 32])
    }

    fn target() -> Target {
        Target::read("https://shop.example/tea?a=1&b=2#c").expect("a target")
    }

    fn token_of(link: &str) -> &str {
        link.rsplit('/').next().expect("a token")
    }

    #[test]
    fn an_address_says_which_mail_and_where_to() {
        let id = DeliveryId::new(42);
        let link = key().click_link(HOST, id, &target());
        assert!(link.starts_with("https://link.shop.example/c/"), "{link}");
        let clicked = Clicked { delivery: id, target: target() };
        assert_eq!(key().read_click(HOST, token_of(&link)), Ok(clicked));
        let picture = key().open_link(HOST, id);
        assert!(picture.starts_with("https://link.shop.example/o/"), "{picture}");
        assert_eq!(key().read_open(HOST, token_of(&picture)), Ok(id));
        assert_eq!(token_of(&picture).len(), 32);
    }

    #[test]
    fn it_holds_for_one_host_one_use_and_one_key() {
        let id = DeliveryId::new(42);
        let (link, picture) = (key().click_link(HOST, id, &target()), key().open_link(HOST, id));
        let (click, open) = (token_of(&link), token_of(&picture));
        for host in
            ["", "shop.example", "link.other.example", "link.shop.example.", "k.shop.example"]
        {
            assert_eq!(key().read_click(host, click), Err(InvalidLink::Forged), "{host}");
            assert_eq!(key().read_open(host, open), Err(InvalidLink::Forged), "{host}");
        }
        assert_eq!(key().read_click(HOST, open), Err(InvalidLink::Forged));
        assert_eq!(key().read_open(HOST, click), Err(InvalidLink::Forged));
        let other = TrackingKey::derive(&[8; 32]);
        assert_eq!(other.read_click(HOST, click), Err(InvalidLink::Forged));
        // Part of the host in place of the number does not pass for one of a shorter host.
        let unsubscribe = crate::message::unsubscribe::TokenKey::derive(&[7; 32]);
        assert_eq!(key().read_open(HOST, unsubscribe.token(id).as_str()), Err(InvalidLink::Forged));
        assert!(unsubscribe.read(open).is_err());
    }

    #[test]
    fn a_link_of_an_older_key_goes_on_to_work() {
        let (old, new) = (
            "Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc=",
            "ODg4ODg4ODg4ODg4ODg4ODg4ODg4ODg4ODg4ODg4ODg=",
        );
        let of = |text: String| {
            TrackingKey::of(&Secrets { key: Some(Secret::new(text)) }).expect("keys")
        };
        let (before, after) = (of(old.into()), of(format!("1:{old} 2:{new}")));
        let link = before.click_link(HOST, DeliveryId::new(42), &target());
        assert!(after.read_click(HOST, token_of(&link)).is_ok());
        assert_ne!(after.click_link(HOST, DeliveryId::new(42), &target()), link);
        let retired = of(format!("2:{new}")).read_click(HOST, token_of(&link));
        assert_eq!(retired, Err(InvalidLink::Forged));
    }

    proptest! {
        #[test]
        fn a_changed_token_leads_nowhere(id: i64, at in 0_usize..76, to in "[A-Za-z0-9_-]") {
            let link = key().click_link(HOST, DeliveryId::new(id), &target());
            let token = token_of(&link);
            let mut changed = token.to_owned();
            changed.replace_range(at..=at, &to);
            prop_assert_eq!(key().read_click(HOST, &changed).is_ok(), changed == token);
        }

        #[test]
        fn a_shortened_or_lengthened_token_leads_nowhere(keep in 0_usize..78, more in "[A-Za-z0-9_-]{1,9}") {
            let link = key().click_link(HOST, DeliveryId::new(7), &target());
            let token = token_of(&link);
            let short = &token[..keep.min(token.len() - 1)];
            prop_assert!(key().read_click(HOST, short).is_err());
            let long = format!("{token}{more}");
            prop_assert!(key().read_click(HOST, &long).is_err());
        }

        #[test]
        fn no_text_makes_the_reader_panic(host in ".*", text in ".*") {
            prop_assert!(key().read_click(&host, &text).is_err());
            prop_assert!(key().read_open(&host, &text).is_err());
        }
    }
}
