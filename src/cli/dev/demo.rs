//! The demonstration tenant: its API key and its signed domain.

use std::fmt::Write;
use std::fs;

use anyhow::Context;
use sqlx::PgPool;

use super::place::Place;
use crate::config::Secrets;
use crate::config::secret::Secret;
use crate::message::dkim::Algorithm;
use crate::message::time_zone::TimeZone;
use crate::tenant::domain::{self, DomainError, SendingDomain};
use crate::tenant::isolation::TenantScope;
use crate::tenant::key::ApiKey;
use crate::tenant::seal::Sealer;
use crate::tenant::store::{self, StoreError};

/// Name of the tenant.
const TENANT: &str = "demo";

/// The domain it sends from; nobody's (RFC 2606).
const DOMAIN: &str = "demo.example";

/// Who made it, as recorded.
const ACTOR: &str = "postrider dev";

/// What the names of its DKIM keys begin with.
const SELECTOR: &str = "dev";

/// A tenant that may send.
#[derive(Debug)]
pub(super) struct Demo {
    key: ApiKey,
}

impl Demo {
    /// Makes what is missing; in a database that is kept, tenant and domain are there
    /// already. Leaves the DNS records of the domain in `dns.txt`.
    pub(super) async fn make(operator: &PgPool, place: &Place) -> anyhow::Result<Self> {
        match store::create(operator, TENANT, 100, TimeZone::default()).await {
            Ok(_) | Err(StoreError::NameTaken { .. }) => {}
            Err(error) => return Err(error).context("cannot make the tenant"),
        }
        let scope = store::scope(operator, TENANT).await?;
        let domain = signed_domain(operator, scope, place).await?;
        let path = place.path("dns.txt");
        fs::write(&path, zone(&domain))
            .with_context(|| format!("cannot write {}", path.display()))?;
        let key = store::create_key(operator, scope, "postrider dev", ACTOR).await?;
        Ok(Self { key })
    }

    /// The key, to be shown.
    pub(super) fn key(&self) -> &str {
        self.key.reveal()
    }
}

async fn signed_domain(
    operator: &PgPool,
    scope: TenantScope,
    place: &Place,
) -> anyhow::Result<SendingDomain> {
    let key = fs::read_to_string(place.key_file()).context("cannot read the key")?;
    let sealer = Sealer::new(&Secrets { key: Some(Secret::new(key)) })?;
    let algorithms = [Algorithm::RsaSha256, Algorithm::Ed25519Sha256];
    match domain::add(operator, scope, &sealer, DOMAIN, SELECTOR, &algorithms, ACTOR).await {
        Ok(domain) => Ok(domain),
        Err(DomainError::SelectorTaken { .. }) => Ok(domain::find(operator, scope, DOMAIN).await?),
        Err(error) => Err(error).context("cannot make the domain"),
    }
}

/// The records as lines of a zone file; a text longer than 255 bytes is several strings.
fn zone(domain: &SendingDomain) -> String {
    let mut text = String::new();
    for key in &domain.keys {
        let strings: Vec<String> = key
            .record
            .as_bytes()
            .chunks(255)
            .map(|part| format!("\"{}\"", String::from_utf8_lossy(part)))
            .collect();
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{}._domainkey.{}. IN TXT {}",
            key.selector,
            domain.domain,
            strings.join(" ")
        );
    }
    text
}
