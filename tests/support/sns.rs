//! An SNS of our own, with messages that it signs by version 2.
#![allow(dead_code, unreachable_pub, reason = "a test's own part, in a file of its own")]

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, SecondsFormat};
use postrider::config::{Callbacks, Endpoint, SesCallbacks};
use serde_json::{Value, json};

use crate::support::authority::{Authority, pem};
use crate::support::callbacks::Room;
use crate::support::policy_host::PolicyHost;

/// The topic of every message.
pub const TOPIC: &str = "arn:aws:sns:eu-west-1:123456789012:ses-events";

/// Our own SNS: a host with a certificate of an authority that is configured, and a signing key.
pub struct Sns {
    pub host: PolicyHost,
    pub authority: String,
    key: KeyPair,
}

impl Sns {
    pub async fn start() -> Self {
        postrider::telemetry::metrics::install().expect("a recorder");
        let authority = Authority::new("Mirror");
        let host = PolicyHost::start(&authority.certify(&["localhost".into()]).shown()).await;
        let key = KeyPair::generate(KeySize::Rsa2048).expect("a key");
        let sns = Self { host, authority: pem(&authority.certificate), key };
        sns.publish("0a1b", &sns.certificate());
        sns
    }

    pub fn certificate(&self) -> String {
        let der: Pkcs8V1Der<'_> = self.key.as_der().expect("a key");
        let key = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(
            &der.as_ref().to_vec().into(),
            &rcgen::PKCS_RSA_SHA256,
        )
        .expect("the same key");
        let params = rcgen::CertificateParams::new(vec!["sns.test".into()]).expect("a name");
        params.self_signed(&key).expect("a certificate").pem()
    }

    pub fn base(&self) -> String {
        format!("localhost:{}", self.host.address.port())
    }

    pub fn page(&self, name: &str) -> String {
        format!("{}/SimpleNotificationService-{name}.pem", self.base())
    }

    pub fn publish(&self, name: &str, body: &str) {
        let length = body.len();
        self.host.put(
            &self.page(name),
            &format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"),
        );
    }

    pub fn settings(&self) -> Callbacks {
        let endpoint =
            Endpoint { tls: true, host: "localhost".into(), port: self.host.address.port() };
        let ses = Some(SesCallbacks {
            topics: vec![TOPIC.into()],
            endpoint: Some(endpoint),
            authority: Some(self.authority.clone()),
        });
        Callbacks { ses, ..Callbacks::default() }
    }

    /// A message of now, signed by version 2.
    pub fn message(&self, room: &Room, kind: &str, message: &str, more: &Value) -> Value {
        self.message_at(room.now(), kind, message, more)
    }

    pub fn message_at(&self, at: u64, kind: &str, message: &str, more: &Value) -> Value {
        let at = DateTime::from_timestamp(at as i64, 0).expect("a time");
        let mut value = json!({
            "Type": kind, "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324", "TopicArn": TOPIC,
            "Message": message, "Timestamp": at.to_rfc3339_opts(SecondsFormat::Millis, true),
            "SignatureVersion": "2",
            "SigningCertURL": format!("https://{}", self.page("0a1b")),
        });
        for (name, field) in more.as_object().expect("an object") {
            value[name] = field.clone();
        }
        value["Signature"] = json!(self.sign(&value));
        value
    }

    pub fn sign(&self, message: &Value) -> String {
        let names: &[&str] = if message["Type"] == "Notification" {
            &["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"]
        } else {
            &["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
        };
        let signed = names
            .iter()
            .filter_map(|name| Some((name, message[*name].as_str()?)))
            .fold(String::new(), |text, (name, value)| format!("{text}{name}\n{value}\n"));
        let mut signature = vec![0; self.key.public_modulus_len()];
        let random = SystemRandom::new();
        self.key.sign(&RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut signature).expect("sign");
        STANDARD.encode(signature)
    }
}
