//! Questions to the name servers that the configuration names.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::{Name, RData, RecordType};

use crate::config::Dns;

/// Asks.
pub(super) struct Names {
    resolver: TokioResolver,
    timeout: Duration,
}

/// What a question brought: nothing is an answer, too.
pub(super) type Asked<T> = Result<Vec<T>, String>;

impl Names {
    pub(super) fn new(dns: &Dns) -> Result<Self, String> {
        let trouble = |error: NetError| {
            format!("no name server can be asked: {error}; set dns.servers or /etc/resolv.conf")
        };
        let mut builder = if dns.servers.is_empty() {
            TokioResolver::builder_tokio().map_err(trouble)?
        } else {
            let servers = dns.servers.iter().map(server).collect();
            let config = ResolverConfig::from_name_servers(servers);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        };
        builder.options_mut().timeout = dns.timeout;
        builder.options_mut().attempts = 1;
        let resolver = builder.build().map_err(trouble)?;
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
        let host = absolute(host);
        let v4 = self.ask(&host, RecordType::A, |data| match data {
            RData::A(a) => Some(IpAddr::V4(a.0)),
            _ => None,
        });
        let v6 = self.ask(&host, RecordType::AAAA, |data| match data {
            RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
            _ => None,
        });
        let (v4, v6) = tokio::join!(v4, v6);
        Ok([v4?, v6?].concat())
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
