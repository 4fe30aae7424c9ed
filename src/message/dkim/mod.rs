//! DKIM signatures (RFC 6376, Ed25519 by RFC 8463): relaxed/relaxed, one or more keys.
//!
//! Ours and not a crate's: the release of mail-auth that builds here hashes bodies whose
//! last lines hold only whitespace wrongly, and we want the body hashed once for several
//! keys. It serves in the tests as the independent verifier.
//!
//! Headers that receivers act on are *over-signed*: named once more than they occur, so
//! that adding another one breaks the signature.

mod canonical;
mod key;

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

pub use key::{Algorithm, KeyError, KeyPair, record};

/// Header fields that are signed, each once more than it occurs.
const OVERSIGNED: [&str; 12] = [
    "From",
    "To",
    "Cc",
    "Subject",
    "Date",
    "Message-ID",
    "Reply-To",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
];

/// Width at which the signature's header is folded (RFC 5322 2.1.1 recommends 78).
const FOLD_AT: usize = 76;

/// A key that signs for a domain under a selector.
pub struct Signer {
    domain: String,
    selector: String,
    key: KeyPair,
}

/// The signature could not be made; the key is unusable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the DKIM key {selector}._domainkey.{domain} cannot sign")]
pub struct SignError {
    domain: String,
    selector: String,
}

impl Signer {
    /// Signs for `domain` (A-labels) with the key published at `selector._domainkey.domain`.
    pub fn new(domain: impl Into<String>, selector: impl Into<String>, key: KeyPair) -> Self {
        Self { domain: domain.into(), selector: selector.into(), key }
    }

    /// Which signature it makes; RSA costs some 370 µs, Ed25519 some 10.
    pub fn algorithm(&self) -> Algorithm {
        self.key.algorithm()
    }

    /// The header field for a mail with these signed fields and body hash.
    fn field(
        &self,
        names: &str,
        signed: &[u8],
        body: &str,
        now: u64,
    ) -> Result<Vec<u8>, SignError> {
        let mut field = Folded::new("DKIM-Signature:");
        field.tag("v=1;");
        field.tag(&format!("a={};", self.key.algorithm().as_str()));
        field.tag("c=relaxed/relaxed;");
        field.tag(&format!("d={};", self.domain));
        field.tag(&format!("s={};", self.selector));
        field.tag(&format!("t={now};"));
        field.list("h=", names);
        field.tag(&format!("bh={body};"));
        field.tag("b=");

        let mut input = Vec::with_capacity(signed.len() + field.text.len() + 2);
        input.extend_from_slice(signed);
        canonical::header(field.text.as_bytes(), &mut input);
        // The signature's own field is hashed without its line end (RFC 6376 3.7).
        input.truncate(input.len() - 2);
        let signature = self.key.sign(&input).ok_or_else(|| SignError {
            domain: self.domain.clone(),
            selector: self.selector.clone(),
        })?;
        field.data(&STANDARD.encode(signature));
        field.text.push_str("\r\n");
        Ok(field.text.into_bytes())
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer")
            .field("domain", &self.domain)
            .field("selector", &self.selector)
            .field("algorithm", &self.key.algorithm())
            .finish_non_exhaustive()
    }
}

/// The signature fields of a finished mail (CRLF line ends, header section first), one for
/// each signer, to be put in front of it. `now` is seconds since 1970.
pub fn sign(mail: &[u8], signers: &[Arc<Signer>], now: u64) -> Result<Vec<u8>, SignError> {
    let split = memchr::memmem::find(mail, b"\r\n\r\n").map_or(mail.len(), |at| at + 2);
    let (head, rest) = mail.split_at(split);
    let body = rest.strip_prefix(b"\r\n").unwrap_or(rest);

    let mut hash = Context::new(&SHA256);
    canonical::body(body, |bytes| hash.update(bytes));
    let body = STANDARD.encode(hash.finish());

    let (names, signed) = selected(head);
    let mut fields = Vec::with_capacity(signers.len() * 800);
    for signer in signers {
        fields.extend(signer.field(&names, &signed, &body, now)?);
    }
    Ok(fields)
}

