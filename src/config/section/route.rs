//! `[[route]]`, `[[rule]]`, `[[mailbox_provider]]`, `[dns]`: which way mail leaves.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::provider::{self, Provider};
use super::tls::{ClientCertificate, Proof};
use crate::config::reader::Reader;
use crate::config::word::{NAME, is_domain, is_host, is_name};

/// A way out.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// By which rules, limits, metrics and the attempt history call it.
    pub name: String,
    /// Direct, by a relay or by a provider.
    pub kind: RouteKind,
    /// The route that takes over while this one is out (relays and providers).
    pub fallback: Option<String>,
    /// How much TLS is asked for.
    pub tls: TlsMode,
    /// Whether policies that receivers publish (`[tls]`) ask for more than `tls` does (true;
    /// not for relays).
    pub tls_policies: bool,
    /// Shown to a relay that asks for one.
    pub client_certificate: Option<ClientCertificate>,
    /// Names of the sources to send from; empty: every source. Lanes take them in turn.
    pub sources: Vec<String>,
    /// Connections to one host at once (20).
    pub max_connections_per_host: u32,
    /// Mails after which a connection is closed (100).
    pub messages_per_connection: u32,
}

/// Where a route leads.
#[derive(Debug, Clone, PartialEq)]
pub enum RouteKind {
    /// To the recipient's mail exchangers, by DNS.
    Mx {
        /// 25 but in tests.
        port: u16,
    },
    /// To one relay.
    Relay {
        /// Name or address of the relay.
        host: String,
        /// 587, 465 or 25.
        port: u16,
        /// Login at the relay.
        auth: Option<Auth>,
    },
    /// To a provider's API.
    Provider(Box<Provider>),
}

/// A login; what proves it comes from a file, a credential or the environment.
#[derive(Debug, Clone, PartialEq)]
pub struct Auth {
    /// User name.
    pub username: String,
    /// Password or token.
    pub proof: Proof,
}

/// How much TLS a route asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TlsMode {
    /// Never (only sensible on loopback).
    None,
    /// STARTTLS when offered, any certificate, in clear when not offered or broken.
    Opportunistic,
    /// STARTTLS or nothing; any certificate.
    Required,
    /// STARTTLS or nothing; the certificate must verify for the host's name.
    Verified,
    /// TLS from the first byte (port 465), verified.
    Implicit,
}

/// Sends matching deliveries over a route. Fields left out match everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteRule {
    /// A tenant's name.
    pub tenant: Option<String>,
    /// A stream's name.
    pub stream: Option<String>,
    /// A mailbox provider's name.
    pub mailbox_provider: Option<String>,
    /// The routes to take, each for its share of the deliveries; never empty.
    pub split: Vec<Share>,
    /// The pool to send from; `None`: the sources of the route.
    pub pool: Option<String>,
}

/// A route's part of what a rule matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The route's name.
    pub route: String,
    /// Its part, in proportion to the sum of all.
    pub weight: u32,
}

/// Which destinations count as one mailbox provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailboxProviderRule {
    /// `google`, `microsoft`, …
    pub name: String,
    /// Recipient domains, lower case.
    pub domains: Vec<String>,
    /// Ends of MX host names, with the leading dot, lower case.
    pub mx_suffixes: Vec<String>,
}

/// `[dns]`
#[derive(Debug, Clone, PartialEq)]
pub struct Dns {
    /// Resolvers to ask; empty: those of the system.
    pub servers: Vec<SocketAddr>,
    /// Longest wait for one answer (5 s).
    pub timeout: Duration,
    /// Whether mail may go to loopback, private and link-local addresses found by DNS (false).
    pub allow_private_addresses: bool,
    /// Whose word counts that an answer was validated (those on this machine).
    pub dnssec: Dnssec,
}

/// Which name servers are believed when they say that they validated an answer (the AD bit).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dnssec {
    /// Those on this machine: nobody can change their answers on the way.
    Loopback,
    /// All: the operator answers for the way to them.
    Trusted,
    /// None: without validated answers there is no DANE.
    Off,
}

impl Default for Dns {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            timeout: Duration::from_secs(5),
            allow_private_addresses: false,
            dnssec: Dnssec::Loopback,
        }
    }
}

impl Default for Route {
    /// The shipped route: straight to the recipients' exchangers.
    fn default() -> Self {
        Self {
            name: "direct".into(),
            kind: RouteKind::Mx { port: 25 },
            fallback: None,
            tls: TlsMode::Opportunistic,
            tls_policies: true,
            client_certificate: None,
            sources: Vec::new(),
            max_connections_per_host: 20,
            messages_per_connection: 100,
        }
    }
}

