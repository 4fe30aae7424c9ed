//! Messages of Amazon SNS and their signatures (no I/O).
//!
//! SNS signs some of the fields, in the order of their names, each on a line after its name
//! ("Verifying the signatures of Amazon SNS messages"). Version 1 hashes them by SHA-1, version 2
//! by SHA-256. The certificate is where the message says; so it is only looked for at the host of
//! the topic's region, under a name as SNS gives them.

use aws_lc_rs::signature::{
    RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::DateTime;
use reqwest::Url;
use serde::Deserialize;

use super::refusal::Refusal;
use crate::config::Endpoint;

/// A message as SNS posts it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Envelope {
    #[serde(rename = "Type")]
    kind: String,
    message_id: String,
    pub(super) topic_arn: String,
    #[serde(default)]
    subject: Option<String>,
    pub(super) message: String,
    timestamp: String,
    #[serde(default)]
    signature_version: Option<String>,
    #[serde(default)]
    signature: Option<String>,
    #[serde(rename = "SigningCertURL", default)]
    certificate: Option<String>,
    #[serde(rename = "SubscribeURL", default)]
    subscribe: Option<String>,
    #[serde(default)]
    token: Option<String>,
}

/// What SNS wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It passes a message on.
    Notification,
    /// Somebody wants messages of the topic to come here.
    Subscription,
    /// They do not come any more.
    Unsubscription,
}

/// Names that SNS gives its certificates.
const CERTIFICATE: (&str, &str) = ("/SimpleNotificationService-", ".pem");

impl Envelope {
    pub(super) fn kind(&self) -> Option<Kind> {
        match &*self.kind {
            "Notification" => Some(Kind::Notification),
            "SubscriptionConfirmation" => Some(Kind::Subscription),
            "UnsubscribeConfirmation" => Some(Kind::Unsubscription),
            _ => None,
        }
    }

    /// Seconds since 1970 when it was published.
    pub(super) fn published_at(&self) -> Option<i64> {
        DateTime::parse_from_rfc3339(&self.timestamp).ok().map(|at| at.timestamp())
    }

    /// Where its certificate is, if that is at `host`.
    pub(super) fn certificate(&self, host: &Endpoint) -> Result<Url, Refusal> {
        let url = self.certificate.as_deref().ok_or(Refusal::Unsigned)?;
        let url = pinned(url, host).ok_or(Refusal::Forged)?;
        let (begin, end) = CERTIFICATE;
        let name = url.path().strip_prefix(begin).and_then(|name| name.strip_suffix(end));
        let plain = |name: &str| {
            (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_hexdigit())
        };
        (name.is_some_and(plain) && url.query().is_none()).then_some(url).ok_or(Refusal::Forged)
    }

    /// Where its subscription is confirmed, if that is at `host`.
    pub(super) fn subscription(&self, host: &Endpoint) -> Result<Url, Refusal> {
        let url = self.subscribe.as_deref().ok_or(Refusal::Malformed)?;
        let url = pinned(url, host).ok_or(Refusal::Forged)?;
        let says =
            |name: &str, value: &str| url.query_pairs().any(|(n, v)| n == name && v == value);
        let confirms = says("Action", "ConfirmSubscription") && says("TopicArn", &self.topic_arn);
        (url.path() == "/" && confirms).then_some(url).ok_or(Refusal::Forged)
    }

    /// Whether the signature is that of the holder of `key` (`SubjectPublicKeyInfo`).
    pub(super) fn verify(&self, key: &[u8]) -> Result<(), Refusal> {
        let (version, signature) = self
            .signature_version
            .as_deref()
            .zip(self.signature.as_deref())
            .ok_or(Refusal::Unsigned)?;
        let algorithm = match version {
            "1" => &RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY,
            "2" => &RSA_PKCS1_2048_8192_SHA256,
            _ => return Err(Refusal::Forged),
        };
        let signature = STANDARD.decode(signature).map_err(|_| Refusal::Forged)?;
        UnparsedPublicKey::new(algorithm, key)
            .verify(self.signed().as_bytes(), &signature)
            .map_err(|_| Refusal::Forged)
    }

