//! `[telemetry]`, `[log]`, `[alarm]`: what an operator sees.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::{Auth, TlsMode};
use crate::config::fault::perhaps;
use crate::config::reader::Reader;

/// Where the daemon shows itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Telemetry {
    /// `/metrics`, `/livez`, `/readyz` (127.0.0.1:9025).
    pub listen: SocketAddr,
    /// The same of postrider-api, apart from `api.listen` because metrics are not for its
    /// callers; absent: nowhere.
    pub api_listen: Option<SocketAddr>,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 9025)), api_listen: None }
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

/// Stands in for an address that cannot be read; the fault is noted, so nobody uses it.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

impl Telemetry {
    pub(in crate::config) fn read(section: Reader<'_>) -> Self {
        let default = Self::default();
        let telemetry = Self {
            listen: section.address("listen", default.listen),
            api_listen: section.has("api_listen").then(|| section.address("api_listen", NOWHERE)),
        };
        section.end();
        telemetry
    }
}

impl Log {
    pub(in crate::config) fn read(section: Reader<'_>) -> Self {
        let default = Self::default();
        let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
        let level = section.text("level").filter(|level| match check_filter(level) {
            Ok(()) => true,
            Err(fault) => {
                section.fault("level", fault);
                false
            }
        });
        let log = Self {
            level: level.unwrap_or(default.level),
            format: section.choice("format", &formats).unwrap_or(default.format),
        };
        section.end();
        log
    }
}

/// A level for everything, or `part=level`, with commas. A bare word that is no level
/// would silence everything else, so it is refused.
fn check_filter(filter: &str) -> Result<(), String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    for directive in filter.split(',') {
        let (target, level) = directive.rsplit_once('=').unwrap_or(("postrider", directive));
        let is_target = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b':';
        if !LEVELS.contains(&level.trim()) {
            let hint = perhaps(level.trim(), LEVELS);
            return Err(format!("expected one of {}, found {level:?}{hint}", LEVELS.join(", ")));
        }
        if target.is_empty() || !target.trim().bytes().all(is_target) {
            return Err(format!("expected a part like postrider::smtp, found {target:?}"));
        }
    }
    Ok(())
}

impl Alarm {
    /// `None` also when something that it cannot do without is missing (and reported).
    pub(in crate::config) fn read(section: Reader<'_>) -> Option<Self> {
        let tls = [
            ("none", TlsMode::None),
            ("required", TlsMode::Required),
            ("verified", TlsMode::Verified),
            ("implicit", TlsMode::Implicit),
        ];
        let tls = section.choice("tls", &tls).unwrap_or(TlsMode::Verified);
        let host = section.required("host", "the relay's host", super::route::is_relay_host);
        let from = section.required("from", "an address", email_address::EmailAddress::is_valid);
        let to = section.list("to", "an address", |text| {
            email_address::EmailAddress::is_valid(text).then(|| text.to_owned())
        });
        if to.as_ref().is_none_or(Vec::is_empty) {
            section.fault("to", "expected at least one address");
        }
        let alarm = Self {
            port: section.integer(
                "port",
                if tls == TlsMode::Implicit { 465 } else { 587 },
                1..=65_535,
            ),
            auth: Auth::read(&section, tls, host.as_deref().unwrap_or_default()),
            tls,
            host: host.unwrap_or_default(),
            from: from.unwrap_or_default(),
            to: to.unwrap_or_default(),
        };
        section.end();
        (!alarm.host.is_empty() && !alarm.from.is_empty() && !alarm.to.is_empty()).then_some(alarm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_level_is_refused() {
        for good in ["info", "warn,postrider::smtp=debug", "off", "info, sqlx=warn"] {
            assert_eq!(check_filter(good), Ok(()), "{good}");
        }
        assert!(check_filter("inof").expect_err("no level").ends_with("did you mean \"info\"?"));
        for bad in ["", "info,", "postrider", "=debug", "a b=info", "info,x=5"] {
            assert!(check_filter(bad).is_err(), "{bad}");
        }
    }
}
