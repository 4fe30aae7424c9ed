//! `[inbound]`: the listener that takes reports, complaints and unsubscribing mails.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::feedback::is_domain;
use crate::config::reader::Reader;

/// The listener. Off unless it has an address.
#[derive(Debug, Clone, PartialEq)]
pub struct Inbound {
    /// Address for SMTP; none: no SMTP.
    pub smtp_listen: Option<SocketAddr>,
    /// Address for LMTP (RFC 2033), for a Postfix in front; none: no LMTP.
    pub lmtp_listen: Option<SocketAddr>,
    /// Name in the greeting (this host's; "localhost" when empty).
    pub hostname: String,
    /// Certificate chain and private key in PEM; none: no STARTTLS.
    pub tls: Option<InboundTls>,
    /// Whole address that complaints of providers come to; none: none are taken but at return paths.
    pub complaint_address: Option<String>,
    /// Largest mail in bytes (2 MiB).
    pub max_mail_bytes: u64,
    /// Connections at once (200).
    pub max_connections: u32,
    /// Connections at once from one address (10).
    pub max_connections_per_address: u32,
    /// Mails a minute from one address (600).
    pub mails_per_minute: u32,
    /// Longest silence of a client (60 s).
    pub idle_timeout: Duration,
    /// Longest session (10 min).
    pub session_limit: Duration,
}

/// Files with a certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboundTls {
    /// Certificate chain, PEM.
    pub certificate: PathBuf,
    /// Private key, PEM.
    pub key: PathBuf,
}

impl Default for Inbound {
    fn default() -> Self {
        Self {
            smtp_listen: None,
            lmtp_listen: None,
            hostname: String::new(),
            tls: None,
            complaint_address: None,
            max_mail_bytes: 2 << 20,
            max_connections: 200,
            max_connections_per_address: 10,
            mails_per_minute: 600,
            idle_timeout: Duration::from_secs(60),
            session_limit: Duration::from_secs(600),
        }
    }
}

impl Inbound {
    /// Whether anything listens.
    pub fn is_on(&self) -> bool {
        self.smtp_listen.is_some() || self.lmtp_listen.is_some()
    }

    pub(in crate::config) fn read(section: Reader<'_>) -> Self {
        let default = Self::default();
        let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3_600));
        let address = |key| {
            section.value(key, "an address like 0.0.0.0:25", |node| node.text()?.parse().ok())
        };
        let certificate = section.text("tls_certificate").map(PathBuf::from);
        let key = section.text("tls_key").map(PathBuf::from);
        let tls = match (certificate, key) {
            (Some(certificate), Some(key)) => Some(InboundTls { certificate, key }),
            (None, None) => None,
            _ => {
                section.fault("tls_certificate", "tls_certificate and tls_key come together");
                None
            }
        };
        let inbound = Self {
            smtp_listen: address("smtp_listen"),
            lmtp_listen: address("lmtp_listen"),
            hostname: section
                .checked("hostname", "a host name like mx.example.com", is_domain)
                .unwrap_or(default.hostname),
            tls,
            complaint_address: section.checked(
                "complaint_address",
                "an address like fbl@example.com in lower case",
                |text| {
                    text.split_once('@').is_some_and(|(local, domain)| {
                        !local.is_empty()
                            && local.len() <= 64
                            && local
                                .bytes()
                                .all(|b| b.is_ascii_graphic() && !b"<>@,;:\"()[]\\".contains(&b))
                            && is_domain(domain)
                    })
                },
            ),
            max_mail_bytes: section.size(
                "max_mail_bytes",
                default.max_mail_bytes,
                64 << 10..=64 << 20,
            ),
            max_connections: section.integer(
                "max_connections",
                default.max_connections,
                1..=10_000,
            ),
            max_connections_per_address: section.integer(
                "max_connections_per_address",
                default.max_connections_per_address,
                1..=10_000,
            ),
            mails_per_minute: section.integer(
                "mails_per_minute",
                default.mails_per_minute,
                1..=10_000_000,
            ),
            idle_timeout: section.duration("idle_timeout", default.idle_timeout, second..=hour),
            session_limit: section.duration("session_limit", default.session_limit, second..=hour),
        };
        section.end();
        inbound
    }
}
