//! [`WebhookSecret`]: what an endpoint verifies our requests with.

use std::fmt;

use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::domain::ids::{TenantId, WebhookId};
use crate::tenant::seal::{Owner, SealError, Sealer};

/// What a written secret begins with (Standard Webhooks, "Signature scheme").
const PREFIX: &str = "whsec_";

/// Bytes of a new one; the standard wants 24 to 64.
const LENGTH: usize = 32;

/// In the place of a sending domain, which can hold no colon: no seal of a DKIM key opens here.
pub(super) const SEALED_AS: &str = "webhook:secret";

/// A symmetric key.
#[derive(Clone)]
pub struct WebhookSecret(Zeroizing<Vec<u8>>);

impl WebhookSecret {
    /// A new one.
    pub fn generate() -> Result<Self, SealError> {
        let mut bytes = Zeroizing::new(vec![0; LENGTH]);
        rand::fill(&mut bytes).map_err(|_| SealError::Cipher)?;
        Ok(Self(bytes))
    }

    /// Reads a written one; `None` when it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text.strip_prefix(PREFIX)?).map(Zeroizing::new).ok()?;
        (24..=64).contains(&bytes.len()).then_some(Self(bytes))
    }

    /// As it is shown to its owner, once.
    pub fn reveal(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{PREFIX}{}", STANDARD.encode(&*self.0)))
    }

    /// The key.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// For the database.
    pub(super) fn seal(
        &self,
        sealer: &Sealer,
        tenant: TenantId,
        webhook: WebhookId,
    ) -> Result<Vec<u8>, SealError> {
        let name = webhook.to_string();
        sealer.seal(Owner { tenant, domain: SEALED_AS, selector: &name }, &self.0)
    }

    /// From the database.
    pub(super) fn open(
        sealer: &Sealer,
        tenant: TenantId,
        webhook: WebhookId,
        sealed: &[u8],
    ) -> Result<Self, SealError> {
        let name = webhook.to_string();
        sealer.open(Owner { tenant, domain: SEALED_AS, selector: &name }, sealed).map(Self)
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret(…)")
    }
}
