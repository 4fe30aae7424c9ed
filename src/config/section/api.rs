//! `[api]` and `[secrets]`.

use std::net::SocketAddr;

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
}
