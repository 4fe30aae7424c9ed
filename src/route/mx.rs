//! The mail exchangers of a domain (RFC 5321 5.1, RFC 7505).
//!
//! Final are only answers that no later one is likely to change: the domain
//! does not exist, takes no mail (null MX), or has neither MX nor address.
//! Servers that fail, and exchangers that cannot be found or lead into our own
//! network, pass: somebody may repair them before the mail expires.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::cache::Cache;
use super::dns::{
    Addresses, Found, HostsFile, LONGEST, LONGEST_ABSENCE, Miss, Resolver, ResolverError, absolute,
};
use super::own::Own;
use super::reachable::{Private, is_reachable};
use crate::config::Dns;
use crate::domain::verdict::{Cause, Class, Finality, Reach, Stage, Verdict};

/// Exchangers looked at for one domain: the best by preference.
const MAX_HOSTS: usize = 10;
/// Addresses kept for one domain.
const MAX_ADDRESSES: usize = 20;
/// Domains remembered.
const MAX_DOMAINS: usize = 50_000;
/// Shortest belief in exchangers, whatever their TTL: a burst of mail asks once.
const SHORTEST: Duration = Duration::from_secs(10);
/// Shortest belief that a domain cannot be delivered to.
const SHORTEST_ABSENCE: Duration = Duration::from_secs(30);

/// Finds exchangers and remembers them.
#[derive(Debug)]
pub(super) struct MxLookup {
    resolver: Arc<Resolver>,
    private: Private,
    own: Own,
    known: Cache<Result<Arc<Exchangers>, Verdict>>,
}

/// Where a domain takes its mail.
#[derive(Debug)]
pub(super) struct Exchangers {
    /// By preference, the best first; never empty.
    hosts: Vec<Exchanger>,
}

/// One mail host.
#[derive(Debug)]
pub(super) struct Exchanger {
    preference: u16,
    pub(super) host: Arc<str>,
    pub(super) addresses: Addresses,
    /// Whether DNSSEC proves that it is the domain's, and where it is.
    pub(super) authentic: bool,
}

impl MxLookup {
    /// `own` says which hosts are this one: mail to them would come back.
    pub(super) fn new(dns: &Dns, own: Own) -> Result<Self, ResolverError> {
        let private = if dns.allow_private_addresses { Private::Allowed } else { Private::Refused };
        let resolver = Arc::new(Resolver::new(dns, HostsFile::Ignored)?);
        Ok(Self { resolver, private, own, known: Cache::new(MAX_DOMAINS) })
    }

    /// What it asks.
    pub(super) fn resolver(&self) -> &Arc<Resolver> {
        &self.resolver
    }

    /// The exchangers of a domain (lower-case A-labels).
    pub(super) async fn find(&self, domain: &str) -> Result<Arc<Exchangers>, Verdict> {
        self.known
            .get(domain, async || match self.look(domain).await {
                Ok(found) => (Ok(Arc::new(found.records)), found.lifetime.clamp(SHORTEST, LONGEST)),
                Err((verdict, lifetime)) => {
                    (Err(verdict), lifetime.clamp(SHORTEST_ABSENCE, LONGEST_ABSENCE))
                }
            })
            .await
    }

    async fn look(&self, domain: &str) -> Result<Found<Exchangers>, (Verdict, Duration)> {
        let Found { records, lifetime, authentic } = match self.resolver.mx(domain).await {
            Ok(found) => found,
            // Without MX the domain itself is the exchanger.
            Err(Miss::NoRecord(_)) => return self.implicit(domain).await,
            Err(miss) => {
                return Err((no_answer(&miss, &format!("MX of {domain}")), miss.lifetime()));
            }
        };
        if records.iter().all(|(_, host)| host.is_empty()) {
            let text = format!("{domain} takes no mail (null MX, RFC 7505)");
            return Err((undeliverable(text, Finality::Final), lifetime));
        }
        let hosts = best(records);
        self.locate(domain, Found { records: hosts, lifetime, authentic }).await
    }

