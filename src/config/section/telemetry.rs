//! `[telemetry]`, `[log]`, `[alarm]`: what an operator sees.

use std::net::SocketAddr;

use super::Auth;
use super::TlsMode;

/// Where the daemon shows itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Telemetry {
    /// `/metrics`, `/livez`, `/readyz` (127.0.0.1:9025).
    pub listen: SocketAddr,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 9025)) }
    }
}

/// What is logged and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// A level or a filter such as `info,postrider::smtp=debug` (info).
    pub level: String,
    /// For people or for machines.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Text }
    }
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One readable line.
    Text,
    /// One JSON object per line.
    Json,
}

/// Mail to operators over a relay of its own, so that it arrives when our delivery does not.
#[derive(Debug, Clone, PartialEq)]
pub struct Alarm {
    /// The relay's host.
    pub host: String,
    /// The relay's port.
    pub port: u16,
    /// TLS towards the relay: `none`, `required`, `verified` or `implicit`.
    pub tls: TlsMode,
    /// Login at the relay.
    pub auth: Option<Auth>,
    /// Sender.
    pub from: String,
    /// Whom to tell.
    pub to: Vec<String>,
}
