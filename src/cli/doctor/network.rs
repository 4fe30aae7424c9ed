//! Names, and the way out: what receivers see of us before the first mail.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, TcpStream};

use super::blocklist::Seen;
use super::finding::Finding;
use super::names::Names;
use crate::config::{Provider, RouteKind, Settings, Source};

/// Longest wait for a connection and its greeting.
const PATIENCE: Duration = Duration::from_secs(10);

/// Looks. `call`: a domain whose exchanger is called.
pub(super) async fn look(settings: &Settings, names: &Names, call: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let exchangers = names.exchangers(call).await;
    match &exchangers {
        Ok(hosts) if hosts.is_empty() => findings.push(Finding::odd(
            "dns",
            format!("{call} has no exchanger"),
            "name another domain with --call",
        )),
        Ok(hosts) => {
            let nearest = hosts.first().map_or("", String::as_str);
            findings.push(Finding::fine("dns", format!("{call} is served by {nearest}")));
        }
        Err(error) => findings.push(Finding::fault(
            "dns",
            format!("no name server answers: {error}"),
            "dns.servers, /etc/resolv.conf, and whether port 53 is open",
        )),
    }
    for source in &settings.sources {
        findings.extend(identity(source, names).await);
        for route in &settings.routes {
            if !route.sources.is_empty() && !route.sources.contains(&source.name) {
                continue;
            }
            let (host, port) = match &route.kind {
                RouteKind::Relay { host, port, .. } => (host.clone(), *port),
                RouteKind::Mx { port } => {
                    match exchangers.as_ref().ok().and_then(|hosts| hosts.first()) {
                        Some(host) => (host.clone(), *port),
                        None => continue,
                    }
                }
                // It sends by itself; see below.
                RouteKind::Provider(_) => continue,
            };
            findings.push(egress(source, &route.name, &host, port, names).await);
        }
    }
    for route in &settings.routes {
        if let RouteKind::Provider(provider) = &route.kind {
            findings.push(api(&route.name, provider).await);
        }
    }
    findings
}

/// Whether a provider's API can be reached. Its key is tried by the first mail.
async fn api(route: &str, provider: &Provider) -> Finding {
    let to = &provider.endpoint;
    let connecting = TcpStream::connect((to.host.as_str(), to.port));
    let advice = "the route's endpoint and region, and whether its port is open from here";
    match tokio::time::timeout(provider.connect_timeout, connecting).await {
        Ok(Ok(_)) => Finding::fine("egress", format!("{route}: {to} can be reached")),
        Ok(Err(error)) => Finding::fault("egress", format!("{route}: {to}: {error}"), advice),
        Err(_) => Finding::fault("egress", format!("{route}: {to} does not answer"), advice),
    }
}

/// The name in EHLO, its address, and the address's name: receivers want all three to agree.
async fn identity(source: &Source, names: &Names) -> Vec<Finding> {
    let (name, ehlo) = (&source.name, &source.ehlo);
    let addresses = match names.addresses(ehlo).await {
        Ok(addresses) => addresses,
        Err(error) => {
            let advice = "see above: the name servers";
            return vec![Finding::odd("source", format!("{name}: {ehlo}: {error}"), advice)];
        }
    };
    if addresses.is_empty() {
        return vec![Finding::fault(
            "source",
            format!("{name}: {ehlo} has no address"),
            format!("publish an A record for {ehlo}: receivers refuse names that do not exist"),
        )];
    }
    let mut findings = Vec::new();
    let ours = public(source);
    for address in ours.iter().filter(|address| !addresses.contains(address)) {
        findings.push(Finding::fault(
            "source",
            format!("{name}: {ehlo} does not lead to {address}"),
            format!("publish {address} for {ehlo}, or name the source as its address is called"),
        ));
    }
    let seen = if ours.is_empty() { &addresses } else { &ours };
    for address in seen.iter().copied() {
        match names.reverse(address).await {
            Ok(found) if found.iter().any(|host| host.eq_ignore_ascii_case(ehlo)) => {
                findings.push(Finding::fine("source", format!("{name}: {address} is {ehlo}")));
            }
            Ok(found) => findings.push(Finding::odd(
                "source",
                format!("{name}: the reverse name of {address} is {found:?}, not {ehlo}"),
                "have whoever gave you the address set its PTR record to the EHLO name",
            )),
            Err(error) => findings.push(Finding::odd(
                "source",
                format!("{name}: the reverse name of {address}: {error}"),
                "try again; receivers need an answer",
            )),
        }
    }
    findings
}

