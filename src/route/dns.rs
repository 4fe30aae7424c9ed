//! Questions to the DNS, and its answers in our words.
//!
//! A thin layer over hickory. Every question ends within `dns.timeout`, with
//! one repetition; truncated answers are fetched over TCP. Records are believed
//! for at most an hour, and that something is absent for at most a minute. An answer that is
//! *authentic* was proved by DNSSEC, on the word of a name server that the operator trusts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use hickory_resolver::Resolver as Hickory;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::rdata::TLSA;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::system_conf::read_system_conf;

use super::authentic::{Connections, believed};
use crate::config::Dns;

/// Longest belief in records.
pub(super) const LONGEST: Duration = Duration::from_secs(3600);
/// Longest belief in the absence of records, and time before trouble is met again.
pub(super) const LONGEST_ABSENCE: Duration = Duration::from_secs(60);

/// Answers kept by hickory (addresses of hosts that many domains share).
const ANSWERS: u64 = 32_768;
/// Questions on their way over one TCP connection; more fail at once.
const IN_FLIGHT: usize = 4096;

/// Asks name servers.
#[derive(Debug)]
pub(super) struct Resolver {
    hickory: Hickory<Connections>,
    timeout: Duration,
    /// Whether the AD bit counts.
    believed: bool,
}

/// Whether `/etc/hosts` is asked first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HostsFile {
    /// For names that the operator wrote.
    Consulted,
    /// For names that come from the DNS.
    Ignored,
}

/// Records, and how long they may be believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found<T> {
    pub(super) records: T,
    pub(super) lifetime: Duration,
    /// Proved by DNSSEC, and no alias on the way.
    pub(super) authentic: bool,
}

/// Addresses of a host; not both lists are empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Addresses {
    pub(super) v4: Vec<Ipv4Addr>,
    pub(super) v6: Vec<Ipv6Addr>,
}

type Answer<T> = Result<Found<Vec<T>>, Miss>;

/// Why there are no records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Miss {
    /// The name does not exist, for this long.
    NoName(Duration),
    /// The name exists and has no such record, for this long.
    NoRecord(Duration),
    /// No answer in time.
    Timeout,
    /// The servers could not or would not tell.
    Failed(String),
}