    async fn implicit(&self, domain: &str) -> Result<Found<Exchangers>, (Verdict, Duration)> {
        match self.resolver.addresses(&absolute(domain)).await {
            Ok(found) => {
                let Found { lifetime, authentic, .. } = found;
                let records = vec![(0, domain.to_owned(), Ok(found))];
                self.usable(domain, Found { records, lifetime, authentic })
            }
            Err(miss @ (Miss::NoName(_) | Miss::NoRecord(_))) => {
                let text = format!("{domain} has no MX and no address");
                Err((undeliverable(text, Finality::Final), miss.lifetime()))
            }
            Err(miss) => Err((no_answer(&miss, &format!("address of {domain}")), miss.lifetime())),
        }
    }

    async fn locate(
        &self,
        domain: &str,
        hosts: Found<Vec<(u16, String)>>,
    ) -> Result<Found<Exchangers>, (Verdict, Duration)> {
        let Found { records, lifetime, authentic } = hosts;
        let located = join_all(records.into_iter().map(|(preference, host)| async move {
            let addresses = self.resolver.addresses(&absolute(&host)).await;
            (preference, host, addresses)
        }));
        self.usable(domain, Found { records: located.await, lifetime, authentic })
    }

    /// Keeps what can be sent to. If nothing is left, the most hopeful reason is told.
    fn usable(
        &self,
        domain: &str,
        located: Found<Vec<(u16, String, Result<Found<Addresses>, Miss>)>>,
    ) -> Result<Found<Exchangers>, (Verdict, Duration)> {
        let Found { records: located, mut lifetime, authentic } = located;
        let mut exchangers = Exchangers { hosts: Vec::with_capacity(located.len()) };
        let mut room = MAX_ADDRESSES;
        // The best preference under which this host itself is named.
        let mut ours: Option<u16> = None;
        let mut why = undeliverable(
            format!("MX of {domain} names no host that has an address"),
            Finality::Passing,
        );
        for (preference, host, answer) in located {
            match answer {
                Ok(found) => {
                    lifetime = lifetime.min(found.lifetime);
                    let mut addresses = found.records;
                    if self.private == Private::Refused && self.own.is(&host, &addresses) {
                        // This host and those behind it are no way on (RFC 5321 5.1).
                        ours = Some(ours.map_or(preference, |so_far| so_far.min(preference)));
                        continue;
                    }
                    addresses.v4.retain(|ip| is_reachable(IpAddr::V4(*ip), self.private));
                    addresses.v6.retain(|ip| is_reachable(IpAddr::V6(*ip), self.private));
                    addresses.v4.truncate(room);
                    addresses.v6.truncate(room - addresses.v4.len());
                    let kept = addresses.v4.len() + addresses.v6.len();
                    if kept > 0 {
                        room -= kept;
                        exchangers.hosts.push(Exchanger {
                            preference,
                            host: host.into(),
                            addresses,
                            authentic: authentic && found.authentic,
                        });
                    } else if room > 0 && why.class != Class::Transient {
                        why = undeliverable(
                            format!("{host}, mail host of {domain}, has only private addresses"),
                            Finality::Passing,
                        );
                    }
                }
                Err(miss) => {
                    lifetime = lifetime.min(miss.lifetime());
                    if !matches!(miss, Miss::NoName(_) | Miss::NoRecord(_)) {
                        why =
                            no_answer(&miss, &format!("address of {host}, mail host of {domain}"));
                    }
                }
            }
        }
        if let Some(ours) = ours {
            exchangers.hosts.retain(|host| host.preference < ours);
            if exchangers.hosts.is_empty() && why.class != Class::Transient {
                let text = format!("the mail host of {domain} is this host: mail would come back");
                why = undeliverable(text, Finality::Passing);
            }
        }
        if exchangers.hosts.is_empty() {
            Err((why, lifetime))
        } else {
            Ok(Found { records: exchangers, lifetime, authentic })
        }
    }
}

