//! A server's certificate with its key, as the peers of tests show it.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;

/// A certificate and its key.
#[derive(Clone)]
pub struct Certificate {
    der: CertificateDer<'static>,
    config: Arc<ServerConfig>,
}

impl Certificate {
    /// Signed by itself, for this name.
    pub fn for_name(name: &str) -> Self {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a valid name");
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        let der = made.cert.der().clone();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider's own")
            .with_no_client_auth()
            .with_single_cert(vec![der.clone()], key)
            .expect("they belong together");
        Self { der, config: Arc::new(config) }
    }

    /// One that was made elsewhere, with those above it and its key in DER.
    pub fn of(chain: Vec<CertificateDer<'static>>, key: Vec<u8>) -> Self {
        Self::with(chain, key, None)
    }

    /// The same, and asks the client for a certificate of this authority.
    pub fn asking(
        chain: Vec<CertificateDer<'static>>,
        key: Vec<u8>,
        authority: &CertificateDer<'static>,
    ) -> Self {
        Self::with(chain, key, Some(authority))
    }

    fn with(
        chain: Vec<CertificateDer<'static>>,
        key: Vec<u8>,
        asked: Option<&CertificateDer<'static>>,
    ) -> Self {
        let key = PrivateKeyDer::try_from(key).expect("a key");
        let der = chain[0].clone();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("the provider's own");
        let builder = match asked {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = rustls::RootCertStore::empty();
                roots.add(authority.clone()).expect("an authority");
                let clients =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(clients.build().expect("a verifier"))
            }
        };
        let config = builder.with_single_cert(chain, key).expect("they belong together");
        Self { der, config: Arc::new(config) }
    }

    /// What a server shows it by.
    pub fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// Someone else's certificate, shown without having its key.
    pub fn stolen(name: &str) -> Self {
        let (theirs, mut ours) = (Self::for_name(name), Self::for_name(name));
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let made = rcgen::KeyPair::generate().expect("a key");
        let key = PrivateKeyDer::try_from(made.serialize_der()).expect("a key");
        let key = provider.key_provider.load_private_key(key).expect("a key");
        let shown = rustls::sign::CertifiedKey::new(vec![theirs.der.clone()], key);
        let resolver = rustls::sign::SingleCertAndKey::from(shown);
        let config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .expect("the provider's own")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(resolver));
        ours.config = Arc::new(config);
        ours
    }

    pub fn root(&self) -> CertificateDer<'static> {
        self.der.clone()
    }
}
