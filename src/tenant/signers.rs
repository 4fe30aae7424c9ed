//! The keys that mail of a domain is signed with, opened and ready.

use std::sync::Arc;
use std::time::{Duration, Instant};

use quick_cache::sync::Cache;
use sqlx::{FromRow, PgPool};

use super::domain::DomainError;
use super::seal::{Owner, Sealer};
use crate::domain::ids::TenantId;
use crate::message::dkim::{KeyPair, Signer};

/// The signers of every domain, loaded when they are first needed and again after a
/// minute, so that a new key is used and a removed one is not.
pub struct DomainKeys {
    pool: PgPool,
    sealer: Sealer,
    known: Cache<(TenantId, Arc<str>), Loaded>,
}

#[derive(Clone)]
struct Loaded {
    at: Instant,
    signers: Arc<[Arc<Signer>]>,
}

impl DomainKeys {
    /// `pool` acts as the worker's role.
    pub fn new(pool: PgPool, sealer: Sealer) -> Self {
        Self { pool, sealer, known: Cache::new(CACHED) }
    }

    /// One signer for each key of the domain in use; none only for a domain that was
    /// added without keys on purpose.
    pub async fn signers(
        &self,
        tenant: TenantId,
        domain: &str,
    ) -> Result<Arc<[Arc<Signer>]>, DomainError> {
        let key = (tenant, Arc::from(domain));
        if let Some(loaded) = self.known.get(&key) {
            if loaded.at.elapsed() < FRESH {
                return Ok(loaded.signers);
            }
            self.known.remove(&key);
        }
        // Of many that need the same domain at once, one asks.
        let load = async {
            let signers = self.load(tenant, domain).await?;
            Ok::<_, DomainError>(Loaded { at: Instant::now(), signers })
        };
        Ok(self.known.get_or_insert_async(&key, load).await?.signers)
    }

    async fn load(
        &self,
        tenant: TenantId,
        domain: &str,
    ) -> Result<Arc<[Arc<Signer>]>, DomainError> {
        let rows: Vec<SealedRow> = sqlx::query_as(
            "select selector, algorithm, sealed from postrider.dkim_key
             where tenant_id = $1 and domain = $2 and retired_at is null order by selector",
        )
        .bind(tenant.get())
        .bind(domain)
        .fetch_all(&self.pool)
        .await?;
        if rows.is_empty() && self.must_sign(tenant, domain).await? {
            return Err(DomainError::NoKey { domain: domain.to_owned() });
        }
        let open = |row: &SealedRow| {
            let owner = Owner { tenant, domain, selector: &row.selector };
            let private = self.sealer.open(owner, &row.sealed)?;
            let pair = KeyPair::from_pkcs8(row.algorithm.parse()?, &private)?;
            Ok(Arc::new(Signer::new(domain, &row.selector, pair)))
        };
        rows.iter().map(open).collect()
    }

    /// Whether mail of a domain without keys waits for one. Not if it was added without
    /// any on purpose; a domain that was removed meanwhile waits too.
    async fn must_sign(&self, tenant: TenantId, domain: &str) -> Result<bool, DomainError> {
        let signed: Option<bool> = sqlx::query_scalar(
            "select signed from postrider.sending_domain where tenant_id = $1 and domain = $2",
        )
        .bind(tenant.get())
        .bind(domain)
        .fetch_optional(&self.pool)
        .await?;
        Ok(signed.unwrap_or(true))
    }
}

impl std::fmt::Debug for DomainKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DomainKeys").field("known", &self.known.len()).finish_non_exhaustive()
    }
}

/// How long loaded signers are used.
const FRESH: Duration = Duration::from_secs(60);

/// Domains whose signers are kept: about 4 KB each.
const CACHED: usize = 10_000;

#[derive(FromRow)]
struct SealedRow {
    selector: String,
    algorithm: String,
    sealed: Vec<u8>,
}
