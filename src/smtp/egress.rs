//! How a socket to a mail host comes about: from which address, and through which proxy.
//!
//! Promise: a connection leaves from the source's address of the host's family, or there is
//! none. A proxy that refuses is no host's fault.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use super::connection::{Fault, within};
use super::open::{OpenFailure, at};
use crate::config::{Proxy, Source};
use crate::domain::verdict::Stage;

/// Connects to a mail host as `source`, within `limit` in total.
pub async fn connect(
    host: SocketAddr,
    source: &Source,
    limit: Duration,
) -> Result<TcpStream, OpenFailure> {
    let connected = within(limit, async {
        let ours = source.address_for(host.ip());
        if !source.reaches(host.ip()) {
            let text = format!("source {} has no address of the host's family", source.name);
            return Err(Fault::Lost(text));
        }
        match source.proxy {
            None => dial(host, ours).await,
            Some(Proxy::Socks5(proxy)) => {
                let mut stream = dial(proxy, None).await.map_err(|fault| by(proxy, &fault))?;
                socks5(&mut stream, host).await.map_err(|fault| by(proxy, &fault))?;
                Ok(stream)
            }
            Some(Proxy::ProxyV2(proxy)) => {
                let mut stream = dial(proxy, None).await.map_err(|fault| by(proxy, &fault))?;
                let header = proxy_v2(ours, host).ok_or_else(|| {
                    Fault::Lost(format!("source {} has no address to send from", source.name))
                })?;
                stream.write_all(&header).await?;
                Ok(stream)
            }
        }
    });
    connected.await.map_err(at(Stage::Connect))
}

async fn dial(to: SocketAddr, from: Option<IpAddr>) -> Result<TcpStream, Fault> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if let Some(from) = from {
        socket.bind(SocketAddr::new(from, 0))?;
    }
    // A mail is a few small writes, each of which the peer waits for.
    socket.set_nodelay(true)?;
    Ok(socket.connect(to).await?)
}

fn by(proxy: SocketAddr, fault: &Fault) -> Fault {
    Fault::Lost(format!("proxy {proxy}: {fault}"))
}

/// Asks a SOCKS5 proxy, which wants no login, for a connection (RFC 1928).
async fn socks5(stream: &mut TcpStream, host: SocketAddr) -> Result<(), Fault> {
    const VERSION: u8 = 5;
    const NO_LOGIN: u8 = 0;
    const CONNECT: u8 = 1;
    const V4: u8 = 1;
    const NAME: u8 = 3;
    const V6: u8 = 4;
    stream.write_all(&[VERSION, 1, NO_LOGIN]).await?;
    let mut chosen = [0; 2];
    stream.read_exact(&mut chosen).await?;
    if chosen != [VERSION, NO_LOGIN] {
        return Err(Fault::Protocol(
            "expected SOCKS5 without a login, found another answer".into(),
        ));
    }
    let mut request = vec![VERSION, CONNECT, 0];
    match host.ip() {
        IpAddr::V4(ip) => {
            request.push(V4);
            request.extend(ip.octets());
        }
        IpAddr::V6(ip) => {
            request.push(V6);
            request.extend(ip.octets());
        }
    }
    request.extend(host.port().to_be_bytes());
    stream.write_all(&request).await?;
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    let [version, reply, _, kind] = head;
    if version != VERSION {
        return Err(Fault::Protocol("expected SOCKS5, found another version".into()));
    }
    if reply != 0 {
        return Err(Fault::Lost(socks5_refusal(reply)));
    }
    // The address it sends from, which nobody here needs, and its port.
    let length = match kind {
        V4 => 4,
        V6 => 16,
        NAME => usize::from(stream.read_u8().await?),
        _ => return Err(Fault::Protocol("expected a SOCKS5 address, found another kind".into())),
    };
    let mut bound = vec![0; length + 2];
    stream.read_exact(&mut bound).await?;
    Ok(())
}

fn socks5_refusal(reply: u8) -> String {
    let why = match reply {
        1 => "general failure",
        2 => "not allowed",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "time to live expired",
        7 => "command not supported",
        8 => "kind of address not supported",
        _ => return format!("refused with {reply}"),
    };
    why.to_owned()
}

/// The header of the PROXY protocol, version 2, for a connection from `ours`, any port, to
/// `host`. `None` unless both are of one family.
fn proxy_v2(ours: Option<IpAddr>, host: SocketAddr) -> Option<Vec<u8>> {
    const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
    const VERSION_2_PROXY: u8 = 0x21;
    const TCP_4: u8 = 0x11;
    const TCP_6: u8 = 0x21;
    let mut header = SIGNATURE.to_vec();
    header.push(VERSION_2_PROXY);
    match (ours?, host.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            header.extend([TCP_4, 0, 12]);
            header.extend(from.octets());
            header.extend(to.octets());
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            header.extend([TCP_6, 0, 36]);
            header.extend(from.octets());
            header.extend(to.octets());
        }
        _ => return None,
    }
    header.extend(0u16.to_be_bytes());
    header.extend(host.port().to_be_bytes());
    Some(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_told_both_ends() {
        let header = proxy_v2(Some([192, 0, 2, 1].into()), "198.51.100.7:25".parse().unwrap());
        let header = header.expect("one family");
        assert_eq!(header[..12], *b"\r\n\r\n\0\r\nQUIT\n");
        assert_eq!(header[12..16], [0x21, 0x11, 0, 12]);
        assert_eq!(header[16..], [192, 0, 2, 1, 198, 51, 100, 7, 0, 0, 0, 25]);
        let six = proxy_v2("2001:db8::1".parse().ok(), "[2001:db8::2]:587".parse().unwrap());
        let six = six.expect("one family");
        assert_eq!((six[13], six.len()), (0x21, 16 + 36));
        assert_eq!(six[six.len() - 2..], [2, 75]);
        assert!(proxy_v2(None, "198.51.100.7:25".parse().unwrap()).is_none());
        assert!(proxy_v2("::1".parse().ok(), "198.51.100.7:25".parse().unwrap()).is_none());
    }
}
