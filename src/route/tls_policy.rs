//! What a session is asked for, given the route (pure).

use std::net::IpAddr;

use crate::config::TlsMode;

/// Whether a session logs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Login {
    Password,
    None,
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
}
