//! What is signed verifies, by a verifier that is not ours.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::LazyLock;
use std::time::Instant;

use mail_auth::common::parse::TxtRecordParser;
use mail_auth::common::verify::DomainKey;
use mail_auth::{
    AuthenticatedMessage, DkimResult, MessageAuthenticator, Parameters, ResolverCache, Txt,
};
use proptest::prelude::*;

use super::*;

/// 2027-01-15: the verifier refuses signatures of the future.
const NOW: u64 = 1_768_435_200;

static RSA: LazyLock<Signer> = LazyLock::new(|| signer("rsa", Algorithm::RsaSha256));
static ED25519: LazyLock<Signer> = LazyLock::new(|| signer("ed", Algorithm::Ed25519Sha256));

fn signer(selector: &str, algorithm: Algorithm) -> Signer {
    Signer::new("shop.example", selector, KeyPair::generate(algorithm).expect("a key"))
}

/// What the DNS would say; the verifier asks no other.
struct Published(HashMap<Box<str>, Txt>);

impl Published {
    fn of(signers: &[&Signer]) -> Self {
        let record = |signer: &&Signer| {
            let name = format!("{}._domainkey.{}.", signer.selector(), signer.domain());
            let text = signer.key.public_record().expect("a record");
            let key = DomainKey::parse(text.as_bytes()).expect("parses");
            (name.into_boxed_str(), Txt::from(key))
        };
        Self(signers.iter().map(record).collect())
    }
}

impl ResolverCache<Box<str>, Txt> for Published {
    fn get<Q>(&self, name: &Q) -> Option<Txt>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.0.get(name).cloned()
    }

    fn remove<Q>(&self, _name: &Q) -> Option<Txt>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        None
    }

    fn insert(&self, _name: Box<str>, _value: Txt, _valid_until: Instant) {}
}

/// A cache of a kind of record that DKIM has no use for.
struct Nothing;

impl<K, V> ResolverCache<K, V> for Nothing {
    fn get<Q>(&self, _name: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        None
    }

    fn remove<Q>(&self, _name: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        None
    }

    fn insert(&self, _name: K, _value: V, _valid_until: Instant) {}
}

/// The verdict on every signature of a mail, by an independent verifier. (This
/// release of it misreads bodies whose last lines hold only white space; those
/// are compared with the RFC's words in [`super::canonical`].)
fn verify(mail: &[u8], signers: &[&Signer]) -> Vec<bool> {
    let published = Published::of(signers);
    let message = AuthenticatedMessage::parse(mail).expect("a message");
    let parameters: Parameters<'_, _, Published, Nothing, Nothing, Nothing, Nothing> = Parameters {
        params: &message,
        cache_txt: Some(&published),
        cache_mx: None,
        cache_ptr: None,
        cache_ipv4: None,
        cache_ipv6: None,
    };
    let verifier = MessageAuthenticator::new_cloudflare_tls().expect("no query is sent");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let results = runtime.expect("a runtime").block_on(verifier.verify_dkim(parameters));
    results.iter().map(|output| output.result() == &DkimResult::Pass).collect()
}

