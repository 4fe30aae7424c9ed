//! `[[route]]` of the kinds `ses`, `sendgrid` and `mailgun`: an HTTP service that sends for us.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::config::reader::Reader;
use crate::config::secret::Secret;
use crate::config::word::{is_domain, is_host};

/// A provider, and how it is reached.
#[derive(Debug, Clone, PartialEq)]
pub struct Provider {
    /// Which one, and our account there.
    pub service: Service,
    /// Where its API listens.
    pub endpoint: Endpoint,
    /// PEM of an authority to trust besides the well-known ones (a private endpoint's).
    pub authority: Option<String>,
    /// Requests under way at once (50).
    pub max_requests: u32,
    /// Name lookup, TCP and TLS together (10 s).
    pub connect_timeout: Duration,
    /// From the first byte of a request to the last of its answer (1 min). A request that was
    /// written by then is in doubt.
    pub request_timeout: Duration,
}

/// Which provider, and our account there.
#[derive(Debug, Clone, PartialEq)]
pub enum Service {
    /// Amazon SES, API version 2.
    Ses {
        /// `eu-west-1`, …
        region: String,
        /// Who signs.
        credentials: AwsCredentials,
        /// The configuration set that every mail is sent under.
        configuration_set: Option<String>,
    },
    /// Twilio SendGrid, API version 3.
    SendGrid {
        /// The API key.
        key: Secret,
    },
    /// Sinch Mailgun, API version 3.
    Mailgun {
        /// The API key.
        key: Secret,
        /// The sending domain of the account; `None`: that in the mail's From.
        domain: Option<String>,
    },
}

/// Whose key signs requests to AWS.
#[derive(Debug, Clone, PartialEq)]
pub enum AwsCredentials {
    /// A key of a user, or a temporary one with its token.
    Key {
        /// `AKIA…` or `ASIA…`: no secret.
        id: String,
        /// The secret key.
        secret: Secret,
        /// Of a temporary key.
        session_token: Option<Secret>,
    },
    /// That of the instance's role, asked of the instance's metadata service (IMDSv2).
    InstanceRole {
        /// Where it listens.
        metadata: Endpoint,
    },
}

/// Scheme, host and port of an HTTP server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// TLS, or in clear (only on this machine).
    pub tls: bool,
    /// Name or address, an IPv6 address without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl Endpoint {
    /// The usual port under TLS.
    pub fn https(host: impl Into<String>) -> Self {
        Self { tls: true, host: host.into(), port: 443 }
    }

    /// Where AWS answers on an instance.
    fn instance_metadata() -> Self {
        Self { tls: false, host: "169.254.169.254".into(), port: 80 }
    }

    /// As in a Host header: the port only where it is not the usual one.
    pub fn authority(&self) -> String {
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let usual = if self.tls { 443 } else { 80 };
        if self.port == usual { host } else { format!("{host}:{}", self.port) }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let (tls, rest) = match text.split_once("://")? {
            ("https", rest) => (true, rest),
            ("http", rest) => (false, rest),
            _ => return None,
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let usual = if tls { 443 } else { 80 };
        let (host, port) = if let Some(literal) = rest.strip_prefix('[') {
            let (host, port) = literal.split_once(']')?;
            let port = port.strip_prefix(':').map_or(Some(usual), |port| port.parse().ok())?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, port)
        } else {
            let (host, port) = match rest.split_once(':') {
                Some((host, port)) => (host, port.parse().ok()?),
                None => (rest, usual),
            };
            (host.parse::<IpAddr>().is_ok() || is_host(host)).then_some(())?;
            (host, port)
        };
        Some(Self { tls, host: host.to_ascii_lowercase(), port })
    }

    fn is_local(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.authority())
    }
}

/// What a route's `kind` says of a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Ses,
    SendGrid,
    Mailgun,
}

/// Keys that have a meaning only for a provider.
pub(super) const KEYS: [&str; 13] = [
    "region",
    "endpoint",
    "ca_file",
    "key",
    "key_file",
    "access_key_id",
    "session_token",
    "session_token_file",
    "instance_role",
    "metadata_endpoint",
    "configuration_set",
    "domain",
    "max_requests",
];

/// Their keys for time.
pub(super) const TIMES: [&str; 2] = ["connect_timeout", "request_timeout"];

impl Provider {
    pub(super) fn read(kind: Kind, section: &Reader<'_>) -> Self {
        let second = Duration::from_secs(1);
        let (service, host) = match kind {
            Kind::Ses => ses(section),
            Kind::SendGrid => {
                let hosts = [("global", "api.sendgrid.com"), ("eu", "api.eu.sendgrid.com")];
                let host = section.choice("region", &hosts).unwrap_or("api.sendgrid.com");
                (Service::SendGrid { key: key(section) }, host.to_owned())
            }
            Kind::Mailgun => {
                let hosts = [("us", "api.mailgun.net"), ("eu", "api.eu.mailgun.net")];
                let host = section.choice("region", &hosts).unwrap_or("api.mailgun.net");
                let domain = section.checked("domain", "a domain in lower case", is_domain);
                (Service::Mailgun { key: key(section), domain }, host.to_owned())
            }
        };
        Self {
            service,
            endpoint: endpoint(section, "endpoint").unwrap_or_else(|| Endpoint::https(host)),
            authority: section.pem("ca_file"),
            max_requests: section.integer("max_requests", 50, 1..=10_000),
            connect_timeout: section.duration(
                "connect_timeout",
                second * 10,
                second / 10..=second * 120,
            ),
            request_timeout: section.duration(
                "request_timeout",
                second * 60,
                second / 10..=second * 600,
            ),
        }
    }