/// The list for `h=` and the canonical form of what it names. Of fields that occur more
/// than once the lowest comes first (RFC 6376 5.4.2).
fn selected(head: &[u8]) -> (String, Vec<u8>) {
    let fields = canonical::fields(head);
    let mut names = String::with_capacity(300);
    let mut signed = Vec::with_capacity(head.len());
    for name in OVERSIGNED {
        for field in fields.iter().rev() {
            if canonical::is_named(field, name) {
                canonical::header(field, &mut signed);
                names.push_str(name);
                names.push(':');
            }
        }
        names.push_str(name);
        names.push(':');
    }
    names.pop();
    (names, signed)
}

/// A header field under construction, folded before the tag that would pass the width.
struct Folded {
    text: String,
    column: usize,
}

impl Folded {
    fn new(name: &str) -> Self {
        Self { text: name.to_owned(), column: name.len() }
    }

    fn tag(&mut self, tag: &str) {
        if self.column + 1 + tag.len() > FOLD_AT {
            self.text.push_str("\r\n\t");
            self.column = 1;
        } else {
            self.text.push(' ');
            self.column += 1;
        }
        self.text.push_str(tag);
        self.column += tag.len();
    }

    /// A colon-separated list; white space may stand after a colon.
    fn list(&mut self, tag: &str, list: &str) {
        self.tag(tag);
        for name in list.split_inclusive(':') {
            self.piece(name);
        }
        self.text.push(';');
        self.column += 1;
    }

    /// Base64; white space may stand anywhere in it.
    fn data(&mut self, data: &str) {
        let mut rest = data;
        while !rest.is_empty() {
            let room = FOLD_AT.saturating_sub(self.column).max(1).min(rest.len());
            let (now, later) = rest.split_at(room);
            self.piece(now);
            rest = later;
        }
    }

