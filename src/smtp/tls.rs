//! TLS towards peers: which certificate is good enough, and the handshake.
//!
//! Promises: the encryption itself is always real. Where any certificate will do
//! (opportunistic and required TLS between mail servers, RFC 7435), the peer must
//! still prove that it holds the certificate's key; where the certificate must
//! verify, it does so against known roots and for the host's name, or the
//! handshake fails. The two kinds never share a resumed session.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, ProtocolVersion, RootCertStore,
    SignatureScheme,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What a peer's certificate must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trust {
    /// Any certificate.
    Anyone,
    /// One that verifies for the host's name.
    Verified,
}

/// No TLS could be set up; the text says why and holds nothing secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TlsFault(pub String);

/// The client's side of TLS, shared by all connections.
#[derive(Clone)]
pub struct Tls {
    anyone: TlsConnector,
    verified: TlsConnector,
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
        let fault = |error: rustls::Error| TlsFault(error.to_string());
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        for root in extra {
            roots.add(root).map_err(fault)?;
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verified = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(fault)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let anyone = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(fault)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth();
        Ok(Self {
            anyone: TlsConnector::from(Arc::new(anyone)),
            verified: TlsConnector::from(Arc::new(verified)),
        })
    }

    /// Shakes hands over a fresh stream. `host` is the name that a verified
    /// certificate must carry.
    pub async fn connect(
        &self,
        stream: TcpStream,
        host: &str,
        trust: Trust,
    ) -> Result<TlsStream<TcpStream>, TlsFault> {
        let (connector, name) = match trust {
            Trust::Verified => {
                let name = server_name(host)
                    .ok_or_else(|| TlsFault(format!("no certificate can carry {host:?}")))?;
                (&self.verified, name)
            }
            Trust::Anyone => {
                // Without a usable name the address stands in; it sends no SNI.
                let address = stream.peer_addr().map_err(|error| TlsFault(error.to_string()))?;
                (&self.anyone, server_name(host).unwrap_or(address.ip().into()))
            }
        };
        connector.connect(name, stream).await.map_err(|error| TlsFault(error.to_string()))
    }
}

fn server_name(host: &str) -> Option<ServerName<'static>> {
    ServerName::try_from(host.trim_end_matches('.').to_owned()).ok()
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

/// Takes every certificate, but only from who holds its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
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
