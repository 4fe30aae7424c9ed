//! `[api]` and `[secrets]`.

use std::net::SocketAddr;

use crate::config::reader::Reader;
use zeroize::Zeroizing;

use crate::config::secret::Secret;

/// The HTTP companion.
#[derive(Debug, Clone, PartialEq)]
pub struct Api {
    /// Address to listen on (127.0.0.1:8025).
    pub listen: SocketAddr,
    /// Where the outside reaches it: the base of unsubscribe links.
    pub public_url: String,
    /// Largest body of a submission in bytes (20 MiB).
    pub max_body_bytes: u64,
    /// Most recipients of one call (10,000).
    pub max_recipients: u32,
    /// Calls per second of one key (200).
    pub calls_per_second: u32,
    /// Calls one key may make at once after a pause (400).
    pub calls_burst: u32,
}

impl Default for Api {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8025)),
            public_url: "http://127.0.0.1:8025".into(),
            max_body_bytes: 20 << 20,
            max_recipients: 10_000,
            calls_per_second: 200,
            calls_burst: 400,
        }
    }
}

/// The key under which private keys are stored.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Secrets {
    /// 32 bytes, base64, from `key_file`, the systemd credential `postrider.key`,
    /// or `POSTRIDER_KEY`. Without it nothing can be signed.
    pub key: Option<Secret>,
    /// Keys of the links in mails, one a line, from `link_keys_file`, the systemd credential
    /// `postrider.link-keys`, or `POSTRIDER_LINK_KEYS`: 32 bytes in base64, or the word
    /// `installation` for the one derived from `key`. The first signs, all are honoured. None:
    /// `installation`.
    pub link_keys: Option<Secret>,
}

/// A key of the links in mails.
#[derive(Clone, PartialEq, Eq)]
pub enum LinkKey {
    /// Derived from the installation's key.
    Installation,
    /// One of its own.
    Own(Zeroizing<[u8; 32]>),
}

/// Most keys of links at once.
const MAX_LINK_KEYS: usize = 8;

impl Api {
    pub(in crate::config) fn read(section: Reader<'_>) -> Self {
        let default = Self::default();
        let api = Self {
            listen: section.address("listen", default.listen),
            public_url: section
                .checked(
                    "public_url",
                    "a URL like https://mail.example.com without a last /",
                    is_base,
                )
                .unwrap_or(default.public_url),
            max_body_bytes: section.size(
                "max_body_bytes",
                default.max_body_bytes,
                1 << 10..=1 << 30,
            ),
            max_recipients: section.integer("max_recipients", default.max_recipients, 1..=10_000),
            calls_per_second: section.integer(
                "calls_per_second",
                default.calls_per_second,
                1..=1_000_000,
            ),
            calls_burst: section.integer("calls_burst", default.calls_burst, 1..=1_000_000),
        };
        section.end();
        api
    }
}

/// The URL stands in header fields: nothing but visible ASCII, no brackets or quotes.
fn is_base(url: &str) -> bool {
    let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    host.is_some_and(|host| !host.is_empty() && !host.starts_with('/'))
        && url.len() <= 200
        && !url.ends_with('/')
        && url.bytes().all(|b| b.is_ascii_graphic() && !b"<>\"\\?#,".contains(&b))
}

impl Secrets {
    pub(in crate::config) fn read(
        section: Reader<'_>,
        outside: Option<Secret>,
        links: Option<Secret>,
    ) -> Self {
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
        let link_keys = section.secret("link_keys", "link_keys_file").or(links).filter(|keys| {
            let fits = read_links(keys).is_some();
            if !fits {
                section.fault(
                    "link_keys",
                    format_args!(
                        "expected 1 to {MAX_LINK_KEYS} lines, each 32 bytes in base64 (44 characters) or the word installation"
                    ),
                );
            }
            fits
        });
        section.end();
        Self { key, link_keys }
    }

    /// The keys of links, the one that signs first.
    pub fn links(&self) -> Vec<LinkKey> {
        let own = self.link_keys.as_ref().and_then(read_links);
        own.unwrap_or_else(|| vec![LinkKey::Installation])
    }

    /// The installation's key, from which the keys of single uses are derived.
    pub fn key_bytes(&self) -> Option<Zeroizing<[u8; 32]>> {
        decode(self.key.as_ref()?)
    }
}

fn read_links(keys: &Secret) -> Option<Vec<LinkKey>> {
    let lines = keys.expose().lines().map(str::trim).filter(|line| !line.is_empty());
    let keys: Option<Vec<LinkKey>> = lines
        .map(|line| match line {
            "installation" => Some(LinkKey::Installation),
            line => decode(&Secret::new(line)).map(LinkKey::Own),
        })
        .collect();
    keys.filter(|keys| (1..=MAX_LINK_KEYS).contains(&keys.len()))
}

pub(super) fn decode(key: &Secret) -> Option<Zeroizing<[u8; 32]>> {
    use base64::Engine;
    let bytes = base64::engine::general_purpose::STANDARD.decode(key.expose().trim()).ok()?;
    let bytes = Zeroizing::new(bytes);
    Some(Zeroizing::new(bytes.as_slice().try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_cannot_break_out_of_a_header() {
        for good in ["https://mail.example.com", "http://127.0.0.1:8025", "https://a.example/mail"]
        {
            assert!(is_base(good), "{good}");
        }
        for bad in [
            "",
            "https://",
            "ftp://a",
            "https://a/",
            "https://a\r\nX: y",
            "https://a>b",
            "https://a b",
            "https://ä",
        ] {
            assert!(!is_base(bad), "{bad}");
        }
    }

    #[test]
    fn a_key_is_32_bytes() {
        assert!(decode(&Secret::new("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")).is_some());
        assert!(decode(&Secret::new("MDEyMzQ1Njc4OWFiY2Rl")).is_none());
        assert!(decode(&Secret::new("not base64")).is_none());
    }
}
