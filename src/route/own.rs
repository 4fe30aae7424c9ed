//! Which mail hosts are this one.
//!
//! By name: what the sources say in EHLO. By address: what the system reaches from itself.
//! Behind a translation of addresses only the name tells.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
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
        self.names.iter().any(|name| name == host) || all.any(is_local)
    }
}

/// Whether an address is one of this machine's: the system would reach it from itself.
/// Nothing is sent. Loopback and unspecified addresses are refused elsewhere.
fn is_local(ip: IpAddr) -> bool {
    if ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() {
        return false;
    }
    let any = match ip {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let Ok(socket) = UdpSocket::bind((any, 0)) else { return false };
    socket.connect((ip, 25)).is_ok() && socket.local_addr().is_ok_and(|ours| ours.ip() == ip)
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