    fn signed(&self) -> String {
        let subscribe = self.subscribe.as_deref();
        let fields: [(&str, Option<&str>); 8] = match self.kind() {
            Some(Kind::Notification) | None => [
                ("Message", Some(&self.message)),
                ("MessageId", Some(&self.message_id)),
                ("Subject", self.subject.as_deref()),
                ("Timestamp", Some(&self.timestamp)),
                ("TopicArn", Some(&self.topic_arn)),
                ("Type", Some(&self.kind)),
                ("", None),
                ("", None),
            ],
            Some(Kind::Subscription | Kind::Unsubscription) => [
                ("Message", Some(&self.message)),
                ("MessageId", Some(&self.message_id)),
                ("SubscribeURL", subscribe),
                ("Timestamp", Some(&self.timestamp)),
                ("Token", self.token.as_deref()),
                ("TopicArn", Some(&self.topic_arn)),
                ("Type", Some(&self.kind)),
                ("", None),
            ],
        };
        let mut text = String::with_capacity(self.message.len() + 512);
        for (name, value) in fields.iter().filter_map(|(name, value)| Some((name, (*value)?))) {
            for part in [name, "\n", value, "\n"] {
                text.push_str(part);
            }
        }
        text
    }
}

/// The host of a topic's region; `None` if it is no ARN.
pub(super) fn host_of(topic: &str) -> Option<Endpoint> {
    let mut parts = topic.split(':').skip(1);
    let (partition, region) = (parts.next()?, parts.nth(1)?);
    let end = if partition == "aws-cn" { "amazonaws.com.cn" } else { "amazonaws.com" };
    Some(Endpoint::https(format!("sns.{region}.{end}")))
}

/// A URL at this host and no other.
fn pinned(text: &str, host: &Endpoint) -> Option<Url> {
    let url = Url::parse(text).ok().filter(|_| text.len() <= 2_000)?;
    let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    let same = url.scheme() == "https"
        && url.host_str() == Some(host.host.as_str())
        && url.port_or_known_default() == Some(host.port);
    (plain && same).then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: &str = "arn:aws:sns:eu-west-1:123456789012:ses-events";

    fn envelope(certificate: &str, subscribe: &str) -> Envelope {
        Envelope {
            kind: "SubscriptionConfirmation".into(),
            message_id: "1".into(),
            topic_arn: TOPIC.into(),
            subject: None,
            message: "m".into(),
            timestamp: "2026-03-01T10:00:00.000Z".into(),
            signature_version: Some("2".into()),
            signature: Some(String::new()),
            certificate: Some(certificate.into()),
            subscribe: Some(subscribe.into()),
            token: Some("t".into()),
        }
    }

    #[test]
    fn a_certificate_is_only_looked_for_where_sns_keeps_them() {
        let host = host_of(TOPIC).expect("an ARN");
        assert_eq!(host.host, "sns.eu-west-1.amazonaws.com");
        let good =
            "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0123456789abcdef.pem";
        assert!(envelope(good, "").certificate(&host).is_ok());
        for bad in [
            "http://sns.eu-west-1.amazonaws.com/SimpleNotificationService-01.pem",
            "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-01.pem",
            "https://sns.eu-west-1.amazonaws.com.evil.example/SimpleNotificationService-01.pem",
            "https://sns.eu-west-1.amazonaws.com@evil.example/SimpleNotificationService-01.pem",
            "https://evil.example/SimpleNotificationService-01.pem",
            "https://evil.example/sns.eu-west-1.amazonaws.com/SimpleNotificationService-01.pem",
            "https://sns.eu-west-1.amazonaws.com:8443/SimpleNotificationService-01.pem",
            "https://sns.eu-west-1.amazonaws.com/?x=/SimpleNotificationService-01.pem",
            "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-../../a.pem",
            "https://sns.eu-west-1.amazonaws.com/other.pem",
            "https://169.254.169.254/SimpleNotificationService-01.pem",
        ] {
            assert_eq!(envelope(bad, "").certificate(&host), Err(Refusal::Forged), "{bad}");
        }
    }

    #[test]
    fn a_subscription_is_only_confirmed_for_its_own_topic() {
        let host = host_of(TOPIC).expect("an ARN");
        let base = "https://sns.eu-west-1.amazonaws.com/";
        let confirm = format!("{base}?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=t");
        assert!(envelope("", &confirm).subscription(&host).is_ok());
        for bad in [
            format!("{base}?Action=DeleteTopic&TopicArn={TOPIC}"),
            format!("{base}?Action=ConfirmSubscription&TopicArn={TOPIC}2&Token=t"),
            confirm.replace("eu-west-1.amazonaws.com", "eu-west-1.amazonaws.com.evil.example"),
        ] {
            assert_eq!(envelope("", &bad).subscription(&host), Err(Refusal::Forged), "{bad}");
        }
    }

    #[test]
    fn what_is_signed_is_in_the_order_of_names() {
        let text = envelope("", "https://x/").signed();
        let expected = "Message\nm\nMessageId\n1\nSubscribeURL\nhttps://x/\nTimestamp\n2026-03-01T10:00:00.000Z\nToken\nt\n\
             TopicArn\narn:aws:sns:eu-west-1:123456789012:ses-events\nType\nSubscriptionConfirmation\n";
        assert_eq!(text, expected);
    }
}
