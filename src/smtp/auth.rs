//! Login at a relay: AUTH PLAIN, LOGIN and XOAUTH2 (RFC 4954, RFC 4616); pure.
//!
//! Promises: a password or token goes only over TLS, or to this very machine. What is made
//! here is wiped from memory after use.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::capability::AuthMechanisms;
use crate::config::Proof;
use crate::config::secret::Secret;

/// How to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// All in one line.
    Plain,
    /// User name, then password.
    Login,
    /// User name and access token in one line.
    XOAuth2,
}

/// Why no login was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthRefusal {
    /// The session is in clear and the peer is elsewhere.
    #[error("a password or token is only sent over TLS, and this session is in clear")]
    InClear,
    /// No mechanism in common for a password.
    #[error("expected AUTH PLAIN or LOGIN on offer, found neither")]
    NoPassword,
    /// The relay takes no token.
    #[error("expected AUTH XOAUTH2 on offer for the token, found it not")]
    NoToken,
}

/// Whether a password or token may be sent, and how.
pub fn choose(
    offered: AuthMechanisms,
    proof: &Proof,
    encrypted: bool,
    peer: IpAddr,
) -> Result<Mechanism, AuthRefusal> {
    if !encrypted && !peer.to_canonical().is_loopback() {
        return Err(AuthRefusal::InClear);
    }
    match (proof, offered) {
        (Proof::Password(_), AuthMechanisms { plain: true, .. }) => Ok(Mechanism::Plain),
        (Proof::Password(_), AuthMechanisms { login: true, .. }) => Ok(Mechanism::Login),
        (Proof::Password(_), _) => Err(AuthRefusal::NoPassword),
        (Proof::TokenFile(_), AuthMechanisms { xoauth2: true, .. }) => Ok(Mechanism::XOAuth2),
        (Proof::TokenFile(_), _) => Err(AuthRefusal::NoToken),
    }
}

/// The initial response of PLAIN: no authorisation id, user, password.
pub fn plain(user: &str, password: &Secret) -> Zeroizing<String> {
    encoded(&Zeroizing::new(format!("\0{user}\0{}", password.expose())))
}

/// The two answers of LOGIN.
pub fn login(user: &str, password: &Secret) -> [Zeroizing<String>; 2] {
    [encoded(user), encoded(password.expose())]
}

/// The initial response of XOAUTH2, as Google and Microsoft describe it.
pub fn xoauth2(user: &str, token: &Secret) -> Zeroizing<String> {
    encoded(&Zeroizing::new(format!("user={user}\x01auth=Bearer {}\x01\x01", token.expose())))
}

fn encoded(text: &str) -> Zeroizing<String> {
    Zeroizing::new(STANDARD.encode(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: AuthMechanisms = AuthMechanisms { plain: true, login: true, xoauth2: true };
    const LOGIN: AuthMechanisms = AuthMechanisms { plain: false, login: true, xoauth2: false };

    #[test]
    fn nothing_is_sent_in_clear_over_a_network() {
        let password = Proof::Password(Secret::new("x"));
        let token = Proof::TokenFile("token".into());
        let far: IpAddr = "192.0.2.1".parse().expect("an address");
        for near in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            let near = near.parse().expect("an address");
            assert_eq!(choose(ALL, &password, false, near), Ok(Mechanism::Plain));
        }
        for proof in [&password, &token] {
            assert_eq!(choose(ALL, proof, false, far), Err(AuthRefusal::InClear));
        }
        assert_eq!(choose(LOGIN, &password, true, far), Ok(Mechanism::Login));
        assert_eq!(choose(ALL, &token, true, far), Ok(Mechanism::XOAuth2));
        let none = AuthMechanisms::default();
        assert_eq!(choose(none, &password, true, far), Err(AuthRefusal::NoPassword));
        assert_eq!(choose(LOGIN, &token, true, far), Err(AuthRefusal::NoToken));
    }

    #[test]
    fn responses_are_those_that_are_described() {
        let password = Secret::new("tanstaaftanstaaf");
        assert_eq!(plain("tim", &password).as_str(), "AHRpbQB0YW5zdGFhZnRhbnN0YWFm");
        assert_eq!(login("tim", &password)[0].as_str(), "dGlt");
        let token = Secret::new("vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg==");
        assert_eq!(
            xoauth2("someuser@example.com", &token).as_str(),
            "dXNlcj1zb21ldXNlckBleGFtcGxlLmNvbQFhdXRoPUJlYXJlciB2RjlkZnQ0cW1UYzJOdmIzUmxja0\
             JoZEhSaGRtbHpkR0V1WTI5dENnPT0BAQ=="
        );
    }
}