fn signed(mail: &str, signers: &[&'static Signer]) -> Vec<u8> {
    signed_as(Canonicalization::default(), mail, signers)
}

fn signed_as(
    canonicalization: Canonicalization,
    mail: &str,
    signers: &[&'static Signer],
) -> Vec<u8> {
    let manner = Manner { canonicalization, spared: &[] };
    sign(manner, mail.as_bytes().to_vec(), NOW, signers.iter().copied()).expect("signed")
}

#[test]
fn both_keys_sign_one_mail() {
    let mail = "From: a@shop.example\r\nSubject: x\r\n\r\nHello \r\n \r\n.\r\n\r\n\r\n";
    let signed = signed(mail, &[&RSA, &ED25519]);
    assert_eq!(verify(&signed, &[&RSA, &ED25519]), [true, true]);
    let text = String::from_utf8(signed).expect("ascii");
    assert!(text.ends_with(mail));
    assert!(text.lines().all(|line| line.len() <= 78), "{text}");
}

#[test]
fn what_was_changed_fails() {
    let mail = "From: a@shop.example\r\nSubject: x\r\nX-Other: 1\r\n\r\nHello\r\n";
    let signed = String::from_utf8(signed(mail, &[&ED25519])).expect("ascii");
    let verdict = |text: String| verify(text.as_bytes(), &[&ED25519]);
    assert_eq!(verdict(signed.clone()), [true]);
    assert_eq!(verdict(signed.replace("X-Other: 1", "X-Other: 2")), [true]);
    assert_eq!(verdict(signed.replace("Hello", "hello")), [false]);
    assert_eq!(verdict(signed.replace("Subject: x", "Subject: y")), [false]);
    for added in OVERSIGNED {
        let text = signed.replace("X-Other: 1", &format!("{added}: z@x.example"));
        assert_eq!(verdict(text), [false], "{added} was added");
        let text = format!("{added}: z@x.example\r\n{signed}");
        assert_eq!(verdict(text), [false], "{added} was put first");
    }
}

#[test]
fn names_are_listed_once_more_than_they_occur() {
    let mail = "From: a@shop.example\r\nTo: b@x.example\r\nTo: c@x.example\r\n\r\n";
    let text = String::from_utf8(signed(mail, &[&ED25519])).expect("ascii");
    let names = text.split_once("h=").and_then(|(_, rest)| rest.split_once(';')).expect("h=").0;
    let count = |name| names.split(':').filter(|n| n.trim() == name).count();
    assert_eq!((count("From"), count("To"), count("Subject")), (2, 3, 1));
    assert_eq!(verify(text.as_bytes(), &[&ED25519]), [true]);
}

#[test]
fn what_a_carrier_writes_anew_is_not_signed() {
    let mail = "From: a@shop.example\r\nDate: x\r\nMessage-ID: <1@a>\r\n\r\nHello\r\n";
    let manner = Manner { spared: &["Date", "Message-ID"], ..Manner::default() };
    let signed = sign(manner, mail.as_bytes().to_vec(), NOW, [&*ED25519]);
    let text = String::from_utf8(signed.expect("signed")).expect("ascii");
    let text = text.replace("Date: x", "Date: y").replace("<1@a>", "<2@b>");
    assert_eq!(verify(text.as_bytes(), &[&ED25519]), [true]);
    let text = text.replace("From: a@", "From: b@");
    assert_eq!(verify(text.as_bytes(), &[&ED25519]), [false]);
}

#[test]
fn without_signers_nothing_changes() {
    let manner = Manner::default();
    assert_eq!(sign(manner, b"x".to_vec(), NOW, []), Ok(b"x".to_vec()));
    assert_eq!(sign(manner, b"x".to_vec(), NOW, [&*ED25519]), Err(SignError::NoBody));
}

#[test]
fn a_signer_prints_no_key() {
    assert_eq!(format!("{:?}", &*ED25519), "Signer(ed._domainkey.shop.example, ed25519-sha256)");
}

fn header_value() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{1,60}",
        "[a-zA-ZäöüéÀ漢字 ]{1,40}",
        "([!-~]{1,60}\r\n[ \t]{1,3}){1,4}[!-~]{1,20}",
        "[!-~]{200,900}",
    ]
}

fn mail() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        Just("Subject".to_owned()),
        Just("To".to_owned()),
        Just("sUBJECT".to_owned()),
        Just("List-Unsubscribe".to_owned()),
        "X-[A-Za-z0-9-]{1,20}",
    ];
    let line = prop_oneof![
        Just(String::new()),
        "[ \t]{1,5}",
        "\\.{1,3}",
        "[ -~]{0,80}",
        "[a-zäöü漢 \t]{0,40}",
        "[ -~]{900,998}",
    ];
    (
        proptest::collection::vec((name, header_value()), 0..8),
        proptest::collection::vec(line, 0..12),
        any::<bool>(),
    )
        .prop_map(|(headers, lines, ends)| {
            let mut mail = String::from("From: \"J\u{fc}rgen\" <a@shop.example>\r\n");
            for (name, value) in headers {
                mail.extend([&name, ": ", &value, "\r\n"]);
            }
            mail.push_str("\r\n");
            mail.push_str(&lines.join("\r\n"));
            if lines.last().is_some_and(|line| line.trim().is_empty()) {
                mail.push('.');
            }
            if ends {
                mail.push_str("\r\n");
            }
            mail
        })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]
    #[test]
    fn whatever_is_signed_verifies(mail in mail(), which in 0..3, form in 0_usize..4) {
        let signers: &[&'static Signer] = match which {
            0 => &[&RSA],
            1 => &[&ED25519],
            _ => &[&RSA, &ED25519],
        };
        let signed = signed_as(Canonicalization::ALL[form], &mail, signers);
        prop_assert_eq!(verify(&signed, signers), vec![true; signers.len()], "{}", String::from_utf8_lossy(&signed));
    }
}
