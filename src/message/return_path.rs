//! Addresses that come back to us, each for one delivery: the envelope sender of a mail (VERP)
//! and its mailto for unsubscribing.
//!
//! The local part holds the delivery's number and an HMAC over it, in lower-case base32: 30
//! octets, where 64 are allowed (RFC 5321 4.5.3.1.1), and the same after a system on the way
//! has folded its case. Nobody can make one who has none, and nothing is stored for it. The key
//! changes every 30 days: each period has its own, derived from the installation's, and the
//! number, which holds the time it was given out, says which. An address is honoured for a
//! configured time and never before its number could have been given out
//! (docs/adr/0023-return-paths.md).

use std::fmt;
use std::time::Duration;

use aws_lc_rs::hmac;
use subtle::ConstantTimeEq;

use super::address::Address;
use crate::config::Secrets;
use crate::domain::ids::DeliveryId;

/// What an address is for. The two never stand for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Bounces and other reports: the envelope sender.
    Return,
    /// A mail to it unsubscribes.
    Unsubscribe,
}

/// Makes and reads the addresses of an installation.
#[derive(Clone)]
pub struct ReturnKey {
    key: hmac::Key,
    /// Those of other versions: their addresses are read, and none are made.
    others: Vec<hmac::Key>,
}

/// A local part that is none of ours, or too old.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotOurs {
    /// Not made here, or changed on the way.
    #[error("this is not an address of ours, or it was changed on the way")]
    Forged,
    /// Made here, and no longer honoured.
    #[error("this address is too old")]
    TooOld,
}

/// Keeps this use of the installation's key apart from every other.
const USE: &[u8] = b"postrider return path v1";

/// 80 bits: at a thousand guesses a second, some ten thousand times the age of the universe.
const TAG_LEN: usize = 10;
const ID_LEN: usize = 8;
const ENCODED_LEN: usize = (TAG_LEN + ID_LEN) * 8 / 5 + 1;

/// How long one key signs.
const PERIOD_MS: u64 = 30 * 24 * 3_600 * 1_000;

/// 2020-01-01 in seconds since 1970: the ids' beginning of time.
const BEGIN: u64 = 1_577_836_800;

/// A clock of a database may be ahead of ours.
const AHEAD: Duration = Duration::from_secs(3_600);

/// RFC 4648 6, in lower case.
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

impl Purpose {
    const fn letter(self) -> u8 {
        match self {
            Self::Return => b'b',
            Self::Unsubscribe => b'u',
        }
    }
}

impl ReturnKey {
    /// Derives the key from the installation's 32 bytes.
    pub fn derive(installation_key: &[u8; 32]) -> Self {
        Self { key: derived(installation_key), others: Vec::new() }
    }

    /// Of every version of the installation's key; `None` where there is none.
    pub fn of(secrets: &Secrets) -> Option<Self> {
        let keys = secrets.keys().ok()?;
        let mut keys = keys.iter().map(|key| derived(&key.bytes));
        Some(Self { key: keys.next()?, others: keys.collect() })
    }

    /// The local part for a delivery; always the same one.
    pub fn local_part(&self, purpose: Purpose, delivery: DeliveryId) -> String {
        let mut bytes = delivery.get().to_be_bytes().to_vec();
        bytes.extend_from_slice(&tag(&self.key, purpose, delivery));
        let mut text = String::with_capacity(1 + ENCODED_LEN);
        text.push(purpose.letter() as char);
        encode(&bytes, &mut text);
        text
    }

    /// The whole address; `None` if the domain cannot be in one.
    pub fn address(&self, purpose: Purpose, delivery: DeliveryId, domain: &str) -> Option<Address> {
        Address::try_new(&format!("{}@{domain}", self.local_part(purpose, delivery))).ok()
    }

    /// The delivery that a local part stands for, in whatever case it arrives. `now` is in
    /// seconds since 1970; older than `honoured` is too old. Takes the same time whatever is
    /// wrong with the tag.
    pub fn read(
        &self,
        local_part: &str,
        now: u64,
        honoured: Duration,
    ) -> Result<(Purpose, DeliveryId), NotOurs> {
        let text = local_part.as_bytes();
        let (&letter, rest) = text.split_first().ok_or(NotOurs::Forged)?;
        let purpose = [Purpose::Return, Purpose::Unsubscribe]
            .into_iter()
            .find(|purpose| purpose.letter() == letter.to_ascii_lowercase())
            .ok_or(NotOurs::Forged)?;
        let bytes = decode(rest).ok_or(NotOurs::Forged)?;
        let (id, found) = bytes.split_at(ID_LEN);
        let id: [u8; ID_LEN] = id.try_into().map_err(|_| NotOurs::Forged)?;
        let delivery = DeliveryId::new(i64::from_be_bytes(id));
        let fits =
            |key: &hmac::Key| bool::from(tag(key, purpose, delivery).as_slice().ct_eq(found));
        if !fits(&self.key) && !self.others.iter().any(fits) {
            return Err(NotOurs::Forged);
        }
        let made = BEGIN + milliseconds(delivery) / 1_000;
        if made > now.saturating_add(AHEAD.as_secs()) {
            return Err(NotOurs::Forged);
        }
        if made.saturating_add(honoured.as_secs()) < now {
            return Err(NotOurs::TooOld);
        }
        Ok((purpose, delivery))
    }
}

