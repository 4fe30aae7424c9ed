//! `[suppression]`: how the list of those who are not written to is kept, and when failures that
//! pass by themselves put somebody on it.

use std::time::Duration;

use zeroize::Zeroizing;

use crate::config::reader::Reader;
use crate::config::secret::Secret;

/// The list of suppressions.
#[derive(Debug, Clone, PartialEq)]
pub struct Suppression {
    /// Whether new entries are stored as keyed hashes (false: in the clear).
    pub hashed: bool,
    /// 32 bytes, base64, from `key_file`, the systemd credential `postrider.suppression-key`, or
    /// `POSTRIDER_SUPPRESSION_KEY`. As long as it is there, entries are looked for under both forms.
    pub key: Option<Secret>,
    /// Days on which a mailbox could not take mail, one after the other, that suppress it (5; 0:
    /// none do).
    pub soft_failures: u16,
    /// From the first of them to the last it must be at least so long (7 d).
    pub soft_over: Duration,
    /// For how long such a suppression lasts (90 d).
    pub soft_lasts: Duration,
    /// Silence after which counting begins anew (30 d).
    pub soft_forget: Duration,
}

const DAY: Duration = Duration::from_secs(86_400);

impl Default for Suppression {
    fn default() -> Self {
        Self {
            hashed: false,
            key: None,
            soft_failures: 5,
            soft_over: 7 * DAY,
            soft_lasts: 90 * DAY,
            soft_forget: 30 * DAY,
        }
    }
}

fn decode(key: &Secret) -> Option<Zeroizing<[u8; 32]>> {
    use base64::Engine;
    let bytes = base64::engine::general_purpose::STANDARD.decode(key.expose().trim()).ok()?;
    let bytes = Zeroizing::new(bytes);
    Some(Zeroizing::new(bytes.as_slice().try_into().ok()?))
}

impl Suppression {
    pub(in crate::config) fn read(section: Reader<'_>, outside: Option<Secret>) -> Self {
        let default = Self::default();
        let key = section.secret("key", "key_file").or(outside).filter(|key| {
            let fits = decode(key).is_some();
            if !fits {
                section.fault(
                    "key",
                    "expected 32 bytes in base64 (44 characters); make one with: openssl rand -base64 32",
                );
            }
            fits
        });
        let year = 366 * DAY;
        let suppression = Self {
            hashed: section.switch("hashed", default.hashed),
            key,
            soft_failures: section.integer("soft_failures", default.soft_failures, 0..=100),
            soft_over: section.duration("soft_over", default.soft_over, Duration::ZERO..=year),
            soft_lasts: section.duration("soft_lasts", default.soft_lasts, DAY..=10 * year),
            soft_forget: section.duration("soft_forget", default.soft_forget, DAY..=year),
        };
        if suppression.hashed && suppression.key.is_none() {
            section.fault("hashed", "needs the key of suppression.key_file");
        }
        section.end();
        suppression
    }

    /// The key of the hashes.
    pub fn key_bytes(&self) -> Option<Zeroizing<[u8; 32]>> {
        decode(self.key.as_ref()?)
    }
}
