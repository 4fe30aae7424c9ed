//! Our addresses on the block lists that receivers ask (RFC 5782).

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use futures_util::StreamExt as _;
use futures_util::stream;

use super::finding::Finding;
use super::names::Names;

/// Lists that are asked unless others are named: large receivers heed them.
pub(super) const USUAL: [&str; 3] =
    ["zen.spamhaus.org", "b.barracudacentral.org", "bl.spamcop.net"];

/// An address that mail leaves from, as the world sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// The address.
    pub(super) address: IpAddr,
    /// Sources that use it.
    pub(super) sources: Vec<String>,
}

/// Listed on every list (RFC 5782 5).
const ALWAYS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Listed on none.
const NEVER: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// Questions to one list at once.
const AT_ONCE: usize = 8;

/// Looks every address up in every list.
pub(super) async fn look(ours: &[Seen], lists: &[String], names: &Names) -> Vec<Finding> {
    if ours.is_empty() {
        let seen = "no public address of a source is known, so no block list was asked";
        return vec![Finding::fine("block list", seen)];
    }
    let mut findings = Vec::new();
    for list in lists {
        findings.extend(look_at(ours, list, names).await);
    }
    findings
}

async fn look_at(ours: &[Seen], list: &str, names: &Names) -> Vec<Finding> {
    if let Some(reason) = unfit(list, names).await {
        return vec![Finding::odd("block list", reason.seen, reason.advice)];
    }
    let asking = ours.iter().map(async |seen| {
        let place = place(seen.address, list);
        (seen, names.v4(&place).await, place)
    });
    let mut answers = stream::iter(asking).buffered(AT_ONCE);
    let (mut findings, mut clean) = (Vec::new(), 0);
    while let Some((seen, answer, place)) = answers.next().await {
        let (ip, sources) = (seen.address, seen.sources.join(", "));
        match answer.map(|codes| Listing::read(&codes)) {
            Ok(Listing::No) => clean += 1,
            Ok(Listing::Yes(codes)) => {
                let why = names.texts(&place).await.unwrap_or_default().join("; ");
                let why = if why.is_empty() { String::new() } else { format!(": {why}") };
                findings.push(Finding::fault(
                    "block list",
                    format!("{ip} (source {sources}) is on {list} ({codes}){why}"),
                    removal(list),
                ));
            }
            Ok(Listing::Unwilling(why)) => findings.push(Finding::odd(
                "block list",
                format!("{list} does not say whether {ip} is on it: {why}"),
                OWN_RESOLVER,
            )),
            Err(error) => findings.push(Finding::odd(
                "block list",
                format!("{list} does not say whether {ip} is on it: {error}"),
                "try again",
            )),
        }
    }
    if clean > 0 {
        let seen = format!("{list}: {clean} of {} addresses are not on it", ours.len());
        findings.push(Finding::fine("block list", seen));
    }
    findings
}

/// What an address that a list answers with means.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Listing {
    /// It is not on the list.
    No,
    /// It is, with these codes.
    Yes(String),
    /// The list will not tell us.
    Unwilling(&'static str),
}

impl Listing {
    fn read(codes: &[IpAddr]) -> Self {
        let unwilling = codes.iter().find_map(|code| match code {
            IpAddr::V4(code) => unwilling(*code),
            IpAddr::V6(_) => None,
        });
        if let Some(why) = unwilling {
            return Self::Unwilling(why);
        }
        if codes.is_empty() {
            return Self::No;
        }
        let mut text = String::new();
        for code in codes {
            let _ = write!(text, "{}{code}", if text.is_empty() { "" } else { ", " });
        }
        Self::Yes(text)
    }
}

/// Codes that say something of the question and nothing of the address. Those in 127.255.255.0/24
/// are Spamhaus's; what is not in 127.0.0.0/8 at all comes from somebody else (RFC 5782 2.1).
fn unwilling(code: Ipv4Addr) -> Option<&'static str> {
    match code.octets() {
        [127, 255, 255, 252] => Some("the list's name is misspelt"),
        [127, 255, 255, 254] => Some("we ask through a public resolver, which it does not answer"),
        [127, 255, 255, 255] => Some("the resolver that we ask through asks too much"),
        [127, 255, 255, _] => Some("it answers with an error"),
        [127, ..] => None,
        _ => Some("the answer is no list's: a name server on the way redirects, or the list ended"),
    }
}

