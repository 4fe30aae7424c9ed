//! What a session is asked for, given the route and what the receiver publishes (pure).

use std::net::IpAddr;
use std::sync::Arc;

use super::dane::Pins;
use super::sts::{Mode, StsPolicy};
use super::tls_result::Failure;
use crate::config::TlsMode;

/// Whether a session logs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Login {
    Password,
    None,
}

/// What is known of a host's policy on TLS, and who is told how it went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsPolicy {
    /// The recipients' domain; `None` for relays, who are told nothing.
    pub domain: Option<Arc<str>>,
    /// What is published.
    pub published: Published,
    /// Why nothing (or nothing new) is known, although there should be.
    pub trouble: Option<Failure>,
}

/// A policy that a receiver publishes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Published {
    /// None: the route alone decides.
    #[default]
    Nothing,
    /// What the host's certificate must be (DANE). Where this is, nothing else counts.
    Dane(Arc<Pins>),
    /// The domain's MTA-STS policy, which allows the host or only tests.
    Sts(Arc<StsPolicy>),
}

impl TlsPolicy {
    /// The certificates that are good, where the DNS names them.
    pub fn pins(&self) -> Option<&Arc<Pins>> {
        match &self.published {
            Published::Dane(pins) => Some(pins),
            Published::Sts(_) | Published::Nothing => None,
        }
    }

    /// Whether a certificate that is not good is to be reported, although it is accepted.
    pub fn is_tested(&self) -> bool {
        matches!(&self.published, Published::Sts(policy) if policy.mode == Mode::Testing)
    }

    /// The kind of policy, by its name in reports.
    pub fn kind(&self) -> &'static str {
        match (&self.published, self.trouble) {
            (Published::Dane(_), _) | (_, Some(Failure::DnssecInvalid)) => "tlsa",
            (Published::Sts(_), _)
            | (_, Some(Failure::StsFetch | Failure::StsInvalid | Failure::StsWebPki)) => "sts",
            (Published::Nothing, _) => "no-policy-found",
        }
    }

    /// The policy's text in lines, as reports show it.
    pub fn text(&self) -> String {
        match &self.published {
            Published::Nothing => String::new(),
            Published::Dane(pins) => pins.text(),
            Published::Sts(policy) => policy.text(),
        }
    }
}

impl Published {
    /// What a session with `host` is asked for: what the route asks, or more.
    pub(super) fn over(&self, route: TlsMode) -> TlsMode {
        match (self, route) {
            (_, TlsMode::None | TlsMode::Implicit) | (Self::Nothing, _) => route,
            // Which certificate is good is said by the pins; the mode says that TLS must be.
            (Self::Dane(_), _) => TlsMode::Required,
            (Self::Sts(policy), _) if policy.mode == Mode::Enforce => TlsMode::Verified,
            (Self::Sts(_), _) => route,
        }
    }
}

/// The TLS to ask of a session. It is the route's, but that a password leaves
/// this machine only under TLS: whoever can strip STARTTLS must not get it.
pub(super) fn asked(route: TlsMode, login: Login, address: IpAddr) -> TlsMode {
    match route {
        TlsMode::None | TlsMode::Opportunistic
            if login == Login::Password && !address.to_canonical().is_loopback() =>
        {
            TlsMode::Required
        }
        asked => asked,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_never_leaves_in_clear() {
        let (near, far) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([192, 0, 2, 1]));
        let mapped: IpAddr = "::ffff:127.0.0.1".parse().expect("an address");
        for weak in [TlsMode::None, TlsMode::Opportunistic] {
            assert_eq!(asked(weak, Login::Password, far), TlsMode::Required);
            assert_eq!(asked(weak, Login::Password, near), weak);
            assert_eq!(asked(weak, Login::Password, mapped), weak);
            assert_eq!(asked(weak, Login::None, far), weak);
        }
        for strong in [TlsMode::Required, TlsMode::Verified, TlsMode::Implicit] {
            assert_eq!(asked(strong, Login::Password, far), strong);
        }
    }

    #[test]
    fn what_is_published_asks_for_more_and_never_for_less() {
        let sts = |mode: &str| {
            let text = format!("version: STSv1\nmode: {mode}\nmx: mx.example\nmax_age: 9");
            Published::Sts(Arc::new(StsPolicy::read(&text).expect("a policy")))
        };
        let dane = Published::Dane(Arc::new(Pins::usable(&[])));
        use TlsMode::{Opportunistic, Required, Verified};
        for (published, opportunistic, required) in [
            (Published::Nothing, Opportunistic, Required),
            (sts("testing"), Opportunistic, Required),
            (sts("enforce"), Verified, Verified),
            (dane, Required, Required),
        ] {
            assert_eq!(published.over(Opportunistic), opportunistic, "{published:?}");
            assert_eq!(published.over(Required), required, "{published:?}");
            assert_eq!(published.over(TlsMode::None), TlsMode::None);
        }
        assert_eq!(sts("testing").over(Verified), Verified);
    }
}
