//! Questions to the name servers that the configuration names.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::Resolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::system_conf::read_system_conf;

use crate::config::Dns;
use crate::route::authentic::Connections;

/// Asks.
pub(super) struct Names {
    resolver: Resolver<Connections>,
    timeout: Duration,
}

/// What a question brought: nothing is an answer, too.
pub(super) type Asked<T> = Result<Vec<T>, String>;

/// What a server says of a zone, and of its proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Word {
    /// There it is, and DNSSEC proves it (the AD bit).
    Proved,
    /// There it is.
    Unproved,
    /// There is no such zone.
    Absent,
    /// The server fails, as validators do at what is forged (RFC 4035 5.5).
    Failed,
    /// Nothing was learned, and why.
    Nothing(String),
}

impl Names {
    /// Asks whichever server answers.
    pub(super) fn new(dns: &Dns) -> Result<Self, String> {
        let (config, options) = servers(dns)?;
        Self::over(config, options, dns)
    }

    /// Each server by itself: where it is, and the way to ask it alone.
    pub(super) fn each(dns: &Dns) -> Result<Vec<(IpAddr, Self)>, String> {
        let (config, options) = servers(dns)?;
        let one = |server: NameServerConfig| {
            let ip = server.ip;
            let alone = ResolverConfig::from_name_servers(vec![server]);
            Ok((ip, Self::over(alone, options.clone(), dns)?))
        };
        config.name_servers.into_iter().map(one).collect()
    }

    fn over(config: ResolverConfig, options: ResolverOpts, dns: &Dns) -> Result<Self, String> {
        let mut builder = Resolver::builder_with_config(config, Connections::default());
        *builder.options_mut() = options;
        builder.options_mut().timeout = dns.timeout;
        builder.options_mut().attempts = 1;
        let resolver = builder.build().map_err(|error| trouble(&error))?;
        Ok(Self { resolver, timeout: dns.timeout * 2 })
    }

    /// Texts, their parts joined.
    pub(super) async fn texts(&self, name: &str) -> Asked<String> {
        self.ask(&absolute(name), RecordType::TXT, |data| match data {
            RData::TXT(text) => {
                let bytes: Vec<u8> = text.txt_data.iter().flatten().copied().collect();
                Some(String::from_utf8_lossy(&bytes).into_owned())
            }
            _ => None,
        })
        .await
    }

    /// Exchangers, the nearest first.
    pub(super) async fn exchangers(&self, domain: &str) -> Asked<String> {
        let mut found = self
            .ask(&absolute(domain), RecordType::MX, |data| match data {
                RData::MX(mx) => Some((mx.preference, text(&mx.exchange))),
                _ => None,
            })
            .await?;
        found.sort();
        Ok(found.into_iter().map(|(_, host)| host).collect())
    }

    /// Addresses of both families.
    pub(super) async fn addresses(&self, host: &str) -> Asked<IpAddr> {
        let name = absolute(host);
        let v6 = self.ask(&name, RecordType::AAAA, |data| match data {
            RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
            _ => None,
        });
        let (v4, v6) = tokio::join!(self.v4(host), v6);
        Ok([v4?, v6?].concat())
    }

    /// Addresses of the older family alone: what block lists answer with.
    pub(super) async fn v4(&self, host: &str) -> Asked<IpAddr> {
        self.ask(&absolute(host), RecordType::A, |data| match data {
            RData::A(a) => Some(IpAddr::V4(a.0)),
            _ => None,
        })
        .await
    }

    /// The names of an address.
    pub(super) async fn reverse(&self, address: IpAddr) -> Asked<String> {
        let name = Name::from(address).to_ascii();
        self.ask(&absolute(&name), RecordType::PTR, |data| match data {
            RData::PTR(ptr) => Some(text(&ptr.0)),
            _ => None,
        })
        .await
    }

    /// What is said of a zone when its proof is asked for.
    pub(super) async fn word(&self, zone: &str) -> Word {
        let zone = absolute(zone);
        match tokio::time::timeout(self.timeout, self.resolver.lookup(&zone, RecordType::SOA)).await
        {
            Ok(Ok(lookup)) if lookup.message().metadata.authentic_data => Word::Proved,
            Ok(Ok(_)) => Word::Unproved,
            Ok(Err(NetError::Dns(DnsError::NoRecordsFound(_)))) => Word::Absent,
            Ok(Err(NetError::Dns(DnsError::ResponseCode(ResponseCode::ServFail)))) => Word::Failed,
            Ok(Err(error)) => Word::Nothing(error.to_string()),
            Err(_elapsed) => Word::Nothing("no answer in time".to_owned()),
        }
    }

    async fn ask<T>(
        &self,
        name: &str,
        kind: RecordType,
        read: impl Fn(&RData) -> Option<T>,
    ) -> Asked<T> {
        match tokio::time::timeout(self.timeout, self.resolver.lookup(name, kind)).await {
            Ok(Ok(lookup)) => {
                Ok(lookup.answers().iter().filter_map(|record| read(&record.data)).collect())
            }
            Ok(Err(NetError::Dns(DnsError::NoRecordsFound(_)))) => Ok(Vec::new()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_elapsed) => Err("no answer in time".to_owned()),
        }
    }
}

/// Those of the configuration, else the system's.
fn servers(dns: &Dns) -> Result<(ResolverConfig, ResolverOpts), String> {
    if dns.servers.is_empty() {
        return read_system_conf().map_err(|error| trouble(&error));
    }
    let servers = dns.servers.iter().map(server).collect();
    Ok((ResolverConfig::from_name_servers(servers), ResolverOpts::default()))
}

fn trouble(error: &NetError) -> String {
    format!("no name server can be asked: {error}; set dns.servers or /etc/resolv.conf")
}

fn server(address: &SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}

fn absolute(name: &str) -> String {
    format!("{}.", name.trim_end_matches('.'))
}

fn text(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_ascii_lowercase()
}
