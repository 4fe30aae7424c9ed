//! `[secrets]`: the keys under which private keys are stored.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::config::reader::Reader;
use crate::config::secret::Secret;

/// The installation's keys, one for each version.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Secrets {
    /// One key, or several with their versions, from `key_file`, the systemd credential
    /// `postrider.key`, or `POSTRIDER_KEY`: see [`Secrets::keys`]. Without one nothing can be
    /// signed.
    pub key: Option<Secret>,
}

/// One version of the installation's key.
#[derive(Clone)]
pub struct InstallationKey {
    /// Its version: a higher one is newer.
    pub version: u16,
    /// What it may do.
    pub duty: Duty,
    /// The key.
    pub bytes: Zeroizing<[u8; 32]>,
}

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// Opens, and seals if it is the newest that may.
    Seals,
    /// Only opens: known before every process knows it, or about to go.
    Opens,
}

/// What is wrong with the keys. Says which, and nothing of what they hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// Not 32 bytes of base64.
    #[error("{which}: expected 32 bytes in base64 (44 characters), found {found}")]
    Size {
        /// Which of the keys.
        which: String,
        /// How much was there.
        found: String,
    },
    /// Not a version.
    #[error("key {place}: expected VERSION:KEY or VERSION:open:KEY with a version from 1 to 65535")]
    Version {
        /// Its place among the keys, from 1.
        place: usize,
    },
    /// One version, two keys.
    #[error("key version {version} is there twice: a new key takes a new version")]
    Twice {
        /// The version.
        version: u16,
    },
    /// Nothing new could be sealed.
    #[error("every key only opens: one must be without \":open\"")]
    NoneSeals,
}

impl Secrets {
    pub(in crate::config) fn read(section: Reader<'_>, outside: Option<Secret>) -> Self {
        let mut secrets = Self { key: section.secret("key", "key_file").or(outside) };
        if let Err(fault) = secrets.keys() {
            let hint = "make one with: openssl rand -base64 32";
            section.fault("key", format_args!("{fault}; {hint}"));
            secrets.key = None;
        }
        section.end();
        secrets
    }

    /// Every key, the one that seals first and then the newest first; empty without any.
    ///
    /// A key alone is version 1. Several are written `VERSION:KEY`, with white space or commas
    /// between, and `VERSION:open:KEY` for one that only opens.
    pub fn keys(&self) -> Result<Vec<InstallationKey>, KeyFault> {
        let text = self.key.as_ref().map_or("", Secret::expose);
        let entries = text.split(|c: char| c.is_whitespace() || c == ',').filter(|e| !e.is_empty());
        let mut keys = Vec::new();
        for (n, entry) in entries.enumerate() {
            keys.push(InstallationKey::read(entry, n + 1)?);
        }
        keys.sort_by_key(|key| (key.duty == Duty::Opens, std::cmp::Reverse(key.version)));
        let mut versions: Vec<u16> = keys.iter().map(|key| key.version).collect();
        versions.sort_unstable();
        let twice = versions.windows(2).find_map(|pair| match pair {
            [a, b] if a == b => Some(*a),
            _ => None,
        });
        if let Some(version) = twice {
            return Err(KeyFault::Twice { version });
        }
        match keys.first() {
            Some(first) if first.duty == Duty::Opens => Err(KeyFault::NoneSeals),
            None if self.key.is_some() => {
                Err(KeyFault::Size { which: "the key".into(), found: "nothing".into() })
            }
            _ => Ok(keys),
        }
    }

    /// The key that seals: what is made anew is derived from it.
    pub fn key_bytes(&self) -> Option<Zeroizing<[u8; 32]>> {
        self.keys().ok()?.into_iter().next().map(|key| key.bytes)
    }
}

impl InstallationKey {
    fn read(entry: &str, place: usize) -> Result<Self, KeyFault> {
        let mut parts = entry.split(':');
        let last = parts.next_back().unwrap_or_default();
        let (version, duty) = match (parts.next(), parts.next(), parts.next()) {
            (None, ..) => (Some(1), Duty::Seals),
            (Some(version), None, _) => (version.parse().ok(), Duty::Seals),
            (Some(version), Some("open"), None) => (version.parse().ok(), Duty::Opens),
            _ => (None, Duty::Seals),
        };
        let version = version.filter(|version| *version > 0).ok_or(KeyFault::Version { place })?;
        let bytes = STANDARD.decode(last).map(Zeroizing::new);
        let found = match &bytes {
            Ok(bytes) => format!("{} bytes", bytes.len()),
            Err(_) => "something that is not base64".into(),
        };
        let bytes: Option<[u8; 32]> = bytes.ok().and_then(|bytes| bytes.as_slice().try_into().ok());
        let which = format!("key version {version}");
        let bytes = bytes.ok_or(KeyFault::Size { which, found })?;
        Ok(Self { version, duty, bytes: Zeroizing::new(bytes) })
    }
}

impl std::fmt::Debug for InstallationKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "InstallationKey({}, {:?}, …)", self.version, self.duty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Result<Vec<(u16, u8)>, String> {
        let keys = Secrets { key: Some(Secret::new(text)) }.keys();
        let shown = |key: InstallationKey| (key.version, key.bytes[0]);
        keys.map(|keys| keys.into_iter().map(shown).collect()).map_err(|fault| fault.to_string())
    }

    fn written(byte: u8) -> String {
        STANDARD.encode([byte; 32])
    }

    #[test]
    fn the_newest_key_that_may_seals() {
        let (a, b, c) = (written(1), written(2), written(3));
        assert_eq!(keys(&a), Ok(vec![(1, 1)]));
        assert_eq!(keys(&format!("1:{a}\n2:{b}\n")), Ok(vec![(2, 2), (1, 1)]));
        assert_eq!(keys(&format!("{a},7:{c} 3:{b}")), Ok(vec![(7, 3), (3, 2), (1, 1)]));
        assert_eq!(keys(&format!("1:{a} 2:open:{b}")), Ok(vec![(1, 1), (2, 2)]));
        assert_eq!(Secrets::default().keys().expect("none").len(), 0);
    }

    #[test]
    fn a_fault_names_the_key_and_not_what_it_holds() {
        let good = written(1);
        for (bad, said) in [
            ("hunter2!".to_owned(), "key version 1: expected 32 bytes"),
            ("MDEyMzQ1Njc4OWFiY2Rl".to_owned(), "found 15 bytes"),
            (format!("1:{good} 2:hunter2!"), "key version 2"),
            (format!("0:{good}"), "key 1: expected VERSION:KEY"),
            (format!("{good} x:{good}"), "key 2: expected VERSION:KEY"),
            (format!("2:shut:{good}"), "key 1: expected VERSION:KEY"),
            (format!("{good} 1:{}", written(2)), "key version 1 is there twice"),
            (format!("3:open:{good}"), "every key only opens"),
            (" \n".to_owned(), "found nothing"),
        ] {
            let fault = keys(&bad).expect_err("refused");
            assert!(fault.contains(said) && !fault.contains("hunter2"), "{bad}: {fault}");
        }
        let key = Secrets { key: Some(Secret::new(good.clone())) }.keys().expect("one");
        assert!(!format!("{key:?}").contains(&good[..8]));
    }
}
