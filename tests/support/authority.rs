//! Certificate authorities of our own, and certificates good and bad.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::needless_pass_by_value,
    reason = "each test binary uses a part of it"
)]

use aws_lc_rs::digest::{SHA256, digest};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::CertificateDer;
use rustls::server::ParsedCertificate;

use crate::support::smtp_peer::Certificate;

/// Signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub certificate: CertificateDer<'static>,
}

/// A certificate with its key, and those above it.
pub struct Made {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: KeyPair,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate").der().clone();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// A certificate for these names.
    pub fn certify(&self, names: &[String]) -> Made {
        self.sign(CertificateParams::new(names).expect("names"))
    }

    /// One that was good for these names, until its time was over.
    pub fn expired(&self, names: &[String]) -> Made {
        let mut params = CertificateParams::new(names).expect("names");
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 1);
        self.sign(params)
    }

    fn sign(&self, params: CertificateParams) -> Made {
        let key = KeyPair::generate().expect("a key");
        let signed = params.signed_by(&key, &self.issuer).expect("a certificate");
        Made { chain: vec![signed.der().clone(), self.certificate.clone()], key }
    }
}

impl Made {
    /// Signed by its own key.
    pub fn by_itself(names: &[String]) -> Self {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(names).expect("names");
        let chain = vec![params.self_signed(&key).expect("a certificate").der().clone()];
        Self { chain, key }
    }

    /// As a mail host shows it.
    pub fn shown(&self) -> Certificate {
        Certificate::of(self.chain.clone(), self.key.serialize_der())
    }

    pub fn pem(&self) -> String {
        self.chain.iter().map(|der| pem(der)).collect()
    }
}

/// A certificate in PEM.
pub fn pem(der: &CertificateDer<'_>) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("ascii")).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// The data of a TLSA record: `USAGE 0 1` or `USAGE 1 1`.
pub fn tlsa(usage: u8, selector: u8, certificate: &CertificateDer<'_>) -> String {
    let key = ParsedCertificate::try_from(certificate).expect("readable").subject_public_key_info();
    let what: &[u8] = if selector == 0 { certificate } else { &key };
    let hash = digest(&SHA256, what)
        .as_ref()
        .iter()
        .fold(String::new(), |hash, byte| format!("{hash}{byte:02x}"));
    format!("{usage} {selector} 1 {hash}")
}
