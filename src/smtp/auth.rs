//! Login at a relay: AUTH PLAIN and LOGIN (RFC 4954, RFC 4616); pure.
//!
//! Promises: a password goes only over TLS, or to this very machine. What is made
//! here is wiped from memory after use.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::capability::AuthMechanisms;
use crate::config::Auth;

/// How to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// All in one line.
    Plain,
    /// User name, then password.
    Login,
}

/// Why no login was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthRefusal {
    /// The session is in clear and the peer is elsewhere.
    #[error("a password is only sent over TLS, and this session is in clear")]
    InClear,
    /// No mechanism in common.
    #[error("expected AUTH PLAIN or LOGIN on offer, found neither")]
    NoMechanism,
}

/// Whether a password may be sent, and how.
pub fn choose(
    offered: AuthMechanisms,
    encrypted: bool,
    peer: IpAddr,
) -> Result<Mechanism, AuthRefusal> {
    if !encrypted && !peer.to_canonical().is_loopback() {
        return Err(AuthRefusal::InClear);
    }
    match offered {
        AuthMechanisms { plain: true, .. } => Ok(Mechanism::Plain),
        AuthMechanisms { login: true, .. } => Ok(Mechanism::Login),
        AuthMechanisms { .. } => Err(AuthRefusal::NoMechanism),
    }
}

/// The initial response of PLAIN: no authorisation id, user, password.
pub fn plain(auth: &Auth) -> Zeroizing<String> {
    let secret = Zeroizing::new(format!("\0{}\0{}", auth.username, auth.password.expose()));
    Zeroizing::new(STANDARD.encode(secret.as_bytes()))
}

/// The two answers of LOGIN.
pub fn login(auth: &Auth) -> [Zeroizing<String>; 2] {
    [
        Zeroizing::new(STANDARD.encode(auth.username.as_bytes())),
        Zeroizing::new(STANDARD.encode(auth.password.expose().as_bytes())),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::secret::Secret;

    const BOTH: AuthMechanisms = AuthMechanisms { plain: true, login: true };
    const LOGIN: AuthMechanisms = AuthMechanisms { plain: false, login: true };

    #[test]
    fn a_password_is_not_sent_in_clear_over_a_network() {
        let far: IpAddr = "192.0.2.1".parse().expect("an address");
        for near in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            let near = near.parse().expect("an address");
            assert_eq!(choose(BOTH, false, near), Ok(Mechanism::Plain));
        }
        assert_eq!(choose(BOTH, false, far), Err(AuthRefusal::InClear));
        assert_eq!(choose(LOGIN, true, far), Ok(Mechanism::Login));
        let none = AuthMechanisms::default();
        assert_eq!(choose(none, true, far), Err(AuthRefusal::NoMechanism));
    }

    #[test]
    fn responses_are_those_of_the_rfc() {
        let auth = Auth { username: "tim".into(), password: Secret::new("tanstaaftanstaaf") };
        assert_eq!(plain(&auth).as_str(), "AHRpbQB0YW5zdGFhZnRhbnN0YWFm");
        assert_eq!(login(&auth)[0].as_str(), "dGlt");
    }
}