fn derived(installation_key: &[u8; 32]) -> hmac::Key {
    let root = hmac::Key::new(hmac::HMAC_SHA256, installation_key);
    hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&root, USE).as_ref())
}

fn tag(key: &hmac::Key, purpose: Purpose, delivery: DeliveryId) -> [u8; TAG_LEN] {
    let period = (milliseconds(delivery) / PERIOD_MS).to_be_bytes();
    let key = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(key, &period).as_ref());
    let mut named = [0; ID_LEN + 1];
    named[0] = purpose.letter();
    named[1..].copy_from_slice(&delivery.get().to_be_bytes());
    let mut tag = [0; TAG_LEN];
    tag.copy_from_slice(&hmac::sign(&key, &named).as_ref()[..TAG_LEN]);
    tag
}

/// Milliseconds since 2020 at which the number was given out (migrations/0001_queue.sql).
fn milliseconds(delivery: DeliveryId) -> u64 {
    (delivery.get() as u64) >> 22
}

fn encode(bytes: &[u8], text: &mut String) {
    let (mut held, mut bits) = (0_u32, 0);
    for byte in bytes {
        held = (held << 8) | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(ALPHABET[((held >> bits) & 31) as usize] as char);
        }
    }
    if bits > 0 {
        text.push(ALPHABET[((held << (5 - bits)) & 31) as usize] as char);
    }
}

fn decode(text: &[u8]) -> Option<[u8; ID_LEN + TAG_LEN]> {
    if text.len() != ENCODED_LEN {
        return None;
    }
    let mut bytes = [0; ID_LEN + TAG_LEN];
    let (mut held, mut bits, mut at) = (0_u32, 0, 0);
    for letter in text {
        let value = ALPHABET.iter().position(|known| *known == letter.to_ascii_lowercase())?;
        held = (held << 5) | value as u32;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            *bytes.get_mut(at)? = (held >> bits) as u8;
            at += 1;
        }
    }
    // The last letter is not full: its spare bits are zero, or two texts would mean the same.
    (held & ((1 << bits) - 1) == 0).then_some(bytes)
}

impl fmt::Debug for ReturnKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReturnKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: Duration = Duration::from_secs(86_400);
    /// Some moment in 2026.
    const NOW: u64 = 1_795_000_000;

    fn minted(at: u64) -> DeliveryId {
        DeliveryId::new((((at - BEGIN) * 1_000) << 22) as i64 | 0x4d)
    }

    fn key() -> ReturnKey {
        ReturnKey::derive(&[7; 32])
    }

    #[test]
    fn an_address_names_its_delivery_in_whatever_case_it_comes_back() {
        let local = key().local_part(Purpose::Return, minted(NOW));
        assert_eq!(local.len(), 30);
        for text in [local.clone(), local.to_uppercase()] {
            assert_eq!(key().read(&text, NOW, DAY), Ok((Purpose::Return, minted(NOW))));
        }
        let other = key().local_part(Purpose::Unsubscribe, minted(NOW));
        assert_eq!(key().read(&other, NOW, DAY), Ok((Purpose::Unsubscribe, minted(NOW))));
        assert_eq!(key().read(&format!("u{}", &local[1..]), NOW, DAY), Err(NotOurs::Forged));
        assert_eq!(ReturnKey::derive(&[8; 32]).read(&local, NOW, DAY), Err(NotOurs::Forged));
        let address = key().address(Purpose::Return, minted(NOW), "bounces.shop.example");
        assert!(address.is_some_and(|address| address.local() == local));
    }

    #[test]
    fn the_key_changes_and_old_addresses_are_honoured_for_their_time() {
        let old = minted(NOW - 40 * 86_400);
        let local = key().local_part(Purpose::Return, old);
        assert_eq!(key().read(&local, NOW, 60 * DAY), Ok((Purpose::Return, old)));
        assert_eq!(key().read(&local, NOW, 30 * DAY), Err(NotOurs::TooOld));
        let future = key().local_part(Purpose::Return, minted(NOW + 86_400));
        assert_eq!(key().read(&future, NOW, DAY), Err(NotOurs::Forged));
        // The tag of a number under another period's key is another one.
        let (a, b) = (milliseconds(old) / PERIOD_MS, milliseconds(minted(NOW)) / PERIOD_MS);
        assert_ne!(a, b);
    }

    proptest! {
        #[test]
        fn a_changed_address_is_refused(at in 0_usize..30, to in "[a-z2-7]") {
            let local = key().local_part(Purpose::Return, minted(NOW));
            let mut changed = local.clone();
            changed.replace_range(at..=at, &to);
            prop_assert_eq!(key().read(&changed, NOW, DAY).is_ok(), changed == local);
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in ".{0,40}") {
            prop_assert!(key().read(&text, NOW, DAY).is_err());
        }
    }
}
