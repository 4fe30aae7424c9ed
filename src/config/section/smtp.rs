//! `[smtp]`: deadlines and bounds of the SMTP client (RFC 5321 4.5.3.2).

use std::time::Duration;

use crate::config::reader::Reader;

/// Each deadline is for the whole phase, however slowly bytes trickle in.
#[derive(Debug, Clone, PartialEq)]
pub struct Smtp {
    /// TCP connect (30 s).
    pub connect_timeout: Duration,
    /// The peer's greeting (5 min by the RFC; 2 min).
    pub banner_timeout: Duration,
    /// EHLO (5 min).
    pub ehlo_timeout: Duration,
    /// STARTTLS and the handshake (60 s).
    pub tls_timeout: Duration,
    /// AUTH (2 min).
    pub auth_timeout: Duration,
    /// MAIL (5 min).
    pub mail_timeout: Duration,
    /// RCPT (5 min).
    pub rcpt_timeout: Duration,
    /// DATA until the 354 (2 min).
    pub data_timeout: Duration,
    /// Sending the body (3 min per 64 KiB block; in total 10 min).
    pub body_timeout: Duration,
    /// The reply to the final dot (10 min; a lower value makes duplicates).
    pub dot_timeout: Duration,
    /// How long an idle connection is kept (20 s).
    pub idle_timeout: Duration,
    /// Open connections of the whole daemon (2000).
    pub max_connections: u32,
    /// Whether the next mail's envelope goes out behind a body where PIPELINING is offered (true).
    pub envelope_behind_body: bool,
    /// Whether large mails go out by BDAT where CHUNKING is offered (true).
    pub chunking: bool,
}

impl Default for Smtp {
    fn default() -> Self {
        let minutes = |n: u64| Duration::from_secs(n * 60);
        Self {
            connect_timeout: Duration::from_secs(30),
            banner_timeout: minutes(2),
            ehlo_timeout: minutes(5),
            tls_timeout: minutes(1),
            auth_timeout: minutes(2),
            mail_timeout: minutes(5),
            rcpt_timeout: minutes(5),
            data_timeout: minutes(2),
            body_timeout: minutes(10),
            dot_timeout: minutes(10),
            idle_timeout: Duration::from_secs(20),
            max_connections: 2000,
            envelope_behind_body: true,
            chunking: true,
        }
    }
}

impl Smtp {
    pub(in crate::config) fn read(section: Reader<'_>) -> Self {
        let default = Self::default();
        let deadline = |key, default| {
            section.duration(key, default, Duration::from_secs(1)..=Duration::from_secs(3_600))
        };
        let smtp = Self {
            connect_timeout: deadline("connect_timeout", default.connect_timeout),
            banner_timeout: deadline("banner_timeout", default.banner_timeout),
            ehlo_timeout: deadline("ehlo_timeout", default.ehlo_timeout),
            tls_timeout: deadline("tls_timeout", default.tls_timeout),
            auth_timeout: deadline("auth_timeout", default.auth_timeout),
            mail_timeout: deadline("mail_timeout", default.mail_timeout),
            rcpt_timeout: deadline("rcpt_timeout", default.rcpt_timeout),
            data_timeout: deadline("data_timeout", default.data_timeout),
            body_timeout: deadline("body_timeout", default.body_timeout),
            dot_timeout: deadline("dot_timeout", default.dot_timeout),
            idle_timeout: deadline("idle_timeout", default.idle_timeout),
            max_connections: section.integer(
                "max_connections",
                default.max_connections,
                1..=100_000,
            ),
            envelope_behind_body: section
                .switch("envelope_behind_body", default.envelope_behind_body),
            chunking: section.switch("chunking", default.chunking),
        };
        section.end();
        smtp
    }
}