impl Exchangers {
    /// The hosts in an order to try them: by preference, equals shuffled.
    pub(super) fn in_turn(&self) -> Vec<&Exchanger> {
        let mut hosts: Vec<(u16, u32, &Exchanger)> =
            self.hosts.iter().map(|host| (host.preference, rand::random(), host)).collect();
        hosts.sort_unstable_by_key(|(preference, chance, _)| (*preference, *chance));
        hosts.into_iter().map(|(.., host)| host).collect()
    }

    /// The names of the most preferred hosts: they tell who receives.
    pub(super) fn first_choice(&self) -> impl Iterator<Item = &str> {
        let best = self.hosts.first().map(|host| host.preference);
        self.hosts
            .iter()
            .take_while(move |host| Some(host.preference) == best)
            .map(|host| &*host.host)
    }
}

/// The hosts to look up: each once, the best by preference, equals shuffled.
/// What is no host name (the root, an address) is left out.
fn best(records: Vec<(u16, String)>) -> Vec<(u16, String)> {
    let mut hosts: Vec<(u16, u32, String)> = records
        .into_iter()
        .filter(|(_, host)| is_host_name(host))
        .map(|(preference, host)| (preference, rand::random(), host))
        .collect();
    hosts.sort_unstable_by_key(|(preference, chance, _)| (*preference, *chance));
    let mut seen = HashSet::new();
    hosts.retain(|(.., host)| seen.insert(host.clone()));
    hosts.truncate(MAX_HOSTS);
    hosts.into_iter().map(|(preference, _, host)| (preference, host)).collect()
}

/// Whether it can go into a log, a certificate check and a question as it is.
/// Underscores are against the rules and in use.
fn is_host_name(host: &str) -> bool {
    !host.is_empty()
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
        && host.parse::<IpAddr>().is_err()
}

/// The verdict on a question that was not answered with records.
pub(super) fn no_answer(miss: &Miss, question: &str) -> Verdict {
    match miss {
        Miss::NoName(_) => {
            undeliverable(format!("{question}: the name does not exist"), Finality::Final)
        }
        Miss::NoRecord(_) => undeliverable(format!("{question}: none"), Finality::Final),
        Miss::Timeout => transient(Cause::Timeout),
        Miss::Failed(text) => transient(Cause::Dns(format!("{question}: {text}"))),
    }
}

fn undeliverable(text: String, finality: Finality) -> Verdict {
    let class = Class::DomainBad;
    Verdict { class, finality, ..transient(Cause::Dns(text)) }
}

fn transient(cause: Cause) -> Verdict {
    Verdict {
        stage: Stage::Resolve,
        cause,
        class: Class::Transient,
        finality: Finality::Passing,
        reach: Reach::Destination,
        retry_after: None,
        ruling: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_hosts_are_taken_once_each_and_equals_change_places() {
        let record = |n: u16| (n % 3, format!("mx{n}.example"));
        let mut records: Vec<_> = (0..100).map(record).collect();
        records.push((9, "mx0.example".into()));
        let mut first = HashSet::new();
        for _ in 0..200 {
            let hosts = best(records.clone());
            assert_eq!(hosts.len(), MAX_HOSTS);
            assert!(hosts.iter().all(|(preference, _)| *preference == 0));
            first.insert(hosts[0].1.clone());
        }
        assert!(first.len() > 10, "34 equals, {} came first", first.len());
        assert_eq!(
            best(vec![(9, "a.example".into()), (1, "a.example".into())]),
            [(1, "a.example".into())]
        );
    }

    #[test]
    fn what_is_no_host_name_is_left_out() {
        for host in [
            "",
            "192.0.2.1",
            "2001:db8::1",
            "a\\013b.example",
            "mx.example\r\n",
            "a b.example",
            "[192.0.2.1]",
        ] {
            assert_eq!(best(vec![(0, host.into())]), [], "{host:?}");
        }
        assert_eq!(best(vec![(0, "mx_1.example".into())]).len(), 1);
    }
}
