//! `[[source]]`, `[[pool]]`: where mail leaves from.

use std::net::{IpAddr, SocketAddr};

use chrono::NaiveDate;

use crate::config::document::{Node, Value};
use crate::config::reader::Reader;
use crate::config::word::{NAME, is_full_host, is_name};

/// Egress addresses under one name.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// By which routes, limits and metrics call it.
    pub name: String,
    /// Addresses to send from, one of a family at most; empty: the system chooses. With a
    /// proxy they are the proxy's.
    pub addresses: Vec<IpAddr>,
    /// Name in EHLO: a fully qualified host name.
    pub ehlo: String,
    /// What connections go through; `None`: they go out from this machine.
    pub proxy: Option<Proxy>,
    /// How it gets its reputation; `None`: it has one.
    pub warm_up: Option<WarmUp>,
}

/// A machine that connections go out from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proxy {
    /// SOCKS5 (RFC 1928), without a login. It sends from the address it was made for.
    Socks5(SocketAddr),
    /// Is told by PROXY protocol, version 2, which address to send from and where to.
    ProxyV2(SocketAddr),
}

/// How much a new source may send to each mailbox provider, day by day (UTC).
#[derive(Debug, Clone, PartialEq)]
pub struct WarmUp {
    /// The first day.
    pub starts: NaiveDate,
    /// The days' volumes.
    pub ramp: Ramp,
}

/// The volumes of a warm-up.
#[derive(Debug, Clone, PartialEq)]
pub enum Ramp {
    /// Each day's is the day's before, multiplied.
    Growth {
        /// On the first day.
        first_day: u32,
        /// By how much it grows from day to day.
        growth: f64,
        /// From this volume on the source is warm.
        until: u32,
    },
    /// As listed; after the last one the source is warm.
    Days(Vec<u32>),
}

/// How far a source's warm-up has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It begins later.
    Ahead,
    /// Today it may send so many mails to each mailbox provider.
    Warming(u32),
    /// It is over, or there is none.
    Warm,
}

/// Sources that mail of one kind leaves from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// By which rules call it.
    pub name: String,
    /// Names of its sources.
    pub sources: Vec<String>,
}

impl Default for Source {
    /// The shipped source. Its name is nobody's: receivers want a real one.
    fn default() -> Self {
        Self {
            name: "default".into(),
            addresses: Vec::new(),
            ehlo: "localhost.localdomain".into(),
            proxy: None,
            warm_up: None,
        }
    }
}

impl Source {
    /// The address to reach a peer from; `None`: the system's choice.
    pub fn address_for(&self, peer: IpAddr) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|ours| ours.is_ipv4() == peer.is_ipv4())
    }

    /// Whether it can reach a peer: with addresses, only those of their families.
    pub fn reaches(&self, peer: IpAddr) -> bool {
        self.addresses.is_empty() || self.address_for(peer).is_some()
    }

    /// How far its warm-up has come at a time (seconds since 1970).
    pub fn stage(&self, unix_seconds: u64) -> Stage {
        self.warm_up.as_ref().map_or(Stage::Warm, |warm_up| warm_up.stage(unix_seconds))
    }

    pub(in crate::config) fn read(section: Reader<'_>) -> Self {
        let ehlo = "a full host name like mail.example.com";
        let addresses = section.value("address", ADDRESSES, addresses).unwrap_or_default();
        let source = Self {
            name: section.required("name", NAME, is_name).unwrap_or_default(),
            addresses,
            ehlo: section.required("ehlo", ehlo, is_full_host).unwrap_or_default(),
            proxy: section.value("proxy", PROXY, |node| proxy(node.text()?)),
            warm_up: section.optional_section("warm_up").and_then(WarmUp::read),
        };
        if matches!(source.proxy, Some(Proxy::ProxyV2(_))) && source.addresses.is_empty() {
            section.fault("address", "missing; expected what the proxy is to send from");
        }
        section.end();
        source
    }
}

impl WarmUp {
    fn stage(&self, unix_seconds: u64) -> Stage {
        let first = self.starts.signed_duration_since(NaiveDate::default()).num_days();
        let day = (unix_seconds / 86_400) as i64 - first;
        if day < 0 {
            return Stage::Ahead;
        }
        let day = u32::try_from(day).unwrap_or(u32::MAX);
        match &self.ramp {
            Ramp::Days(days) => {
                days.get(day as usize).map_or(Stage::Warm, |volume| Stage::Warming(*volume))
            }
            Ramp::Growth { first_day, growth, until } => {
                let volume = f64::from(*first_day) * growth.powi(day.min(10_000) as i32);
                if volume >= f64::from(*until) {
                    return Stage::Warm;
                }
                Stage::Warming((volume as u32).max(1))
            }
        }
    }