impl Route {
    pub(in crate::config) fn read(section: Reader<'_>) -> Self {
        let default = Self::default();
        let tls = [
            ("none", TlsMode::None),
            ("opportunistic", TlsMode::Opportunistic),
            ("required", TlsMode::Required),
            ("verified", TlsMode::Verified),
            ("implicit", TlsMode::Implicit),
        ];
        let tls = section.choice("tls", &tls);
        let kinds = [
            ("mx", Kind::Mx),
            ("relay", Kind::Relay),
            ("ses", Kind::Provider(provider::Kind::Ses)),
            ("sendgrid", Kind::Provider(provider::Kind::SendGrid)),
            ("mailgun", Kind::Provider(provider::Kind::Mailgun)),
        ];
        let chosen = section.choice("kind", &kinds).unwrap_or(Kind::Mx);
        chosen.refuse_foreign_keys(&section);
        let (kind, tls) = match chosen {
            Kind::Relay => {
                let tls = tls.unwrap_or(TlsMode::Verified);
                let host =
                    section.required("host", "the relay's host name or IP address", is_relay_host);
                let host = host.unwrap_or_default();
                let port = if tls == TlsMode::Implicit { 465 } else { 587 };
                let port = section.integer("port", port, 1..=65_535);
                let auth = Auth::read(&section, tls, &host);
                (RouteKind::Relay { host, port, auth }, tls)
            }
            Kind::Mx => {
                let tls = tls.unwrap_or(default.tls);
                if tls == TlsMode::Implicit {
                    section.fault(
                        "tls",
                        "mail exchangers do not speak TLS from the first byte; use \"verified\"",
                    );
                }
                (RouteKind::Mx { port: section.integer("port", 25, 1..=65_535) }, tls)
            }
            Kind::Provider(kind) => {
                let provider = Provider::read(kind, &section);
                (RouteKind::Provider(Box::new(provider)), TlsMode::Verified)
            }
        };
        let relay = chosen == Kind::Relay;
        if relay && section.has("tls_policies") {
            section.fault("tls_policies", "has a meaning only with kind = \"mx\"");
        }
        let client_certificate = if relay { ClientCertificate::read(&section) } else { None };
        if client_certificate.is_some() && tls == TlsMode::None {
            section.fault("tls", "a certificate is shown under TLS only, and this asks for none");
        }
        let route = Self {
            name: section.required("name", NAME, is_name).unwrap_or_default(),
            tls_policies: section.switch("tls_policies", default.tls_policies)
                && chosen == Kind::Mx,
            client_certificate,
            kind,
            fallback: section.text("fallback"),
            tls,
            sources: section
                .list("sources", "the name of a [[source]]", |text| Some(text.to_owned()))
                .unwrap_or_default(),
            max_connections_per_host: section.integer(
                "max_connections_per_host",
                default.max_connections_per_host,
                1..=100_000,
            ),
            messages_per_connection: section.integer(
                "messages_per_connection",
                default.messages_per_connection,
                1..=1_000_000,
            ),
        };
        section.end();
        route
    }
}

/// What a route's `kind` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Mx,
    Relay,
    Provider(provider::Kind),
}

impl Kind {
    /// A key that another kind of route would follow is a mistake about this one.
    fn refuse_foreign_keys(self, section: &Reader<'_>) {
        let refuse = |keys: &[&'static str], message: &str| {
            for &key in keys {
                if section.has(key) {
                    section.fault(key, message);
                }
            }
        };
        let of_relays = [
            "host",
            "username",
            "password",
            "password_file",
            "token_file",
            "client_certificate_file",
            "client_key",
            "client_key_file",
        ];
        let of_smtp = [
            "port",
            "tls",
            "tls_policies",
            "sources",
            "max_connections_per_host",
            "messages_per_connection",
        ];
        match self {
            Self::Mx => {
                refuse(&of_relays, "has a meaning only with kind = \"relay\"");
                refuse(&["fallback"], "a route to the recipients' exchangers is never out");
            }
            Self::Relay => {}
            Self::Provider(_) => {
                let message = "has no meaning for a provider, which sends by itself";
                refuse(&of_relays, message);
                refuse(&of_smtp, message);
            }
        }
        if !matches!(self, Self::Provider(_)) {
            let message = "has a meaning only with kind = \"ses\", \"sendgrid\" or \"mailgun\"";
            refuse(&provider::KEYS, message);
            refuse(&provider::TIMES, message);
        }
    }
}

