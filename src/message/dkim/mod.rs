//! DKIM (RFC 6376, RFC 8463): signing finished mail, relaxed/relaxed.
//!
//! Promise: what is signed here verifies anywhere, whatever the body ends in, and
//! no header that a reader sees can be added afterwards: [`OVERSIGNED`] names are
//! listed once more than they occur. The body is hashed once for all signers.

mod canonical;
mod key;

use std::fmt;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

pub use key::{Algorithm, KeyPair, KeyRefused, UnknownAlgorithm, record};

/// Signs for one domain under one selector.
pub struct Signer {
    domain: String,
    selector: String,
    key: KeyPair,
}

/// A mail that has no end of its header section, so that it cannot be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// There is no blank line after the header.
    #[error("the mail has no end of its header section")]
    NoBody,
    /// The library refused to sign.
    #[error("the {0} key could not sign")]
    Key(Algorithm),
}

/// Headers that decide what a reader sees or clicks: signed if present, and listed
/// once more, so that an added second one breaks the signature.
const OVERSIGNED: &[&str] = &[
    "From",
    "To",
    "Cc",
    "Subject",
    "Date",
    "Reply-To",
    "Message-ID",
    "MIME-Version",
    "Content-Type",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
];

/// Headers signed when they are there.
const SIGNED: &[&str] =
    &["Content-Transfer-Encoding", "In-Reply-To", "References", "List-Id", "Feedback-ID"];

/// Columns of the signature's own lines.
const WIDTH: usize = 76;

impl Signer {
    /// A signer; `domain` and `selector` are those of the published record
    /// `selector._domainkey.domain`.
    pub fn new(domain: impl Into<String>, selector: impl Into<String>, key: KeyPair) -> Self {
        Self { domain: domain.into(), selector: selector.into(), key }
    }

    /// The signing domain (`d=`).
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The selector (`s=`).
    pub fn selector(&self) -> &str {
        &self.selector
    }

    /// The key's algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.key.algorithm()
    }
}

/// Writes one DKIM-Signature per signer before `mail`, whose lines end in CRLF.
/// `time` is seconds since 1970 (`t=`).
pub fn sign<'a>(
    mail: Vec<u8>,
    time: u64,
    signers: impl IntoIterator<Item = &'a Signer>,
) -> Result<Vec<u8>, SignError> {
    sign_sparing(&[], mail, time, signers)
}

/// The same, but the headers named in `spared` are not signed: whoever carries the mail writes
/// them anew.
pub fn sign_sparing<'a>(
    spared: &[&str],
    mail: Vec<u8>,
    time: u64,
    signers: impl IntoIterator<Item = &'a Signer>,
) -> Result<Vec<u8>, SignError> {
    let mut signers = signers.into_iter().peekable();
    if signers.peek().is_none() {
        return Ok(mail);
    }
    let (header, body) = canonical::split(&mail).ok_or(SignError::NoBody)?;
    let mut hash = digest::Context::new(&digest::SHA256);
    canonical::body(body, |piece| hash.update(piece));
    let body_hash = STANDARD.encode(hash.finish());
    let signed = SignedHeaders::of(header, spared);

    let mut out = Vec::with_capacity(mail.len() + 1_500);
    for signer in signers {
        signer.write(&signed, &body_hash, time, &mut out)?;
    }
    out.extend_from_slice(&mail);
    Ok(out)
}

impl Signer {
    fn write(
        &self,
        signed: &SignedHeaders,
        body_hash: &str,
        time: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), SignError> {
        let mut folded = Folded::new(format!(
            "DKIM-Signature: v=1; a={}; c=relaxed/relaxed;",
            self.algorithm().tag()
        ));
        folded.word(&format!("d={};", self.domain));
        folded.word(&format!("s={};", self.selector));
        folded.word(&format!("t={time};"));
        folded.list("h=", &signed.names);
        folded.word(&format!("bh={body_hash};"));
        folded.fold();
        folded.text.push_str("b=");

        let mut input = signed.canonical.clone();
        canonical::header(folded.text.as_bytes(), &mut input);
        // The signature's own header is hashed without its line end (RFC 6376 3.7).
        input.truncate(input.len() - 2);
        let signature = self.key.sign(&input).map_err(|_| SignError::Key(self.algorithm()))?;
        folded.long(&STANDARD.encode(signature));

        out.extend_from_slice(folded.text.as_bytes());
        out.extend_from_slice(b"\r\n");
        Ok(())
    }
}

