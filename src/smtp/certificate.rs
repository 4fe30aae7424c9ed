//! Looks at a peer's certificate where the browsers' rules are not what counts: any will do,
//! or only those that the DNS names (DANE, RFC 7672 3.1 and 3.2).
//!
//! Whatever is accepted, the peer has shown that it holds the certificate's key.

use std::sync::Arc;

use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor, verify_server_name,
};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::route::dane::Pins;

/// What a certificate is held against.
#[derive(Debug)]
pub(super) enum Check {
    /// Nothing: all are good.
    Nothing,
    /// The known roots; what is wrong is noted and accepted.
    Noted { roots: Arc<WebPkiServerVerifier>, flaw: Mutex<Option<Error>> },
    /// What the DNS names.
    Pins(Arc<Pins>),
}

impl Check {
    pub(super) fn noted(roots: Arc<WebPkiServerVerifier>) -> Self {
        Self::Noted { roots, flaw: Mutex::new(None) }
    }
}

/// Looks at certificates.
#[derive(Debug)]
pub(super) struct Verifier {
    provider: Arc<CryptoProvider>,
    check: Check,
}

impl Verifier {
    pub(super) fn new(provider: Arc<CryptoProvider>, check: Check) -> Self {
        Self { provider, check }
    }

    /// What was noted.
    pub(super) fn flaw(&self) -> Option<Error> {
        match &self.check {
            Check::Noted { flaw, .. } => flaw.lock().clone(),
            Check::Nothing | Check::Pins(_) => None,
        }
    }

    /// Whether the host's certificate is named itself (then neither its name nor its time
    /// matters, RFC 7672 3.1.1), or stands under an authority that is (then both do, 3.1.2).
    fn named(
        &self,
        pins: &Pins,
        host: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        let parsed = ParsedCertificate::try_from(host)?;
        if pins.name_host(host, &parsed.subject_public_key_info()) {
            return Ok(());
        }
        let mut roots = RootCertStore::empty();
        for authority in above {
            let named = ParsedCertificate::try_from(authority)
                .is_ok_and(|read| pins.name_authority(authority, &read.subject_public_key_info()));
            if named {
                // What cannot be read as an authority names nobody.
                let _ = roots.add(authority.clone().into_owned());
            }
        }
        for authority in pins.authorities() {
            let _ = roots.add(CertificateDer::from(authority.to_vec()));
        }
        if roots.is_empty() {
            // Said as a fault of the application, for the certificate may be good in itself.
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &roots, above, now, algorithms)?;
        verify_server_name(&parsed, name)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.check {
            Check::Nothing => {}
            Check::Noted { roots, flaw } => {
                let judged = roots.verify_server_cert(
                    end_entity,
                    intermediates,
                    server_name,
                    ocsp_response,
                    now,
                );
                *flaw.lock() = judged.err();
            }
            Check::Pins(pins) => self.named(pins, end_entity, intermediates, server_name, now)?,
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