struct Unfit {
    seen: String,
    advice: &'static str,
}

const OWN_RESOLVER: &str = "ask through a resolver of your own (unbound on loopback, dns.servers), and see whether the \
     list wants its users to be registered";

/// Why a list's answers say nothing, if they do: every list knows one address that is on it
/// and one that is not.
async fn unfit(list: &str, names: &Names) -> Option<Unfit> {
    let (always, never) = (place(ALWAYS.into(), list), place(NEVER.into(), list));
    let (always, never) = tokio::join!(names.v4(&always), names.v4(&never));
    let (seen, advice) = match (always, never) {
        (Err(error), _) => (format!("{list} does not answer: {error}"), OWN_RESOLVER),
        (Ok(codes), _) if codes.is_empty() => (
            format!("{list} does not know the address that every list has ({ALWAYS})"),
            OWN_RESOLVER,
        ),
        (Ok(codes), never) => match Listing::read(&codes) {
            Listing::Unwilling(why) => (format!("{list} does not answer us: {why}"), OWN_RESOLVER),
            _ if never.is_ok_and(|codes| !codes.is_empty()) => (
                format!("{list} has everybody on it, even {NEVER}: it has ended, or is redirected"),
                "leave it out: --dnsbl names those to ask",
            ),
            _ => return None,
        },
    };
    Some(Unfit { seen, advice })
}

/// Where an address is looked up: `1.2.0.192.LIST`, or 32 nibbles for IPv6.
fn place(address: IpAddr, list: &str) -> String {
    let parts: Vec<String> = match address {
        IpAddr::V4(ip) => ip.octets().iter().rev().map(ToString::to_string).collect(),
        IpAddr::V6(ip) => {
            let octets = ip.octets();
            let nibbles = octets.iter().rev().flat_map(|octet| [octet & 15, octet >> 4]);
            nibbles.map(|nibble| format!("{nibble:x}")).collect()
        }
    };
    format!("{}.{list}", parts.join("."))
}

/// How to be taken off.
fn removal(list: &str) -> String {
    let where_to = [
        ("spamhaus.org", "https://check.spamhaus.org says why, and takes it off"),
        (
            "barracudacentral.org",
            "https://www.barracudacentral.org/rbl/removal-request takes it off",
        ),
        ("spamcop.net", "it goes by itself, a day after the last report"),
    ];
    let known = where_to.iter().find(|(zone, _)| list.trim_end_matches('.').ends_with(zone));
    let how = known.map_or("the list's own site says how to be taken off", |(_, how)| how);
    format!(
        "first find and stop what was sent (postrider tenant health, postrider queue pause), or \
         it comes back; then: {how}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_looked_up_backwards() {
        let at = |ip: &str| place(ip.parse().expect("an address"), "bl.test");
        assert_eq!(at("192.0.2.1"), "1.2.0.192.bl.test");
        assert_eq!(
            at("2001:db8::ab"),
            "b.a.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.bl.test"
        );
    }

    #[test]
    fn an_error_of_the_list_is_no_listing() {
        let read = |codes: &[&str]| {
            let codes: Vec<IpAddr> =
                codes.iter().map(|code| code.parse().expect("an address")).collect();
            Listing::read(&codes)
        };
        assert_eq!(read(&[]), Listing::No);
        assert_eq!(
            read(&["127.0.0.4", "127.0.0.10"]),
            Listing::Yes("127.0.0.4, 127.0.0.10".into())
        );
        for code in ["127.255.255.252", "127.255.255.254", "127.255.255.255", "198.51.100.1"] {
            assert!(matches!(read(&[code]), Listing::Unwilling(_)), "{code}");
        }
    }

    #[test]
    fn whoever_lists_is_named_in_the_advice() {
        assert!(removal("zen.spamhaus.org").contains("check.spamhaus.org"));
        assert!(removal("bl.example.net").contains("own site"));
    }
}
