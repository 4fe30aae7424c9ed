//! How much one client may ask for.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use parking_lot::Mutex;

use crate::config::Inbound;

/// Connections and mails, by the client's network.
#[derive(Debug)]
pub(super) struct Limits {
    per_address: u32,
    open: Mutex<HashMap<IpAddr, u32>>,
    mails: DefaultKeyedRateLimiter<IpAddr>,
}

/// One connection of a network; gives its place back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    limits: Arc<Limits>,
    network: IpAddr,
}

impl Limits {
    pub(super) fn new(settings: &Inbound) -> Arc<Self> {
        let mails = NonZeroU32::new(settings.mails_per_minute).unwrap_or(NonZeroU32::MIN);
        Arc::new(Self {
            per_address: settings.max_connections_per_address,
            open: Mutex::default(),
            mails: RateLimiter::keyed(Quota::per_minute(mails)),
        })
    }

    /// A place for one more connection, if this network has one left.
    pub(super) fn connect(self: &Arc<Self>, peer: IpAddr) -> Option<Place> {
        let network = network(peer);
        let mut open = self.open.lock();
        let count = open.entry(network).or_insert(0);
        if *count >= self.per_address {
            return None;
        }
        *count += 1;
        Some(Place { limits: Arc::clone(self), network })
    }

    /// Forgets networks that have recovered fully.
    pub(super) fn sweep(&self) {
        self.mails.retain_recent();
        self.mails.shrink_to_fit();
    }
}

impl Place {
    /// Whether one more mail is within the rate.
    pub(super) fn may_send(&self) -> bool {
        self.limits.mails.check_key(&self.network).is_ok()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.limits.open.lock();
        if let Some(count) = open.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.network);
            }
        }
    }
}

/// One customer of an IPv6 provider has a whole /64.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_its_places_and_its_rate() {
        let limits = Limits::new(&Inbound {
            max_connections_per_address: 2,
            mails_per_minute: 3,
            ..Inbound::default()
        });
        let peer: IpAddr = "2001:db8::1".parse().unwrap();
        let neighbour: IpAddr = "2001:db8::ffff".parse().unwrap();
        let one = limits.connect(peer).unwrap();
        let two = limits.connect(neighbour).unwrap();
        assert!(limits.connect(peer).is_none());
        assert!(limits.connect("192.0.2.1".parse().unwrap()).is_some());
        drop(two);
        assert!(limits.connect(peer).is_some());
        assert_eq!((0..5).filter(|_| one.may_send()).count(), 3);
        drop(one);
        assert!(limits.open.lock().is_empty());
    }
}
