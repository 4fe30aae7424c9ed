//! `[callbacks]`: what providers tell the API about mail that they took.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::provider::{ENDPOINT, Endpoint};
use crate::config::reader::Reader;
use crate::config::secret::Secret;

/// Callbacks of providers. A provider without a section of its own is not listened to.
#[derive(Debug, Clone, PartialEq)]
pub struct Callbacks {
    /// Callbacks worked on at once; more are told to come again (32).
    pub max_requests: u32,
    /// Largest body of one in bytes (1 MiB).
    pub max_body_bytes: u64,
    /// Most events of one (5,000).
    pub max_events: u32,
    /// A callback that was signed longer ago is refused (2 d).
    pub max_age: Duration,
    /// `[callbacks.ses]`
    pub ses: Option<SesCallbacks>,
    /// `[callbacks.sendgrid]`
    pub sendgrid: Option<SendGridCallbacks>,
    /// `[callbacks.mailgun]`
    pub mailgun: Option<MailgunCallbacks>,
}

/// Amazon SES, through topics of SNS.
#[derive(Debug, Clone, PartialEq)]
pub struct SesCallbacks {
    /// Topics that are listened to, and whose subscription is confirmed (ARNs).
    pub topics: Vec<String>,
    /// Where certificates lie and subscriptions are confirmed; `None`: the region of the topic.
    pub endpoint: Option<Endpoint>,
    /// PEM of an authority to trust besides the well-known ones.
    pub authority: Option<String>,
}

/// Twilio SendGrid's signed event webhook.
#[derive(Debug, Clone, PartialEq)]
pub struct SendGridCallbacks {
    /// Public keys as the console shows them, decoded: ECDSA P-256 as `SubjectPublicKeyInfo`.
    pub public_keys: Vec<Vec<u8>>,
}

/// Sinch Mailgun's webhooks.
#[derive(Debug, Clone, PartialEq)]
pub struct MailgunCallbacks {
    /// The account's webhook signing key.
    pub key: Secret,
}

impl Default for Callbacks {
    fn default() -> Self {
        Self {
            max_requests: 32,
            max_body_bytes: 1 << 20,
            max_events: 5_000,
            max_age: Duration::from_secs(2 * 86_400),
            ses: None,
            sendgrid: None,
            mailgun: None,
        }
    }
}

impl Callbacks {
    /// Whether any provider is listened to.
    pub const fn is_on(&self) -> bool {
        self.ses.is_some() || self.sendgrid.is_some() || self.mailgun.is_some()
    }

    pub(in crate::config) fn read(section: Reader<'_>) -> Self {
        let default = Self::default();
        let (minute, day) = (Duration::from_secs(60), Duration::from_secs(86_400));
        let callbacks = Self {
            max_requests: section.integer("max_requests", default.max_requests, 1..=1_000),
            max_body_bytes: section.size(
                "max_body_bytes",
                default.max_body_bytes,
                64 << 10..=16 << 20,
            ),
            max_events: section.integer("max_events", default.max_events, 1..=20_000),
            max_age: section.duration("max_age", default.max_age, minute..=day * 30),
            ses: section.optional_section("ses").map(SesCallbacks::read),
            sendgrid: section.optional_section("sendgrid").map(SendGridCallbacks::read),
            mailgun: section.optional_section("mailgun").map(MailgunCallbacks::read),
        };
        section.end();
        callbacks
    }
}

impl SesCallbacks {
    fn read(section: Reader<'_>) -> Self {
        let topics = section.list("topics", TOPIC, |text| is_topic(text).then(|| text.to_owned()));
        if topics.as_ref().is_none_or(Vec::is_empty) {
            section.fault("topics", format_args!("expected at least one, each {TOPIC}"));
        }
        let endpoint = section.value("endpoint", ENDPOINT, |node| Endpoint::parse(node.text()?));
        if endpoint.as_ref().is_some_and(|endpoint| !endpoint.tls) {
            section.fault("endpoint", "certificates prove nothing in clear; expected https");
        }
        let ses = Self {
            topics: topics.unwrap_or_default(),
            endpoint,
            authority: section.pem("ca_file"),
        };
        section.end();
        ses
    }
}

impl SendGridCallbacks {
    fn read(section: Reader<'_>) -> Self {
        let expected = "a public key as the console shows it, like \"MFkwEwYHKoZIzj0CAQYIKoZI…\"";
        let keys = section.list("public_keys", expected, public_key);
        if keys.as_ref().is_none_or(Vec::is_empty) {
            section.fault("public_keys", format_args!("expected at least one, each {expected}"));
        }
        section.end();
        Self { public_keys: keys.unwrap_or_default() }
    }
}

impl MailgunCallbacks {
    fn read(section: Reader<'_>) -> Self {
        if !section.has("key") && !section.has("key_file") {
            section.fault("key_file", "missing; expected the file that holds the signing key");
        }
        let key = section.secret("key", "key_file").unwrap_or_else(|| Secret::new(""));
        section.end();
        Self { key }
    }
}

const TOPIC: &str = "the ARN of a topic like \"arn:aws:sns:eu-west-1:123456789012:ses-events\"";

/// `arn:PARTITION:sns:REGION:ACCOUNT:NAME`.
fn is_topic(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let named = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let parts: Vec<&str> = text.split(':').collect();
    let ["arn", partition, "sns", region, account, name] = parts.as_slice() else { return false };
    ["aws", "aws-cn", "aws-us-gov"].contains(partition)
        && region.contains('-')
        && region.bytes().all(plain)
        && account.len() == 12
        && account.bytes().all(|b| b.is_ascii_digit())
        && (1..=256).contains(&name.len())
        && name.bytes().all(named)
}

/// DER of a key on P-256: 91 octets, of which the first 26 are always the same (RFC 5480).
fn public_key(text: &str) -> Option<Vec<u8>> {
    const BEGIN: [u8; 26] = [
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08,
        0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
    ];
    let der = STANDARD.decode(text.trim()).ok()?;
    (der.len() == 91 && der.starts_with(&BEGIN)).then_some(der)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_names_its_region() {
        for good in [
            "arn:aws:sns:eu-west-1:123456789012:ses-events",
            "arn:aws-cn:sns:cn-north-1:123456789012:a_b",
        ] {
            assert!(is_topic(good), "{good}");
        }
        for bad in [
            "",
            "arn:aws:sqs:eu-west-1:123456789012:x",
            "arn:aws:sns:evil.example/:123456789012:x",
            "arn:aws:sns:eu-west-1:12:x",
            "arn:aws:sns:eu-west-1:123456789012:",
            "arn:aws:sns:eu-west-1:123456789012:x:y",
        ] {
            assert!(!is_topic(bad), "{bad}");
        }
    }

    #[test]
    fn a_public_key_is_one_on_p256() {
        let shown = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEEDr2LjtURuePQzplybdC+u4CwrqDqBaWjcMMsTbhdbcwHBcepxo7yAQGhHPTnlvFYPAZFceEu/1FwCM/QmGUhA==";
        assert_eq!(public_key(shown).map(|der| der.len()), Some(91));
        for bad in ["", "MFkw", "not base64", &STANDARD.encode([0; 91])] {
            assert_eq!(public_key(bad), None, "{bad}");
        }
    }
}
