//! How TLS with receivers went (RFC 8460 4.3), counted by receiver, policy and kind of failure.
//!
//! Counts are kept in memory, bounded, and [drained](Tally::drain) by whoever stores them. What
//! is beyond the bound is not counted: a report is a sample of the truth, and memory is not.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

/// Different results that are kept between two drains.
const MOST: usize = 20_000;

/// What went wrong, by the words of RFC 8460 4.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failure {
    /// The host offers no STARTTLS.
    StartTlsNotSupported,
    /// The certificate is for another name.
    HostMismatch,
    /// The certificate is out of its time.
    Expired,
    /// No authority that we trust stands behind the certificate.
    NotTrusted,
    /// Anything else between the greeting of TLS and its end.
    Validation,
    /// TLSA records could not be had, although the zone is signed.
    DnssecInvalid,
    /// The MTA-STS policy could not be fetched.
    StsFetch,
    /// What was fetched is no MTA-STS policy.
    StsInvalid,
    /// The policy host has no certificate that verifies.
    StsWebPki,
}

impl Failure {
    /// The name in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StartTlsNotSupported => "starttls-not-supported",
            Self::HostMismatch => "certificate-host-mismatch",
            Self::Expired => "certificate-expired",
            Self::NotTrusted => "certificate-not-trusted",
            Self::Validation => "validation-failure",
            Self::DnssecInvalid => "dnssec-invalid",
            Self::StsFetch => "sts-policy-fetch-error",
            Self::StsInvalid => "sts-policy-invalid",
            Self::StsWebPki => "sts-webpki-invalid",
        }
    }
}

/// Under which policy, towards whom, and how it went.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Event {
    /// The recipients' domain: who is told.
    pub domain: Arc<str>,
    /// `tlsa`, `sts` or `no-policy-found`.
    pub policy_type: &'static str,
    /// The policy's text, in lines.
    pub policy: Arc<str>,
    /// The host talked to; empty when none was.
    pub host: Arc<str>,
    /// Our address; none when no connection came about.
    pub from: Option<IpAddr>,
    /// The host's address.
    pub to: Option<IpAddr>,
    /// What went wrong; `None`: nothing.
    pub failure: Option<Failure>,
}

/// Counts events.
#[derive(Debug, Default)]
pub struct Tally {
    counts: Mutex<HashMap<Event, u64>>,
    wanted: AtomicBool,
}

impl Tally {
    /// Whether anybody will ask.
    pub fn want(&self, wanted: bool) {
        self.wanted.store(wanted, Ordering::Relaxed);
        if !wanted {
            self.counts.lock().clear();
        }
    }

    /// Whether events are counted.
    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    /// Counts one more.
    pub fn count(&self, event: Event) {
        self.add(event, 1);
    }

    /// Gives back what could not be stored.
    pub fn give_back(&self, events: impl IntoIterator<Item = (Event, u64)>) {
        for (event, number) in events {
            self.add(event, number);
        }
    }

    /// Takes all counts out.
    pub fn drain(&self) -> Vec<(Event, u64)> {
        self.counts.lock().drain().collect()
    }

    fn add(&self, event: Event, number: u64) {
        if !self.is_wanted() {
            return;
        }
        let mut counts = self.counts.lock();
        if let Some(count) = counts.get_mut(&event) {
            *count += number;
        } else if counts.len() < MOST {
            counts.insert(event, number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(n: usize) -> Event {
        Event {
            domain: format!("d{n}.example").into(),
            policy_type: "no-policy-found",
            policy: "".into(),
            host: "mx.example".into(),
            from: None,
            to: None,
            failure: None,
        }
    }

    #[test]
    fn equal_events_are_one_count_and_their_number_is_bounded() {
        let tally = Tally::default();
        tally.count(event(0));
        assert_eq!(tally.drain(), [], "nobody wants them");
        tally.want(true);
        for n in 0..=MOST {
            tally.count(event(n));
            tally.count(event(0));
        }
        let counts = tally.drain();
        assert_eq!(counts.len(), MOST);
        let zero = counts.iter().find(|(found, _)| *found == event(0)).map(|(_, n)| *n);
        assert_eq!(zero, Some(MOST as u64 + 2));
        tally.give_back(counts);
        assert_eq!(tally.drain().len(), MOST);
    }
}
