//! Who wants reports on TLS with a domain, and where (RFC 8460 3).

use std::sync::Arc;

use super::dns::{HostsFile, Miss, Resolver};
use super::https::{Https, NoClient};
use crate::config::Settings;

/// Collectors that one domain may name; more are not served.
const MOST: usize = 4;

/// Somebody who takes reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Collector {
    /// By mail.
    Mail(String),
    /// By POST.
    Web {
        /// The host, in lower case.
        host: String,
        /// A port of its own.
        port: Option<u16>,
        /// Path and query.
        path: String,
    },
}

/// Finds collectors, and speaks HTTPS to them.
#[derive(Debug, Clone)]
pub struct Collectors {
    resolver: Arc<Resolver>,
    /// For POST.
    pub https: Https,
}

impl Collectors {
    /// By the name servers and roots of these settings.
    pub fn new(settings: &Settings) -> Result<Self, NoClient> {
        let resolver = Arc::new(Resolver::new(&settings.dns, HostsFile::Ignored)?);
        let https = Https::with(Arc::clone(&resolver), &settings.dns, &settings.tls)?;
        Ok(Self { resolver, https })
    }

    /// Who wants reports of a domain; none is an answer as well. `Err`: it is not known now.
    pub async fn of(&self, domain: &str) -> Result<Vec<Collector>, String> {
        match self.resolver.txt(&format!("_smtp._tls.{domain}")).await {
            Ok(found) => Ok(read(&found.records)),
            Err(Miss::NoName(_) | Miss::NoRecord(_)) => Ok(Vec::new()),
            Err(Miss::Timeout) => Err("the name servers did not answer in time".into()),
            Err(Miss::Failed(text)) => Err(text),
        }
    }
}

/// The collectors of a record, if exactly one is there (pure).
fn read(records: &[String]) -> Vec<Collector> {
    let mut ours = records.iter().filter(|record| {
        record.strip_prefix("v=TLSRPTv1").is_some_and(|rest| rest.trim_start().starts_with(';'))
    });
    let (Some(record), None) = (ours.next(), ours.next()) else { return Vec::new() };
    let rua = record.split(';').find_map(|field| field.trim().strip_prefix("rua="));
    let uris = rua.unwrap_or_default().split(',').map(str::trim);
    uris.filter_map(collector).take(MOST).collect()
}

fn collector(uri: &str) -> Option<Collector> {
    if uri.len() > 1000 || !uri.bytes().all(|b| b.is_ascii_graphic()) {
        return None;
    }
    let (scheme, rest) = uri.split_once(':')?;
    if scheme.eq_ignore_ascii_case("mailto") {
        let address = unescaped(rest.split('?').next()?)?;
        return email_address::EmailAddress::is_valid(&address).then_some(Collector::Mail(address));
    }
    let rest = rest.strip_prefix("//").filter(|_| scheme.eq_ignore_ascii_case("https"))?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port.parse().ok()?)),
        None => (authority, None),
    };
    // A name that the certificate can carry: no address, nobody's login.
    let name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.');
    if host.is_empty() || !host.bytes().all(name) || host.parse::<std::net::IpAddr>().is_ok() {
        return None;
    }
    let path = path.split('#').next().unwrap_or_default();
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    Some(Collector::Web { host: host.to_ascii_lowercase(), port, path })
}

/// A text without its %-escapes.
fn unescaped(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digits = [bytes.next()?, bytes.next()?];
        let digits = std::str::from_utf8(&digits).ok()?;
        out.push(u8::from_str_radix(digits, 16).ok()?);
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(record: &str) -> Vec<Collector> {
        read(&[record.to_owned()])
    }

    fn web(host: &str, port: Option<u16>, path: &str) -> Collector {
        Collector::Web { host: host.into(), port, path: path.into() }
    }

    #[test]
    fn collectors_are_read_from_the_record() {
        assert_eq!(
            of("v=TLSRPTv1; rua=mailto:r@Example.com,https://Rep.example/v1?a=b#x"),
            [Collector::Mail("r@Example.com".into()), web("rep.example", None, "/v1?a=b")]
        );
        assert_eq!(
            of("v=TLSRPTv1;rua=https://a.example:8443"),
            [web("a.example", Some(8443), "/")]
        );
        assert_eq!(
            of("v=TLSRPTv1; rua=mailto:a%2Bb@x.example?subject=1"),
            [Collector::Mail("a+b@x.example".into())]
        );
    }

    #[test]
    fn what_cannot_be_served_is_left_out() {
        for record in [
            "",
            "v=TLSRPTv1",
            "v=TLSRPTv1; rua=",
            "v=TLSRPTv2; rua=mailto:a@b.example",
            "v=TLSRPTv1; rua=http://a.example/",
            "v=TLSRPTv1; rua=https://user@a.example/",
            "v=TLSRPTv1; rua=https://127.0.0.1/",
            "v=TLSRPTv1; rua=https://[::1]/",
            "v=TLSRPTv1; rua=https:///x",
            "v=TLSRPTv1; rua=mailto:nobody",
            "v=TLSRPTv1; rua=mailto:a@b.example%0D%0ABcc",
            "v=TLSRPTv1; rua=ftp://a.example",
        ] {
            assert_eq!(of(record), [], "{record:?}");
        }
        let one = "v=TLSRPTv1; rua=mailto:a@b.example".to_owned();
        assert_eq!(read(&[one.clone(), one]), []);
    }
}
