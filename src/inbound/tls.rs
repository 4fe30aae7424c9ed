//! The certificate that the listener shows after STARTTLS.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::config::InboundTls;

/// Why the listener cannot offer STARTTLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsFileError {
    /// A file cannot be read as PEM.
    #[error("inbound.{key}: {path}: {reason}")]
    Unreadable {
        /// The configuration's key.
        key: &'static str,
        /// The file.
        path: String,
        /// What is wrong; holds nothing of the file.
        reason: String,
    },
    /// Certificate and key do not go together.
    #[error("inbound.tls_certificate and inbound.tls_key do not go together: {0}")]
    Unfit(String),
}

/// Reads certificate and key.
pub fn acceptor(files: &InboundTls) -> Result<TlsAcceptor, TlsFileError> {
    let fault = |key, path: &Path, reason: &dyn std::fmt::Display| TlsFileError::Unreadable {
        key,
        path: path.display().to_string(),
        reason: reason.to_string(),
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect)
        .map_err(|error| fault("tls_certificate", &files.certificate, &error))?;
    if chain.is_empty() {
        return Err(fault("tls_certificate", &files.certificate, &"it holds no certificate"));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| fault("tls_key", &files.key, &error))?;
    let unfit = |error: rustls::Error| TlsFileError::Unfit(error.to_string());
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unfit)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(unfit)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
