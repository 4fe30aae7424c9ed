//! `[api]`: the HTTP companion.

use std::net::SocketAddr;

use crate::config::reader::Reader;

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
    /// Connections that are open at once (4,096).
    pub max_connections: u32,
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
            max_connections: 4_096,
            calls_per_second: 200,
            calls_burst: 400,
        }
    }
}

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
            max_connections: section.integer(
                "max_connections",
                default.max_connections,
                1..=100_000,
            ),
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
}
