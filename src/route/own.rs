//! Which mail hosts are this one.
//!
//! By name: what the sources say in EHLO. By address: what a socket can be bound to here.
//! Behind a translation of addresses only the name tells.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::Arc;

use super::dns::Addresses;
use crate::config::Source;

/// See the file's header.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Own {
    /// Lower case, without a dot at the end.
    names: Arc<[String]>,
}

impl Own {
    /// This host, by the names of its sources.
    pub(super) fn of(sources: &[Source]) -> Self {
        Self { names: sources.iter().map(|source| source.ehlo.to_ascii_lowercase()).collect() }
    }

    /// Whether a mail host (lower case) is this one.
    pub(super) fn is(&self, host: &str, addresses: &Addresses) -> bool {
        let fours = addresses.v4.iter().map(|ip| IpAddr::V4(*ip));
        let mut all = fours.chain(addresses.v6.iter().map(|ip| IpAddr::V6(*ip)));
        self.names.iter().any(|name| name == host) || all.any(is_bindable)
    }
}

/// Whether an address is one of this machine's, as far as a socket tells. Loopback and
/// unspecified ones are refused elsewhere.
fn is_bindable(ip: IpAddr) -> bool {
    /// Nobody has this one (RFC 5737): a system that binds it binds anything.
    const NOBODYS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 255));
    let binds = |ip: IpAddr| UdpSocket::bind((ip, 0)).is_ok();
    !ip.is_loopback() && !ip.is_unspecified() && !ip.is_multicast() && binds(ip) && !binds(NOBODYS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_ours_by_name_or_by_address() {
        let source = Source { ehlo: "Out.Example.com".into(), ..Source::default() };
        let own = Own::of(&[source]);
        let addresses = |v4: &[[u8; 4]]| Addresses {
            v4: v4.iter().map(|ip| (*ip).into()).collect(),
            v6: Vec::new(),
        };
        assert!(own.is("out.example.com", &addresses(&[])));
        assert!(!own.is("mx.example.com", &addresses(&[[192, 0, 2, 7], [127, 0, 0, 1]])));
        // The address that this machine would send from, if it has any way out.
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        if socket.connect("192.0.2.7:25").is_ok()
            && let Ok(std::net::SocketAddr::V4(ours)) = socket.local_addr()
            && !ours.ip().is_loopback()
        {
            assert!(own.is("mx.example.com", &addresses(&[ours.ip().octets()])));
        }
    }
}
