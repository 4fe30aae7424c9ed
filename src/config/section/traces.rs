//! `[traces]`: which journeys are told to a receiver of OTLP, and to which.

use std::time::Duration;

use crate::config::reader::Reader;
use crate::config::secret::Secret;

/// Traces. Off without an endpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Traces {
    /// Where spans are posted to (OTLP over HTTP, protobuf); absent: nowhere, and nothing is
    /// noted for them.
    pub endpoint: Option<String>,
    /// Header fields sent along, a line `Name: value` each: from `headers_file`, a credential
    /// or the environment.
    pub headers: Option<Secret>,
    /// Share of deliveries and requests that are kept whatever becomes of them (0.01).
    pub ratio: f64,
    /// Share of deliveries that are kept once an attempt failed, was deferred or is in doubt (0.1).
    pub trouble_ratio: f64,
    /// Whether a caller's word that its trace is kept, or is not, holds for ours (true).
    pub follow_caller: bool,
    /// Spans that may wait; what comes on top is dropped and counted (4,096).
    pub buffer: u32,
    /// How long spans are gathered before they are sent (1 s).
    pub interval: Duration,
    /// Longest time for one request to the receiver (5 s).
    pub timeout: Duration,
}

impl Default for Traces {
    fn default() -> Self {
        Self {
            endpoint: None,
            headers: None,
            ratio: 0.01,
            trouble_ratio: 0.1,
            follow_caller: true,
            buffer: 4_096,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(5),
        }
    }
}

impl Traces {
    pub(in crate::config) fn read(section: Reader<'_>) -> Self {
        let default = Self::default();
        let (tenth, minute) = (Duration::from_millis(100), Duration::from_secs(60));
        let traces = Self {
            endpoint: section.checked(
                "endpoint",
                "a URL like http://127.0.0.1:4318/v1/traces",
                is_endpoint,
            ),
            headers: section.secret("headers", "headers_file"),
            ratio: section.number("ratio", default.ratio, 0.0..=1.0),
            trouble_ratio: section.number("trouble_ratio", default.trouble_ratio, 0.0..=1.0),
            follow_caller: section.switch("follow_caller", default.follow_caller),
            buffer: section.integer("buffer", default.buffer, 64..=1_000_000),
            interval: section.duration("interval", default.interval, tenth..=minute),
            timeout: section.duration("timeout", default.timeout, tenth..=minute),
        };
        if traces.headers.is_some() && traces.header_fields().is_none() {
            let message = "expected a line like Authorization: Bearer … for each header field, \
                           found something else (not shown)";
            section.fault("headers_file", message);
        }
        if traces.headers.is_some() && traces.endpoint.as_deref().is_some_and(is_exposed) {
            let message = "expected https:// for another machine: whoever listens on the way would \
                           read what headers_file holds";
            section.fault("endpoint", message);
        }
        section.end();
        traces
    }

    /// The fields of `headers`; `None` where a line is none.
    pub fn header_fields(&self) -> Option<Vec<(&str, &str)>> {
        let text = self.headers.as_ref().map_or("", Secret::expose);
        let is_token = |name: &str| {
            !name.is_empty()
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        let is_value =
            |value: &str| !value.is_empty() && value.bytes().all(|b| (0x20..=0x7e).contains(&b));
        text.lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| {
                let (name, value) = line.split_once(':')?;
                let (name, value) = (name.trim(), value.trim());
                (is_token(name) && is_value(value)).then_some((name, value))
            })
            .collect()
    }
}

/// A whole URL without a login in it: secrets do not belong into this file.
fn is_endpoint(url: &str) -> bool {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    rest.is_some_and(|rest| {
        let (host, _path) = rest.split_once('/').unwrap_or((rest, ""));
        let visible = |b: u8| b.is_ascii_graphic() && !b"<>\"\\^`{|}".contains(&b);
        !host.is_empty() && !host.contains('@') && rest.bytes().all(visible)
    })
}

/// In clear to another machine.
fn is_exposed(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("http://") else { return false };
    let host = rest.split('/').next().unwrap_or_default();
    let host = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let is_loopback = host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    !is_loopback && host != "localhost"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_whole_url_without_a_login() {
        for good in ["http://127.0.0.1:4318/v1/traces", "https://otlp.example.net/v1/traces"] {
            assert!(is_endpoint(good), "{good}");
        }
        for bad in ["", "127.0.0.1:4318", "http://", "https://a:b@c/v1", "http://a b/"] {
            assert!(!is_endpoint(bad), "{bad}");
        }
    }

    #[test]
    fn only_this_machine_is_told_secrets_in_clear() {
        for fine in ["http://127.0.0.1:4318/", "http://[::1]:1/", "http://localhost/", "https://a/"]
        {
            assert!(!is_exposed(fine), "{fine}");
        }
        assert!(is_exposed("http://otel.example.net:4318/v1/traces"));
        assert!(is_exposed("http://198.51.100.7/"));
    }

    #[test]
    fn header_fields_are_read_line_by_line() {
        let of = |text: &str| Traces { headers: Some(Secret::new(text)), ..Traces::default() };
        let two = of("Authorization: Bearer x:y\n\nX-Scope-OrgID: mail\n");
        let fields = [("Authorization", "Bearer x:y"), ("X-Scope-OrgID", "mail")];
        assert_eq!(two.header_fields().expect("two"), fields);
        for bad in ["Authorization", "A b: c", "A:", "A: b\u{7f}"] {
            assert!(of(bad).header_fields().is_none(), "{bad}");
        }
        assert!(!format!("{two:?}").contains("Bearer"));
    }
}
