//! DKIM (RFC 6376, RFC 8463): signing finished mail.
//!
//! Promise: what is signed here verifies anywhere, whatever the body ends in, and
//! no header that a reader sees can be added afterwards: [`OVERSIGNED`] names are
//! listed once more than they occur. The body is hashed once for all signers.

mod canonical;
mod folded;
mod key;
#[cfg(test)]
mod tests;

use std::fmt;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

pub use key::{Algorithm, KeyPair, KeyRefused, UnknownAlgorithm, record};

use crate::config::{Canonicalization, Form};
use folded::Folded;

/// Signs for one domain under one selector.
pub struct Signer {
    domain: String,
    selector: String,
    key: KeyPair,
}

/// How one mail is signed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Manner {
    /// Which form of it.
    pub canonicalization: Canonicalization,
    /// Headers that are not signed: whoever carries the mail writes them anew.
    pub spared: &'static [&'static str],
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
    manner: Manner,
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
    match manner.canonicalization.body {
        Form::Relaxed => canonical::relaxed_body(body, |piece| hash.update(piece)),
        Form::Simple => canonical::simple_body(body, |piece| hash.update(piece)),
    }
    let body_hash = STANDARD.encode(hash.finish());
    let signed = SignedHeaders::of(header, manner);

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
        let (algorithm, form) = (self.algorithm().tag(), signed.canonicalization);
        let mut folded = Folded::new(format!("DKIM-Signature: v=1; a={algorithm}; c={form};"));
        folded.word(&format!("d={};", self.domain));
        folded.word(&format!("s={};", self.selector));
        folded.word(&format!("t={time};"));
        folded.list("h=", &signed.names);
        folded.word(&format!("bh={body_hash};"));
        folded.begin("b=");

        let mut input = signed.canonical.clone();
        canonical::header(form.header, folded.as_bytes(), &mut input);
        // The signature's own header is hashed without its line end (RFC 6376 3.7).
        input.truncate(input.len() - 2);
        let signature = self.key.sign(&input).map_err(|_| SignError::Key(self.algorithm()))?;
        folded.long(&STANDARD.encode(signature));

        out.extend_from_slice(folded.as_bytes());
        out.extend_from_slice(b"\r\n");
        Ok(())
    }
}

/// The headers to sign: their names for `h=`, and their canonical form.
struct SignedHeaders {
    canonicalization: Canonicalization,
    names: Vec<&'static str>,
    canonical: Vec<u8>,
}

impl SignedHeaders {
    fn of(header: &[u8], manner: Manner) -> Self {
        let Manner { canonicalization, spared } = manner;
        let fields = canonical::fields(header);
        let mut names = Vec::with_capacity(OVERSIGNED.len() * 2);
        let mut canonical = Vec::with_capacity(header.len());
        for (list, once_more) in [(OVERSIGNED, true), (SIGNED, false)] {
            for name in list.iter().filter(|name| !spared.contains(name)) {
                // Of several, the last is taken first (RFC 6376 5.4.2).
                for field in fields.iter().rev().filter(|field| field.is(name)) {
                    names.push(*name);
                    canonical::header(canonicalization.header, field.bytes, &mut canonical);
                }
                if once_more {
                    names.push(*name);
                }
            }
        }
        Self { canonicalization, names, canonical }
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({}._domainkey.{}, {})", self.selector, self.domain, self.algorithm())
    }
}
