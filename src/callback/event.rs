//! [`Event`]: what is stored of a callback.

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::Origin;

/// One event, verified and not yet understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The same for the same event, however often and by whichever way it is told.
    pub key: String,
    /// As the provider wrote it (JSON).
    pub raw: Vec<u8>,
}

/// A number that its provider uses once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// As it came.
    pub text: String,
    /// Seconds since 1970 from when on it is stale anyway.
    pub expires_at: u64,
}

/// A callback whose signature is right.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Opened {
    /// What is to be stored.
    pub events: Vec<Event>,
    /// Events that say nothing about a delivery: opened, clicked, and what nobody here knows.
    pub idle: usize,
    /// What it may be taken for once only.
    pub token: Option<Token>,
}

impl Event {
    /// An event known by `parts`, which the provider chose: hashed, so that the key is short.
    pub(super) fn new(origin: Origin, parts: &[&str], raw: &[u8]) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        let hash = URL_SAFE_NO_PAD.encode(context.finish());
        Self { key: format!("{}:{hash}", origin.as_str()), raw: raw.to_vec() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_into_each_other() {
        let key = |parts: &[&str]| Event::new(Origin::Ses, parts, b"").key;
        assert_eq!(key(&["a", "bc"]), key(&["a", "bc"]));
        assert_ne!(key(&["a", "bc"]), key(&["ab", "c"]));
        assert_eq!(key(&[&"x".repeat(100_000)]).len(), 47);
    }
}