    fn read(section: Reader<'_>) -> Option<Self> {
        if !section.has("starts") {
            section.fault("starts", format_args!("missing; expected {DATE}"));
        }
        let starts = section.value("starts", DATE, |node| node.text()?.parse().ok());
        let volumes = 1..=1_000_000_000u32;
        let days = section.value("days", VOLUMES, numbers);
        let ramp = if section.has("days") {
            for key in ["first_day", "growth", "until"] {
                if section.has(key) {
                    section.fault(key, "has no meaning beside days");
                }
            }
            Ramp::Days(days.unwrap_or_default())
        } else {
            Ramp::Growth {
                first_day: section.integer("first_day", 50, volumes.clone()),
                growth: section.number("growth", 1.5, 1.01..=10.0),
                until: section.integer("until", 100_000, volumes),
            }
        };
        section.end();
        Some(Self { starts: starts?, ramp })
    }
}

impl Pool {
    pub(in crate::config) fn read(section: Reader<'_>) -> Self {
        let pool = Self {
            name: section.required("name", NAME, is_name).unwrap_or_default(),
            sources: section
                .list("sources", "the name of a [[source]]", |text| Some(text.to_owned()))
                .unwrap_or_default(),
        };
        if pool.sources.is_empty() {
            section.fault("sources", "expected the names of [[source]]s, found none");
        }
        section.end();
        pool
    }
}

const ADDRESSES: &str = "an IP address, or a list of one IPv4 and one IPv6 address";
const PROXY: &str = "\"socks5://ADDRESS:PORT\" or \"proxy-v2://ADDRESS:PORT\"";
const DATE: &str = "a date like \"2026-12-01\"";
const VOLUMES: &str = "a list of mails for each day, each at least 1";

/// One text, or a list of them; a variable holds a list with commas.
fn addresses(node: &Node) -> Option<Vec<IpAddr>> {
    let read = |text: &str| text.trim().parse::<IpAddr>().ok();
    let found = match &node.value {
        Value::List(items) => {
            items.iter().map(|item| item.text().and_then(read)).collect::<Option<Vec<IpAddr>>>()
        }
        _ => node.text()?.split(',').map(read).collect(),
    }?;
    let fours = found.iter().filter(|ip| ip.is_ipv4()).count();
    (!found.is_empty() && fours <= 1 && found.len() - fours <= 1).then_some(found)
}

fn proxy(text: &str) -> Option<Proxy> {
    let (scheme, address) = text.split_once("://")?;
    let address = address.parse().ok()?;
    match scheme {
        "socks5" => Some(Proxy::Socks5(address)),
        "proxy-v2" => Some(Proxy::ProxyV2(address)),
        _ => None,
    }
}

fn numbers(node: &Node) -> Option<Vec<u32>> {
    let number = |number: i64| u32::try_from(number).ok().filter(|number| *number > 0);
    let found = match &node.value {
        Value::List(items) => {
            items.iter().map(|item| item.integer().and_then(number)).collect::<Option<Vec<u32>>>()
        }
        _ => node.text()?.split(',').map(|text| number(text.trim().parse().ok()?)).collect(),
    }?;
    (!found.is_empty()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    fn source(ramp: Ramp) -> Source {
        let starts = NaiveDate::from_ymd_opt(1970, 1, 11).expect("a date");
        Source { warm_up: Some(WarmUp { starts, ramp }), ..Source::default() }
    }

    #[test]
    fn a_source_warms_day_by_day_and_is_warm_then() {
        let growing = source(Ramp::Growth { first_day: 50, growth: 2.0, until: 300 });
        let stages =
            |source: &Source| [9, 10, 11, 12, 13].map(|day| source.stage(day * DAY + DAY - 1));
        use Stage::{Ahead, Warm, Warming};
        assert_eq!(stages(&growing), [Ahead, Warming(50), Warming(100), Warming(200), Warm]);
        assert_eq!(growing.stage(u64::MAX), Warm);
        let listed = source(Ramp::Days(vec![10, 30]));
        assert_eq!(stages(&listed), [Ahead, Warming(10), Warming(30), Warm, Warm]);
        assert_eq!(Source::default().stage(0), Warm);
    }

    #[test]
    fn a_source_reaches_the_families_it_has() {
        let source = |addresses: &[&str]| Source {
            addresses: addresses.iter().map(|text| text.parse().expect("an address")).collect(),
            ..Source::default()
        };
        let (four, six): (IpAddr, IpAddr) = ([192, 0, 2, 9].into(), IpAddr::V6(1.into()));
        assert!(source(&[]).reaches(four) && source(&[]).address_for(six).is_none());
        let both = source(&["192.0.2.1", "2001:db8::1"]);
        assert!(both.reaches(four) && both.reaches(six));
        assert_eq!(both.address_for(six), "2001:db8::1".parse().ok());
        assert!(!source(&["192.0.2.1"]).reaches(six));
    }
}