/// The addresses that the world sees mail come from: those of the sources and, where a source has
/// none that is public, those that its EHLO name leads to.
pub(super) async fn outside(sources: &[Source], names: &Names) -> Vec<Seen> {
    let mut found: Vec<Seen> = Vec::new();
    for source in sources {
        let mut addresses = public(source);
        if addresses.is_empty() {
            let led = names.addresses(&source.ehlo).await.unwrap_or_default();
            addresses = led.into_iter().filter(|address| is_public(*address)).collect();
        }
        for address in addresses {
            match found.iter_mut().find(|seen| seen.address == address) {
                Some(seen) => seen.sources.push(source.name.clone()),
                None => found.push(Seen { address, sources: vec![source.name.clone()] }),
            }
        }
    }
    found
}

/// A source's own addresses that are public: behind a translation of addresses the outer one is
/// not known here.
fn public(source: &Source) -> Vec<IpAddr> {
    source.addresses.iter().copied().filter(|address| is_public(*address)).collect()
}

/// Whether a host greets us from this source.
async fn egress(source: &Source, route: &str, host: &str, port: u16, names: &Names) -> Finding {
    let way = format!("{} by route {route} to {host}:{port}", source.name);
    let address = match host.parse::<IpAddr>() {
        Ok(address) => Ok(vec![address]),
        Err(_) => names.addresses(host).await,
    };
    let own = |to: &IpAddr| source.addresses.iter().find(|own| own.is_ipv4() == to.is_ipv4());
    let fits = |to: &IpAddr| source.addresses.is_empty() || own(to).is_some();
    let address = match address {
        Ok(addresses) => addresses.into_iter().find(fits),
        Err(error) => {
            return Finding::fault("egress", format!("{way}: {error}"), "the name servers");
        }
    };
    let Some(address) = address else {
        return Finding::fault("egress", format!("{way}: no address"), "the host's name");
    };
    match tokio::time::timeout(PATIENCE, greeting(own(&address).copied(), (address, port).into()))
        .await
    {
        Ok(Ok(greeting)) if greeting.starts_with('2') => {
            Finding::fine("egress", format!("{way}: {}", greeting.trim()))
        }
        Ok(Ok(greeting)) => Finding::odd(
            "egress",
            format!("{way}: {}", greeting.trim()),
            "it does not want this address now: its words say why",
        ),
        Ok(Err(error)) => Finding::fault(
            "egress",
            format!("{way}: {error}"),
            "firewall, security group, the cloud's own block of port 25, or the source's address",
        ),
        Err(_elapsed) => Finding::fault(
            "egress",
            format!("{way}: no answer in {} s", PATIENCE.as_secs()),
            "port 25 is closed on the way: ask the cloud to open it, or use a relay on 587",
        ),
    }
}

/// The first line that a host says.
async fn greeting(source: Option<IpAddr>, to: SocketAddr) -> std::io::Result<String> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(address) = source {
        socket.bind((address, 0).into())?;
    }
    let mut stream: TcpStream = socket.connect(to).await?;
    let mut line = Vec::new();
    while !line.contains(&b'\n') && line.len() < 512 {
        let mut buffer = [0; 256];
        match stream.read(&mut buffer).await? {
            0 => break,
            n => line.extend(buffer.iter().take(n)),
        }
    }
    let text = String::from_utf8_lossy(&line);
    Ok(text.lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).collect())
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(ip) => !(ip.is_private() || ip.is_loopback() || ip.is_link_local()),
        IpAddr::V6(ip) => !(ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local()),
    }
}