    fn piece(&mut self, piece: &str) {
        if self.column + piece.len() > FOLD_AT {
            self.text.push_str("\r\n\t");
            self.column = 1;
        }
        self.text.push_str(piece);
        self.column += piece.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail_auth::common::parse::TxtRecordParser;
    use mail_auth::common::verify::DomainKey;
    use mail_auth::hickory_resolver::config::{ResolverConfig, ResolverOpts};
    use mail_auth::{
        AuthenticatedMessage, DkimResult, MessageAuthenticator, Parameters, ResolverCache, Txt,
    };
    use proptest::prelude::*;
    use std::borrow::Borrow;
    use std::collections::HashMap;
    use std::hash::Hash;
    use std::sync::LazyLock;
    use std::time::Instant;

    static RSA: LazyLock<Arc<Signer>> = LazyLock::new(|| signer(Algorithm::RsaSha256, "r1"));
    static ED: LazyLock<Arc<Signer>> = LazyLock::new(|| signer(Algorithm::Ed25519Sha256, "e1"));

    fn signer(algorithm: Algorithm, selector: &str) -> Arc<Signer> {
        let key = KeyPair::generate(algorithm).expect("generate a key");
        Arc::new(Signer::new("example.org", selector, key))
    }

    /// The published records, in place of a resolver.
    struct Zone(HashMap<Box<str>, Txt>);

    impl ResolverCache<Box<str>, Txt> for Zone {
        fn get<Q>(&self, name: &Q) -> Option<Txt>
        where
            Box<str>: Borrow<Q>,
            Q: Hash + Eq + ?Sized,
        {
            self.0.get(name).cloned()
        }
        fn remove<Q>(&self, _: &Q) -> Option<Txt>
        where
            Box<str>: Borrow<Q>,
            Q: Hash + Eq + ?Sized,
        {
            None
        }
        fn insert(&self, _: Box<str>, _: Txt, _: Instant) {}
    }

    fn zone() -> Zone {
        let records = [&*RSA, &*ED].map(|signer| {
            let record = signer.key.public_record().expect("a record");
            let key = DomainKey::parse(record.as_bytes()).expect("a valid record");
            let name = format!("{}._domainkey.{}.", signer.selector, signer.domain);
            (name.into_boxed_str(), Txt::DomainKey(Arc::new(key)))
        });
        Zone(records.into_iter().collect())
    }

    /// How many signatures an independent verifier accepts, and how many there are.
    fn verified(mail: &[u8]) -> (usize, usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
        runtime.block_on(async {
            let message = AuthenticatedMessage::parse(mail).expect("a mail");
            let resolver =
                MessageAuthenticator::new(ResolverConfig::default(), ResolverOpts::default())
                    .expect("a verifier");
            let zone = zone();
            let outputs =
                resolver.verify_dkim(Parameters::new(&message).with_txt_cache(&zone)).await;
            let passed = outputs.iter().filter(|out| *out.result() == DkimResult::Pass).count();
            (passed, outputs.len())
        })
    }

    fn signed(mail: &str, signers: &[Arc<Signer>]) -> Vec<u8> {
        let mut bytes = sign(mail.as_bytes(), signers, 1_700_000_000).expect("sign");
        bytes.extend_from_slice(mail.as_bytes());
        bytes
    }

    fn both() -> Vec<Arc<Signer>> {
        vec![Arc::clone(&RSA), Arc::clone(&ED)]
    }

    const MAIL: &str = "From: Shop <a@example.org>\r\nTo: b@example.net\r\nSubject: a  long\r\n \
                        folded subject\r\nDate: Fri, 20 Nov 2026 12:00:00 +0000\r\n\r\n\
                        Hello\r\n.\r\n..dots\r\ntrailing  \t space \r\n\r\n\r\n";

    #[test]
    fn both_signatures_verify() {
        assert_eq!(verified(&signed(MAIL, &both())), (2, 2));
        assert_eq!(verified(&signed(MAIL, &both()[..1])), (1, 1));
        let empty = &MAIL[..MAIL.find("Hello").expect("body")];
        assert_eq!(verified(&signed(empty, &both())), (2, 2));
    }

    #[test]
    fn what_is_changed_or_added_breaks_them() {
        let mail = String::from_utf8(signed(MAIL, &both())).expect("text");
        for (from, to) in [
            ("Hello", "Hallo"),
            ("Subject: a", "Subject: b"),
            ("From: Shop", "From: Other <o@example.com>\r\nFrom: Shop"),
            ("Date:", "Reply-To: thief@example.com\r\nDate:"),
            ("Date:", "List-Unsubscribe: <https://thief.example.com>\r\nDate:"),
        ] {
            let forged = mail.replacen(from, to, 1);
            assert_ne!(forged, mail);
            assert_eq!(verified(forged.as_bytes()).0, 0, "{from:?} -> {to:?}");
        }
    }

    #[test]
    fn lines_are_folded_and_the_key_is_not_shown() {
        let fields = sign(MAIL.as_bytes(), &both(), 1).expect("sign");
        let fields = String::from_utf8(fields).expect("text");
        assert!(fields.split("\r\n").all(|line| line.len() <= 78), "{fields}");
        assert!(!format!("{:?}", *RSA).contains("key"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_mail_verifies(
            subject in "[ -~éü\u{4e2d}]{0,200}",
            extra in proptest::collection::vec("X-[A-Za-z]{1,9}: [ -~]{0,90}\r\n", 0..4),
            lines in proptest::collection::vec("([ \t]{0,3}[!-~é][ -~\t]{0,80}|)", 0..12),
            which in 1..4usize,
        ) {
            // Lines of white space only are left out: the verifier's release hashes them wrongly.
            let mail = format!(
                "From: a@example.org\r\nSubject: {subject}\r\n{}\r\n{}",
                extra.concat(),
                lines.iter().map(|line| format!("{line}\r\n")).collect::<String>()
            );
            let signers: Vec<_> = both().into_iter().enumerate()
                .filter(|(n, _)| which & (n + 1) != 0).map(|(_, signer)| signer).collect();
            prop_assert_eq!(verified(&signed(&mail, &signers)), (signers.len(), signers.len()));
        }
    }
}
