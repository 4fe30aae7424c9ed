//! The headers of a request by Standard Webhooks 1.0.0 (pure).

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::secret::WebhookSecret;

/// The message's id; the same when it is told again.
pub(super) const ID: &str = "webhook-id";
/// Seconds since 1970 of this try.
pub(super) const TIMESTAMP: &str = "webhook-timestamp";
/// A signature for each secret that is valid, with spaces between.
pub(super) const SIGNATURE: &str = "webhook-signature";

/// The value of `webhook-signature`: HMAC-SHA256 of id, timestamp and body, under each secret.
pub(super) fn signature(
    secrets: &[WebhookSecret],
    id: &str,
    timestamp: u64,
    body: &[u8],
) -> String {
    let head = format!("{id}.{timestamp}.");
    let signed = secrets.iter().map(|secret| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.bytes());
        let mut mac = hmac::Context::with_key(&key);
        mac.update(head.as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.sign()))
    });
    signed.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vector that the standard's own libraries test with.
    #[test]
    fn the_published_vector_is_met() {
        let secret = WebhookSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("one");
        let sign = |secrets: &[WebhookSecret]| {
            let body = br#"{"test": 2432232314}"#;
            signature(secrets, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body)
        };
        let expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(sign(std::slice::from_ref(&secret)), expected);
        let other = WebhookSecret::generate().expect("random");
        let both = sign(&[other, secret]);
        assert!(both.starts_with("v1,") && both.ends_with(&format!(" {expected}")), "{both}");
    }

    #[test]
    fn a_secret_shows_itself_to_its_owner_only() {
        let secret = WebhookSecret::generate().expect("random");
        let shown = secret.reveal();
        assert_eq!(WebhookSecret::parse(&shown).expect("one").bytes(), secret.bytes());
        assert_eq!(format!("{secret:?}"), "WebhookSecret(…)");
        for wrong in ["", "whsec_", "whsec_AAAA", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"] {
            assert!(WebhookSecret::parse(wrong).is_none(), "{wrong}");
        }
    }
}