impl Auth {
    /// `username` with `password_file` or `token_file`, or none. Neither of them travels in clear
    /// but on loopback.
    pub(super) fn read(section: &Reader<'_>, tls: TlsMode, host: &str) -> Option<Self> {
        let visible = |text: &str| !text.is_empty() && !text.chars().any(char::is_control);
        let username = section.checked("username", "a text without control characters", visible);
        let password = section.secret("password", "password_file");
        let token = section.file("token_file");
        let given = section.has("password") || section.has("password_file");
        if section.has("username") != (given || token.is_some()) {
            section.fault("username", "expected username and password_file or token_file together");
        }
        if given && token.is_some() {
            section.fault("token_file", "expected password_file or token_file, found both");
        }
        let proof = token.map(Proof::TokenFile).or(password.map(Proof::Password));
        let auth = username.zip(proof).map(|(username, proof)| Self { username, proof });
        if let Some(Self { proof: proof @ Proof::TokenFile(_), .. }) = &auth
            && let Err(error) = proof.now()
        {
            section.fault("token_file", error);
        }
        let clear = matches!(tls, TlsMode::None | TlsMode::Opportunistic);
        let loopback = host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if auth.is_some() && clear && !loopback {
            section.fault(
                "tls",
                "a password would travel in clear; expected \"required\", \"verified\" or \"implicit\"",
            );
        }
        auth
    }
}

pub(super) fn is_relay_host(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok() || is_host(text)
}

impl RouteRule {
    pub(in crate::config) fn read(section: Reader<'_>) -> Self {
        let rule = Self {
            tenant: section.text("tenant"),
            stream: section.checked("stream", NAME, is_name),
            mailbox_provider: section.text("mailbox_provider"),
            split: Share::read(&section),
            pool: section.text("pool"),
        };
        section.end();
        rule
    }
}

impl Share {
    /// `route = "…"`, or `split = [{ route = "…", weight = … }, …]`.
    fn read(section: &Reader<'_>) -> Vec<Self> {
        const ROUTE: &str = "the name of a [[route]]";
        if let Some(entries) = section.entries("split") {
            if section.has("route") {
                section.fault("route", "expected route or split, found both");
            }
            if entries.is_empty() {
                section.fault("split", "expected at least one { route = \"…\", weight = … }");
            }
            let read = |entry: Reader<'_>| {
                let share = Self {
                    route: entry.required("route", ROUTE, |_| true).unwrap_or_default(),
                    weight: entry.integer("weight", 1, 1..=1_000_000),
                };
                entry.end();
                share
            };
            return entries.into_iter().map(read).collect();
        }
        let route = section.required("route", ROUTE, |_| true).unwrap_or_default();
        vec![Self { route, weight: 1 }]
    }
}

impl MailboxProviderRule {
    pub(in crate::config) fn read(section: Reader<'_>) -> Self {
        let domain = |text: &str| is_domain(text).then(|| text.to_owned());
        let suffix =
            |text: &str| text.strip_prefix('.').is_some_and(is_domain).then(|| text.to_owned());
        let rule = Self {
            name: section.required("name", NAME, is_name).unwrap_or_default(),
            domains: section.list("domains", "a domain in lower case", domain).unwrap_or_default(),
            mx_suffixes: section
                .list("mx_suffixes", "the end of a host name like \".example.com\"", suffix)
                .unwrap_or_default(),
        };
        if rule.domains.is_empty() && rule.mx_suffixes.is_empty() {
            section.fault("domains", "expected domains, mx_suffixes, or both");
        }
        section.end();
        rule
    }
}

impl Dns {
    pub(in crate::config) fn read(section: Reader<'_>) -> Self {
        let default = Self::default();
        let server = |text: &str| {
            let address = text.parse().ok();
            address.or_else(|| text.parse().ok().map(|ip: IpAddr| SocketAddr::new(ip, 53)))
        };
        let dns = Self {
            servers: section
                .list("servers", "an address like 127.0.0.1 or 127.0.0.1:53", server)
                .unwrap_or_default(),
            timeout: section.duration(
                "timeout",
                default.timeout,
                Duration::from_millis(100)..=Duration::from_secs(60),
            ),
            allow_private_addresses: section
                .switch("allow_private_addresses", default.allow_private_addresses),
            dnssec: section
                .choice(
                    "dnssec",
                    &[
                        ("loopback", Dnssec::Loopback),
                        ("trusted", Dnssec::Trusted),
                        ("off", Dnssec::Off),
                    ],
                )
                .unwrap_or(default.dnssec),
        };
        section.end();
        dns
    }
}
