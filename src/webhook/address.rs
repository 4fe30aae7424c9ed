//! Which URLs may be told, and how their names are resolved.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::config::Webhook;
use crate::route::outside::{Outside, OutsideError};

/// Longest URL in bytes, as the schema has it.
const LONGEST: usize = 2_000;

/// Why a URL is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlFault {
    /// Not a URL, or one that no request can be made of.
    #[error("expected a URL like https://hooks.example.com/postrider, {0}")]
    Unreadable(String),
    /// http where only https may be.
    #[error("expected https, found {0}")]
    Scheme(String),
    /// It holds a login or a fragment.
    #[error("expected no user, password or fragment: they end up in logs")]
    Extra,
    /// Its host is an address that must not be connected to.
    #[error(transparent)]
    Address(#[from] OutsideError),
}

/// Reads a URL; a host that is written as an address is checked here, as no name is looked up
/// for it.
pub(super) fn check(text: &str, settings: &Webhook, outside: &Outside) -> Result<Url, UrlFault> {
    if text.len() > LONGEST {
        let fault = format!("of at most {LONGEST} bytes, found {}", text.len());
        return Err(UrlFault::Unreadable(fault));
    }
    let url = Url::parse(text).map_err(|error| UrlFault::Unreadable(format!("found: {error}")))?;
    match url.scheme() {
        "https" => {}
        "http" if settings.allow_http => {}
        other => return Err(UrlFault::Scheme(other.to_owned())),
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(UrlFault::Extra);
    }
    let host = url.host_str().ok_or_else(|| UrlFault::Unreadable("found no host".into()))?;
    if let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        outside.literal(address)?;
    }
    Ok(url)
}

/// Gives the HTTP client checked addresses only; it connects to what it is given.
pub(super) struct Checked(pub(super) Arc<Outside>);

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let outside = Arc::clone(&self.0);
        Box::pin(async move {
            let found = outside.addresses(name.as_str()).await?;
            // Port 0: that of the URL.
            let addresses = found.into_iter().map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(addresses) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Dns;
    use crate::route::outside::Inward;

    fn fault(text: &str, settings: &Webhook) -> Option<UrlFault> {
        let inward =
            if settings.allow_private_addresses { Inward::Allowed } else { Inward::Refused };
        let dns = Dns { servers: vec![SocketAddr::from(([127, 0, 0, 1], 53))], ..Dns::default() };
        check(text, settings, &Outside::new(&dns, inward).expect("a resolver")).err()
    }

    #[tokio::test]
    async fn only_https_to_the_outside_is_taken_unless_allowed() {
        let strict = Webhook::default();
        for good in
            ["https://hooks.example.com/x?y=1", "https://8.8.8.8/", "https://a.example:8443"]
        {
            assert_eq!(fault(good, &strict), None, "{good}");
        }
        for inward in [
            "https://127.0.0.1/",
            "https://0x7f.1/",
            "https://2130706433/",
            "https://10.1.2.3/",
            "https://169.254.169.254/latest/meta-data",
            "https://[::1]/",
            "https://[::ffff:192.168.0.1]/",
            "https://0.0.0.0/",
        ] {
            assert!(matches!(fault(inward, &strict), Some(UrlFault::Address(_))), "{inward}");
        }
        assert!(matches!(fault("http://a.example/", &strict), Some(UrlFault::Scheme(_))));
        assert!(matches!(fault("file:///etc/passwd", &strict), Some(UrlFault::Scheme(_))));
        for extra in ["https://user@a.example/", "https://u:p@a.example/", "https://a.example/#x"] {
            assert_eq!(fault(extra, &strict), Some(UrlFault::Extra), "{extra}");
        }
        for unreadable in ["", "hooks.example.com", "https://", &"https://a.example/".repeat(200)] {
            assert!(fault(unreadable, &strict).is_some(), "{unreadable}");
        }
        let free =
            Webhook { allow_http: true, allow_private_addresses: true, ..Webhook::default() };
        assert_eq!(fault("http://127.0.0.1:1/", &free), None);
        assert!(fault("http://0.0.0.0/", &free).is_some(), "no host at all");
    }
}