    /// The name used in metrics and logs.
    pub const fn name(&self) -> &'static str {
        match self.service {
            Service::Ses { .. } => "ses",
            Service::SendGrid { .. } => "sendgrid",
            Service::Mailgun { .. } => "mailgun",
        }
    }
}

fn ses(section: &Reader<'_>) -> (Service, String) {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let is_region = |text: &str| text.contains('-') && text.bytes().all(plain);
    let region = section.required("region", "a region of AWS like \"eu-west-1\"", is_region);
    let region = region.unwrap_or_default();
    let is_set = |text: &str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        (1..=64).contains(&text.len()) && text.bytes().all(plain)
    };
    let service = Service::Ses {
        credentials: AwsCredentials::read(section),
        configuration_set: section.checked(
            "configuration_set",
            "at most 64 letters, digits, - and _",
            is_set,
        ),
        region: region.clone(),
    };
    let end = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    (service, format!("email.{region}.{end}"))
}

impl AwsCredentials {
    /// `access_key_id` with `key_file`, or `instance_role = true`.
    fn read(section: &Reader<'_>) -> Self {
        if section.switch("instance_role", false) {
            for other in ["access_key_id", "key", "key_file", "session_token_file"] {
                if section.has(other) {
                    section.fault(other, "has no meaning with instance_role = true");
                }
            }
            let metadata =
                section.value("metadata_endpoint", ENDPOINT, |node| Endpoint::parse(node.text()?));
            let metadata = metadata.unwrap_or_else(Endpoint::instance_metadata);
            return Self::InstanceRole { metadata };
        }
        if section.has("metadata_endpoint") {
            section.fault("metadata_endpoint", "has a meaning only with instance_role = true");
        }
        let is_id = |text: &str| {
            (16..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric())
        };
        let id = section.required("access_key_id", "the id of an access key like \"AKIA…\"", is_id);
        Self::Key {
            id: id.unwrap_or_default(),
            secret: key(section),
            session_token: section
                .secret("session_token", "session_token_file")
                .filter(|token| fits_a_header(section, "session_token_file", token)),
        }
    }
}

/// The account's key; it must be there.
fn key(section: &Reader<'_>) -> Secret {
    if !section.has("key") && !section.has("key_file") {
        section.fault("key_file", "missing; expected the file that holds the account's key");
    }
    let key = section.secret("key", "key_file");
    key.filter(|key| fits_a_header(section, "key_file", key)).unwrap_or_else(|| Secret::new(""))
}

/// What stands in a header must not end it.
fn fits_a_header(section: &Reader<'_>, name: &str, secret: &Secret) -> bool {
    let fits = secret.expose().bytes().all(|b| b.is_ascii_graphic());
    if !fits {
        section.fault(name, "expected one line of visible ASCII, found something else (not shown)");
    }
    fits
}

pub(super) const ENDPOINT: &str =
    "a server like \"https://api.example.net\" or \"http://127.0.0.1:8080\"";

fn endpoint(section: &Reader<'_>, key: &'static str) -> Option<Endpoint> {
    let endpoint = section.value(key, ENDPOINT, |node| Endpoint::parse(node.text()?))?;
    if !endpoint.tls && !endpoint.is_local() {
        section.fault(key, "the account's key and the mail would travel in clear; expected https");
    }
    Some(endpoint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_and_written() {
        for (text, authority) in [
            ("https://api.example.net", "api.example.net"),
            ("https://API.example.net:443/", "api.example.net"),
            ("https://10.0.0.1:8443", "10.0.0.1:8443"),
            ("http://127.0.0.1:9000", "127.0.0.1:9000"),
            ("http://[::1]:9000", "[::1]:9000"),
            ("https://[2001:db8::1]", "[2001:db8::1]"),
        ] {
            let endpoint = Endpoint::parse(text).expect(text);
            assert_eq!(endpoint.authority(), authority, "{text}");
            assert_eq!(Endpoint::parse(&endpoint.to_string()), Some(endpoint), "{text}");
        }
        for wrong in [
            "api.example.net",
            "ftp://api.example.net",
            "https://",
            "https://a b",
            "https://api.example.net/v3",
            "https://user@api.example.net",
            "https://api.example.net:x",
            "https://[::1",
        ] {
            assert_eq!(Endpoint::parse(wrong), None, "{wrong}");
        }
    }
}