/// There is no name server to ask.
#[derive(Debug, thiserror::Error)]
pub enum ResolverError {
    /// The system names none.
    #[error(
        "expected name servers in dns.servers or /etc/resolv.conf, found none ({0}); \
         set dns.servers, for example [\"127.0.0.1:53\"]"
    )]
    NoServers(#[source] NetError),
    /// The ones that are named cannot be used.
    #[error("cannot ask the configured name servers: {0}")]
    Unusable(#[source] NetError),
}

impl Resolver {
    pub(super) fn new(dns: &Dns, hosts_file: HostsFile) -> Result<Self, ResolverError> {
        let (config, system) = if dns.servers.is_empty() {
            read_system_conf().map_err(ResolverError::NoServers)?
        } else {
            let servers = dns.servers.iter().map(server).collect();
            (ResolverConfig::from_name_servers(servers), ResolverOpts::default())
        };
        let believed = believed(dns.dnssec, config.name_servers.iter().map(|server| server.ip));
        let mut builder = Hickory::builder_with_config(config, Connections::default());
        let options = builder.options_mut();
        *options = system;
        options.timeout = dns.timeout / 2;
        options.attempts = 1;
        options.cache_size = ANSWERS;
        options.max_active_requests = IN_FLIGHT;
        options.positive_max_ttl = Some(LONGEST);
        options.negative_max_ttl = Some(LONGEST_ABSENCE);
        options.use_hosts_file = match hosts_file {
            HostsFile::Consulted => ResolveHosts::Always,
            HostsFile::Ignored => ResolveHosts::Never,
        };
        let hickory = builder.build().map_err(ResolverError::Unusable)?;
        Ok(Self { hickory, timeout: dns.timeout, believed })
    }

    /// The MX records of a domain: preference and host (lower case, no dot at
    /// the end; empty for the root).
    pub(super) async fn mx(&self, domain: &str) -> Result<Found<Vec<(u16, String)>>, Miss> {
        let answer = self.ask(&absolute(domain), RecordType::MX).await?;
        let mx = |data: &RData| match data {
            RData::MX(mx) => Some((mx.preference, host_text(&mx.exchange))),
            _ => None,
        };
        found(&answer, mx)
    }

    /// The TXT records of a name, each with its strings joined.
    pub(super) async fn txt(&self, name: &str) -> Result<Found<Vec<String>>, Miss> {
        let answer = self.ask(&absolute(name), RecordType::TXT).await?;
        found(&answer, |data| match data {
            RData::TXT(txt) => Some(String::from_utf8_lossy(&txt.txt_data.concat()).into_owned()),
            _ => None,
        })
    }

    /// The TLSA records of a name like `_25._tcp.mx.example.net`.
    pub(super) async fn tlsa(&self, name: &str) -> Result<Found<Vec<TLSA>>, Miss> {
        let answer = self.ask(&absolute(name), RecordType::TLSA).await?;
        found(&answer, |data| match data {
            RData::TLSA(tlsa) => Some(tlsa.clone()),
            _ => None,
        })
    }

    /// The addresses of a host, of both families.
    pub(super) async fn addresses(&self, host: &str) -> Result<Found<Addresses>, Miss> {
        let v4 = async {
            let answer = self.ask(host, RecordType::A).await?;
            found(&answer, |data| match data {
                RData::A(a) => Some(a.0),
                _ => None,
            })
        };
        let v6 = async {
            let answer = self.ask(host, RecordType::AAAA).await?;
            found(&answer, |data| match data {
                RData::AAAA(aaaa) => Some(aaaa.0),
                _ => None,
            })
        };
        both(tokio::join!(v4, v6))
    }

    async fn ask(&self, name: &str, kind: RecordType) -> Result<Answered, Miss> {
        match tokio::time::timeout(self.timeout, self.hickory.lookup(name, kind)).await {
            Ok(Ok(lookup)) => {
                let authentic = self.believed && is_authentic(&lookup, name);
                Ok(Answered { lookup, authentic })
            }
            Ok(Err(error)) => Err(Miss::read(&error)),
            Err(_) => Err(Miss::Timeout),
        }
    }
}

/// An answer with records, and what it is worth.
struct Answered {
    lookup: Lookup,
    authentic: bool,
}

/// Whether the server says that it validated this answer. Behind an alias it may have said so
/// of the last piece of the way only, so that does not count.
fn is_authentic(lookup: &Lookup, asked: &str) -> bool {
    Name::from_ascii(asked).is_ok_and(|asked| {
        lookup.message().metadata.authentic_data
            && lookup.answers().iter().all(|answer| answer.name == asked)
    })
}

impl Miss {
    fn read(error: &NetError) -> Self {
        match error {
            NetError::Dns(DnsError::NoRecordsFound(absent)) => {
                let lifetime = absent.negative_ttl.map_or(LONGEST_ABSENCE, seconds);
                if error.is_nx_domain() { Self::NoName(lifetime) } else { Self::NoRecord(lifetime) }
            }
            NetError::Timeout => Self::Timeout,
            other => Self::Failed(other.to_string()),
        }
    }
}

impl Addresses {
    /// One family after the other, beginning with IPv4 (large receivers ask
    /// more of mail that comes over IPv6), each from a random place: the load
    /// spreads over the addresses as the DNS would spread it.
    pub(super) fn shuffled(&self) -> impl Iterator<Item = IpAddr> {
        let mut v4 = from_anywhere(&self.v4).map(IpAddr::V4);
        let mut v6 = from_anywhere(&self.v6).map(IpAddr::V6);
        let mut turns = 0;
        std::iter::from_fn(move || {
            turns += 1;
            if turns % 2 == 1 {
                v4.next().or_else(|| v6.next())
            } else {
                v6.next().or_else(|| v4.next())
            }
        })
    }
}

/// A name that is complete: no search list of the system is tried with it.
pub(super) fn absolute(name: &str) -> String {
    format!("{}.", name.trim_end_matches('.'))
}

fn server(address: &SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}

fn host_text(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_ascii_lowercase()
}

fn found<T>(answer: &Answered, read: impl Fn(&RData) -> Option<T>) -> Answer<T> {
    let Answered { lookup, authentic } = answer;
    let records: Vec<T> = lookup.answers().iter().filter_map(|answer| read(&answer.data)).collect();
    if records.is_empty() {
        // A chain of aliases that leads to no record of the kind.
        return Err(Miss::NoRecord(LONGEST_ABSENCE));
    }
    let lifetime = lookup.valid_until().saturating_duration_since(Instant::now());
    Ok(Found { records, lifetime, authentic: *authentic })
}

/// Joins the answers of both families: one is enough, and trouble with one
/// outweighs the other's absence.
fn both(answers: (Answer<Ipv4Addr>, Answer<Ipv6Addr>)) -> Result<Found<Addresses>, Miss> {
    let addresses = |v4, v6, lifetime, authentic| {
        Ok(Found { records: Addresses { v4, v6 }, lifetime, authentic })
    };
    match answers {
        (Ok(v4), Ok(v6)) => {
            let authentic = v4.authentic && v6.authentic;
            addresses(v4.records, v6.records, v4.lifetime.min(v6.lifetime), authentic)
        }
        (Ok(v4), Err(miss)) => {
            addresses(v4.records, Vec::new(), v4.lifetime.min(miss.lifetime()), v4.authentic)
        }
        (Err(miss), Ok(v6)) => {
            addresses(Vec::new(), v6.records, v6.lifetime.min(miss.lifetime()), v6.authentic)
        }
        (Err(trouble @ (Miss::Timeout | Miss::Failed(_))), Err(_))
        | (Err(_), Err(trouble @ (Miss::Timeout | Miss::Failed(_)))) => Err(trouble),
        (Err(Miss::NoName(a)), Err(b)) => Err(Miss::NoName(a.min(b.lifetime()))),
        (Err(a), Err(b)) => Err(if matches!(b, Miss::NoName(_)) { b } else { a }),
    }
}

impl Miss {
    /// How long it may be taken for granted.
    pub(super) fn lifetime(&self) -> Duration {
        match self {
            Self::NoName(lifetime) | Self::NoRecord(lifetime) => *lifetime,
            Self::Timeout | Self::Failed(_) => LONGEST_ABSENCE,
        }
    }
}

fn seconds(ttl: u32) -> Duration {
    Duration::from_secs(u64::from(ttl))
}

fn from_anywhere<T: Copy>(list: &[T]) -> impl Iterator<Item = T> {
    let start = if list.len() > 1 { rand::random_range(0..list.len()) } else { 0 };
    let (before, after) = list.split_at(start);
    after.iter().chain(before).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const HOUR: Duration = Duration::from_secs(3600);

    fn v4(lifetime: Duration) -> Found<Vec<Ipv4Addr>> {
        Found { records: vec![Ipv4Addr::LOCALHOST], lifetime, authentic: true }
    }

    fn v6(lifetime: Duration) -> Found<Vec<Ipv6Addr>> {
        Found { records: vec![Ipv6Addr::LOCALHOST], lifetime, authentic: false }
    }

    #[test]
    fn one_family_is_enough_and_trouble_outweighs_absence() {
        let lifetime = |answers| both(answers).map(|found| found.lifetime);
        assert_eq!(lifetime((Ok(v4(HOUR)), Ok(v6(MINUTE)))), Ok(MINUTE));
        assert_eq!(lifetime((Ok(v4(HOUR)), Err(Miss::Timeout))), Ok(LONGEST_ABSENCE));
        assert_eq!(lifetime((Err(Miss::NoRecord(HOUR)), Ok(v6(HOUR)))), Ok(HOUR));
        let trouble = Miss::Failed("SERVFAIL".into());
        assert_eq!(both((Err(Miss::NoRecord(HOUR)), Err(trouble.clone()))), Err(trouble.clone()));
        assert_eq!(both((Err(trouble.clone()), Err(Miss::NoName(HOUR)))), Err(trouble));
        let absent = (Err(Miss::NoName(MINUTE)), Err(Miss::NoName(HOUR)));
        assert_eq!(both(absent), Err(Miss::NoName(MINUTE)));
    }

    #[test]
    fn families_take_turns() {
        let v4s: Vec<_> = (1..=3).map(|n| Ipv4Addr::new(192, 0, 2, n)).collect();
        let addresses = Addresses { v4: v4s.clone(), v6: vec![Ipv6Addr::LOCALHOST] };
        let mut firsts = std::collections::HashSet::new();
        for _ in 0..100 {
            let order: Vec<IpAddr> = addresses.shuffled().collect();
            let families: Vec<bool> = order.iter().map(IpAddr::is_ipv4).collect();
            assert_eq!(families, [true, false, true, true]);
            firsts.insert(order[0]);
        }
        assert_eq!(firsts.len(), 3);
        let only_v6 = Addresses { v4: vec![], v6: vec![Ipv6Addr::LOCALHOST] };
        assert_eq!(only_v6.shuffled().count(), 1);
    }

    #[test]
    fn names_are_made_complete_once() {
        assert_eq!(absolute("example.com"), "example.com.");
        assert_eq!(absolute("example.com."), "example.com.");
    }
}