/// The headers to sign: their names for `h=`, and their canonical form.
struct SignedHeaders {
    names: Vec<&'static str>,
    canonical: Vec<u8>,
}

impl SignedHeaders {
    fn of(header: &[u8], spared: &[&str]) -> Self {
        let fields = canonical::fields(header);
        let mut names = Vec::with_capacity(OVERSIGNED.len() * 2);
        let mut canonical = Vec::with_capacity(header.len());
        for (list, once_more) in [(OVERSIGNED, true), (SIGNED, false)] {
            for name in list.iter().filter(|name| !spared.contains(name)) {
                // Of several, the last is taken first (RFC 6376 5.4.2).
                for field in fields.iter().rev().filter(|field| field.is(name)) {
                    names.push(*name);
                    canonical::header(field.bytes, &mut canonical);
                }
                if once_more {
                    names.push(*name);
                }
            }
        }
        Self { names, canonical }
    }
}

/// A header field folded at [`WIDTH`].
struct Folded {
    text: String,
    line_start: usize,
}

impl Folded {
    fn new(text: String) -> Self {
        Self { text, line_start: 0 }
    }

    fn fold(&mut self) {
        self.text.push_str("\r\n");
        self.line_start = self.text.len();
        self.text.push(' ');
    }

    fn fits(&self, len: usize) -> bool {
        self.text.len() - self.line_start + len <= WIDTH
    }

    fn word(&mut self, word: &str) {
        if self.fits(word.len() + 1) {
            self.text.push(' ');
        } else {
            self.fold();
        }
        self.text.push_str(word);
    }

    fn list(&mut self, tag: &str, names: &[&str]) {
        self.fold();
        self.text.push_str(tag);
        for (n, name) in names.iter().enumerate() {
            if !self.fits(name.len() + 1) {
                self.fold();
            }
            self.text.push_str(name);
            self.text.push(if n + 1 == names.len() { ';' } else { ':' });
        }
    }

    /// Base64 may be folded anywhere.
    fn long(&mut self, text: &str) {
        let mut rest = text;
        while !rest.is_empty() {
            let room = WIDTH.saturating_sub(self.text.len() - self.line_start);
            let (now, later) = rest.split_at(room.min(rest.len()));
            self.text.push_str(now);
            rest = later;
            if !rest.is_empty() {
                self.fold();
            }
        }
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({}._domainkey.{}, {})", self.selector, self.domain, self.algorithm())
    }
}

#[cfg(test)]
mod tests {
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
        let parameters: Parameters<'_, _, Published, Nothing, Nothing, Nothing, Nothing> =
            Parameters {
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
        sign(mail.as_bytes().to_vec(), NOW, signers.iter().copied()).expect("signed")
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
        let spared = &["Date", "Message-ID"];
        let signed = sign_sparing(spared, mail.as_bytes().to_vec(), NOW, [&*ED25519]);
        let text = String::from_utf8(signed.expect("signed")).expect("ascii");
        let text = text.replace("Date: x", "Date: y").replace("<1@a>", "<2@b>");
        assert_eq!(verify(text.as_bytes(), &[&ED25519]), [true]);
        let text = text.replace("From: a@", "From: b@");
        assert_eq!(verify(text.as_bytes(), &[&ED25519]), [false]);
    }

    #[test]
    fn without_signers_nothing_changes() {
        assert_eq!(sign(b"x".to_vec(), NOW, []), Ok(b"x".to_vec()));
        assert_eq!(sign(b"x".to_vec(), NOW, [&*ED25519]), Err(SignError::NoBody));
    }

    #[test]
    fn a_signer_prints_no_key() {
        assert_eq!(
            format!("{:?}", &*ED25519),
            "Signer(ed._domainkey.shop.example, ed25519-sha256)"
        );
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
        fn whatever_is_signed_verifies(mail in mail(), which in 0..3) {
            let signers: &[&'static Signer] = match which {
                0 => &[&RSA],
                1 => &[&ED25519],
                _ => &[&RSA, &ED25519],
            };
            let signed = signed(&mail, signers);
            prop_assert_eq!(verify(&signed, signers), vec![true; signers.len()], "{}", String::from_utf8_lossy(&signed));
        }
    }
}
