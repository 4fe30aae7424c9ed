//! What the configuration says of certificates and tokens: read from files, checked at the start, and
//! wrong ones told by field and reason.

use std::fs;
use std::path::Path;

use crate::support::authority::{Authority, pem};
use postrider::config::load::load;
use postrider::config::{ConfigError, Proof, RouteKind, Settings};

const RELAY: &str = "[[route]]\nname='r'\nkind='relay'\nhost='relay.test'\n";

fn read(folder: &Path, text: &str) -> Result<Settings, ConfigError> {
    let path = folder.join("p.toml");
    fs::write(&path, text).expect("write");
    load(Some(&path), std::iter::empty())
}

#[test]
fn certificates_and_tokens_are_read_and_what_is_wrong_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let authority = Authority::new("Ours");
    let (client, other) =
        (authority.certify(&["c.test".into()]), authority.certify(&["o.test".into()]));
    for (name, text) in [
        ("roots.pem", pem(&authority.certificate)),
        ("client.pem", client.pem()),
        ("client.key", client.key.serialize_pem()),
        ("other.key", other.key.serialize_pem()),
        ("token", "secret-token\n".into()),
        ("password", "hunter2\n".into()),
        ("nonsense", "nonsense".into()),
    ] {
        fs::write(at.join(name), text).expect("write");
    }
    let good = format!(
        "{RELAY}username='u'\ntoken_file='token'\nclient_certificate_file='client.pem'\n\
         client_key_file='client.key'\n[tls]\nroots_file='roots.pem'\nmta_sts=false\n"
    );
    let settings = read(at, &good).expect("sound");
    assert_eq!(settings.tls.roots, std::slice::from_ref(&authority.certificate));
    assert!(settings.tls.dane && !settings.tls.mta_sts);
    let route = &settings.routes[0];
    assert!(!route.tls_policies, "a relay has none");
    assert_eq!(route.client_certificate.as_ref().expect("one").chain, client.chain);
    let RouteKind::Relay { auth: Some(auth), .. } = &route.kind else { panic!("a login") };
    assert_eq!(auth.proof, Proof::TokenFile(at.join("token")));
    assert_eq!(auth.proof.now().expect("read").expose(), "secret-token");

    let relay = |more: &str| format!("{RELAY}{more}");
    for (text, expected) in [
        (
            relay("username='u'\ntoken_file='token'\npassword_file='password'\n"),
            "route[0].token_file: expected password_file or token_file, found both",
        ),
        (
            relay("username='u'\ntoken_file='nowhere'\n"),
            "route[0].token_file: cannot read the token in",
        ),
        (
            relay("client_certificate_file='client.pem'\n"),
            "expected client_certificate_file and client_key_file together",
        ),
        (
            relay("client_certificate_file='client.pem'\nclient_key_file='other.key'\n"),
            "route[0].client_key_file: cannot be used with client_certificate_file",
        ),
        (
            relay("client_certificate_file='client.pem'\nclient_key_file='nonsense'\n"),
            "route[0].client_key_file: expected a private key in PEM",
        ),
        (
            relay("client_certificate_file='nonsense'\nclient_key_file='client.key'\n"),
            "route[0].client_certificate_file: expected certificates in PEM",
        ),
        (
            relay(
                "tls='none'\nclient_certificate_file='client.pem'\nclient_key_file='client.key'\n",
            ),
            "route[0].tls: a certificate is shown under TLS only",
        ),
        (
            relay("tls_policies=true\n"),
            "route[0].tls_policies: has a meaning only with kind = \"mx\"",
        ),
        (
            "[[route]]\nname='r'\ntoken_file='token'\n".into(),
            "route[0].token_file: has a meaning only with kind = \"relay\"",
        ),
        ("[tls]\nroots_file='nowhere'\n".into(), "tls.roots_file: cannot read"),
        ("[tls]\nroots_file='nonsense'\n".into(), "tls.roots_file: expected certificates in PEM"),
        ("[dns]\ndnssec='maybe'\n".into(), "dns.dnssec: expected one of loopback, trusted, off"),
        ("[tls_report]\norganization='Us'\n".into(), "tls_report.contact: missing"),
    ] {
        let error = read(at, &text).expect_err("at fault").to_string();
        assert!(error.contains(expected), "{expected:?} is not in {error}");
        for secret in ["secret-token", "hunter2", "PRIVATE"] {
            assert!(!error.contains(secret), "{error}");
        }
    }
}
