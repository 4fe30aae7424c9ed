//! `[tls]`, `[tls_report]`, and the certificates that routes name: TLS between mail servers.

use std::path::PathBuf;

use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::config::reader::Reader;
use crate::config::secret::Secret;
use crate::config::word::{NAME, is_name};

/// `[tls]`: which published policies are honoured, and who is trusted.
#[derive(Debug, Clone, PartialEq)]
pub struct TlsPolicies {
    /// MTA-STS (RFC 8461) (true).
    pub mta_sts: bool,
    /// DANE (RFC 7672), where the name servers' answers are validated (true).
    pub dane: bool,
    /// Port of the policy hosts and report collectors: 443 but in tests.
    pub https_port: u16,
    /// Authorities trusted beside those that browsers trust, from `roots_file`.
    pub roots: Vec<CertificateDer<'static>>,
}

/// `[tls_report]`: daily reports to receivers on how TLS with them went (RFC 8460).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsReport {
    /// Who reports, for the reader.
    pub organization: String,
    /// Whom the reader may ask: an address.
    pub contact: String,
    /// The author of mailed reports; its domain belongs to `tenant`.
    pub from: String,
    /// The tenant under whose name reports are mailed.
    pub tenant: String,
    /// The stream of mailed reports (`tls-report`).
    pub stream: String,
}

/// A certificate that we show to a relay, with its key.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientCertificate {
    /// Our certificate first, then those that lead to its authority.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key in PEM.
    pub key: Secret,
}

/// What proves to a relay who we are.
#[derive(Debug, Clone, PartialEq)]
pub enum Proof {
    /// A password, for AUTH PLAIN or LOGIN.
    Password(Secret),
    /// A file that holds an OAuth 2.0 access token, for AUTH XOAUTH2. It is read for each
    /// login, for somebody else renews it.
    TokenFile(PathBuf),
}

/// Why the proof cannot be had; names the file, never what is in it.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the token in {file}: {source}", file = file.display())]
pub struct NoProof {
    file: PathBuf,
    source: std::io::Error,
}

impl Default for TlsPolicies {
    fn default() -> Self {
        Self { mta_sts: true, dane: true, https_port: 443, roots: Vec::new() }
    }
}

impl Proof {
    /// The password, or the token as it is now. Reads a small file, so not from a task that
    /// must not wait.
    pub fn now(&self) -> Result<Secret, NoProof> {
        match self {
            Self::Password(password) => Ok(password.clone()),
            Self::TokenFile(file) => Secret::read(file)
                .map(|(token, _)| token)
                .map_err(|source| NoProof { file: file.clone(), source }),
        }
    }
}

impl TlsPolicies {
    pub(in crate::config) fn read(section: Reader<'_>) -> Self {
        let default = Self::default();
        let tls = Self {
            mta_sts: section.switch("mta_sts", default.mta_sts),
            dane: section.switch("dane", default.dane),
            https_port: section.integer("https_port", default.https_port, 1..=65_535),
            roots: certificates(&section, "roots_file").unwrap_or_default(),
        };
        let mut store = RootCertStore::empty();
        for root in &tls.roots {
            if let Err(error) = store.add(root.clone()) {
                section
                    .fault("roots_file", format_args!("a certificate cannot be trusted: {error}"));
            }
        }
        section.end();
        tls
    }
}

impl TlsReport {
    /// `None` also when something that it cannot do without is missing (and reported).
    pub(in crate::config) fn read(section: Reader<'_>) -> Option<Self> {
        let address = email_address::EmailAddress::is_valid;
        let line =
            |text: &str| (1..=200).contains(&text.len()) && !text.chars().any(char::is_control);
        let organization = section.required("organization", "a line of at most 200 bytes", line);
        let contact = section.required("contact", "an address", address);
        let from = section.required("from", "an address", address);
        let tenant = section.required("tenant", "the name of a tenant", line);
        let stream = section.checked("stream", NAME, is_name);
        section.end();
        Some(Self {
            organization: organization?,
            contact: contact?,
            from: from?,
            tenant: tenant?,
            stream: stream.unwrap_or_else(|| "tls-report".into()),
        })
    }
}

impl ClientCertificate {
    /// `client_certificate_file` with `client_key_file`, or neither.
    pub(super) fn read(section: &Reader<'_>) -> Option<Self> {
        let chain = certificates(section, "client_certificate_file");
        let key = section.secret("client_key", "client_key_file");
        let given = section.has("client_key") || section.has("client_key_file");
        if section.has("client_certificate_file") != given {
            let message = "expected client_certificate_file and client_key_file together";
            section.fault("client_certificate_file", message);
        }
        let certificate = Self { chain: chain?, key: key? };
        if let Err(fault) = certificate.certified() {
            section.fault("client_key_file", fault);
        }
        Some(certificate)
    }

    /// The key, ready to sign with; tells when it is not the certificate's.
    pub fn certified(&self) -> Result<CertifiedKey, String> {
        let key = PrivateKeyDer::from_pem_slice(self.key.expose().as_bytes())
            .map_err(|_| "expected a private key in PEM, found something else".to_owned())?;
        CertifiedKey::from_der(self.chain.clone(), key, &aws_lc_rs::default_provider())
            .map_err(|error| format!("cannot be used with client_certificate_file: {error}"))
    }
}

/// The certificates of a PEM file, at least one.
fn certificates(section: &Reader<'_>, key: &'static str) -> Option<Vec<CertificateDer<'static>>> {
    let pem = section.content(key)?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match read {
        Ok(found) if !found.is_empty() => Some(found),
        _ => {
            section.fault(key, "expected certificates in PEM, found something else");
            None
        }
    }
}
