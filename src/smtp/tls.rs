//! TLS towards peers: which certificate is good enough, and the handshake.
//!
//! Promises: the encryption itself is always real. Where any certificate will do
//! (opportunistic and required TLS between mail servers, RFC 7435), the peer must
//! still prove that it holds the certificate's key; where the certificate must
//! verify, it does so against known roots and for the host's name, or the
//! handshake fails; where the DNS names it, nothing else counts. The kinds never
//! share a resumed session.

use std::sync::Arc;

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::SingleCertAndKey;
use rustls::{CertificateError, ClientConfig, ClientConnection, ProtocolVersion, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::certificate::{Check, Verifier};
use crate::config::{ClientCertificate, TlsMode};
use crate::route::dane::Pins;
use crate::route::plan::Hop;
use crate::route::tls_result::Failure;

/// What a peer's certificate must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// Any certificate.
    Anyone,
    /// Any certificate; whether it would verify is noted.
    Judged,
    /// One that verifies for the host's name.
    Verified,
    /// One that the DNS names (DANE).
    Pinned(Arc<Pins>),
}

/// No TLS could be set up; the text says why and holds nothing secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct TlsFault {
    /// Why.
    pub text: String,
    /// By the words of reports.
    pub failure: Failure,
}

/// A stream under TLS.
pub struct Shaken {
    /// The stream.
    pub stream: TlsStream<TcpStream>,
    /// What is wrong with the certificate, where that was only to be noted.
    pub flaw: Option<Failure>,
}

/// The client's side of TLS, shared by all connections.
#[derive(Clone)]
pub struct Tls {
    anyone: TlsConnector,
    verified: TlsConnector,
    roots: Arc<WebPkiServerVerifier>,
    provider: Arc<CryptoProvider>,
}

impl Trust {
    /// What a session of this mode with a hop asks for.
    pub fn of(mode: TlsMode, hop: &Hop) -> Self {
        match (mode, hop.policy.pins()) {
            // Pins that cannot be used ask for TLS and for nothing else (RFC 7672 2.2).
            (TlsMode::Required, Some(pins)) if !pins.is_empty() => Self::Pinned(Arc::clone(pins)),
            (TlsMode::Verified | TlsMode::Implicit, _) => Self::Verified,
            (TlsMode::None | TlsMode::Opportunistic | TlsMode::Required, _) => {
                if hop.policy.is_tested() { Self::Judged } else { Self::Anyone }
            }
        }
    }
}

impl TlsFault {
    fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), failure: Failure::Validation }
    }
}

impl From<rustls::Error> for TlsFault {
    fn from(error: rustls::Error) -> Self {
        Self { text: error.to_string(), failure: failure(&error) }
    }
}

impl Tls {
    /// Trusts the roots that browsers trust.
    pub fn new() -> Result<Self, TlsFault> {
        Self::with_extra_roots([])
    }

    /// Trusts these roots besides, as for relays with a private authority.
    pub fn with_extra_roots(
        extra: impl IntoIterator<Item = CertificateDer<'static>>,
    ) -> Result<Self, TlsFault> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        for root in extra {
            roots.add(root)?;
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let roots =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .map_err(|error| TlsFault::new(error.to_string()))?;
        let anyone = Arc::new(Verifier::new(Arc::clone(&provider), Check::Nothing));
        let anyone = config(&provider, Certifier::Ours(anyone), None)?;
        let verified = config(&provider, Certifier::WebPki(Arc::clone(&roots)), None)?;
        Ok(Self {
            anyone: TlsConnector::from(Arc::new(anyone)),
            verified: TlsConnector::from(Arc::new(verified)),
            roots,
            provider,
        })
    }

    /// Shakes hands over a fresh stream. `host` is the name that a verified certificate must
    /// carry; `ours` is shown to a peer that asks who we are.
    pub async fn connect(
        &self,
        stream: TcpStream,
        host: &str,
        trust: &Trust,
        ours: Option<&ClientCertificate>,
    ) -> Result<Shaken, TlsFault> {
        let name = match (server_name(host), trust) {
            (Some(name), _) => name,
            (None, Trust::Anyone | Trust::Judged) => {
                // Without a usable name the address stands in; it sends no SNI.
                let address =
                    stream.peer_addr().map_err(|error| TlsFault::new(error.to_string()))?;
                address.ip().into()
            }
            (None, _) => return Err(TlsFault::new(format!("no certificate can carry {host:?}"))),
        };
        let mut judge = None;
        let connector = match (trust, ours) {
            (Trust::Anyone, None) => self.anyone.clone(),
            (Trust::Verified, None) => self.verified.clone(),
            _ => {
                let check = match trust {
                    Trust::Anyone => Some(Check::Nothing),
                    Trust::Judged => Some(Check::noted(Arc::clone(&self.roots))),
                    Trust::Verified => None,
                    Trust::Pinned(pins) => Some(Check::Pins(Arc::clone(pins))),
                };
                let certifier = match check {
                    None => Certifier::WebPki(Arc::clone(&self.roots)),
                    Some(check) => {
                        let verifier = Arc::new(Verifier::new(Arc::clone(&self.provider), check));
                        judge = Some(Arc::clone(&verifier));
                        Certifier::Ours(verifier)
                    }
                };
                let mut config = config(&self.provider, certifier, ours)?;
                // A resumed session shows no certificate.
                config.resumption = Resumption::disabled();
                TlsConnector::from(Arc::new(config))
            }
        };
        let stream = connector.connect(name, stream).await.map_err(|error| {
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            inner.map_or_else(|| TlsFault::new(error.to_string()), |inner| inner.clone().into())
        })?;
        let flaw = judge.and_then(|judge| judge.flaw()).map(|error| failure(&error));
        Ok(Shaken { stream, flaw })
    }
}

/// Who looks at certificates.
enum Certifier {
    WebPki(Arc<WebPkiServerVerifier>),
    Ours(Arc<Verifier>),
}

fn config(
    provider: &Arc<CryptoProvider>,
    certifier: Certifier,
    ours: Option<&ClientCertificate>,
) -> Result<ClientConfig, TlsFault> {
    let builder = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()?;
    let builder = match certifier {
        Certifier::WebPki(verifier) => builder.with_webpki_verifier(verifier),
        Certifier::Ours(verifier) => builder.dangerous().with_custom_certificate_verifier(verifier),
    };
    Ok(match ours {
        None => builder.with_no_client_auth(),
        Some(ours) => {
            let certified = ours.certified().map_err(TlsFault::new)?;
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
        }
    })
}

fn server_name(host: &str) -> Option<ServerName<'static>> {
    ServerName::try_from(host.trim_end_matches('.').to_owned()).ok()
}

/// A failed handshake by the words of reports (RFC 8460 4.3).
fn failure(error: &rustls::Error) -> Failure {
    let rustls::Error::InvalidCertificate(certificate) = error else { return Failure::Validation };
    match certificate {
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => Failure::Expired,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            Failure::HostMismatch
        }
        CertificateError::ApplicationVerificationFailure => Failure::Validation,
        _ => Failure::NotTrusted,
    }
}

/// Protocol version and cipher suite, for the trail.
pub fn describe(session: &ClientConnection) -> Arc<str> {
    let version = match session.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "TLS",
    };
    let suite = session.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str());
    format!("{version} {}", suite.unwrap_or("unknown")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_certificates_carry_them() {
        assert!(matches!(server_name("mx.example.net."), Some(ServerName::DnsName(_))));
        assert!(matches!(server_name("192.0.2.1"), Some(ServerName::IpAddress(_))));
        assert!(server_name("not a name").is_none());
        assert!(server_name("").is_none());
    }
}
