//! Return-path domains that tenants have of their own, one for each sending domain.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use quick_cache::sync::Cache;
use sqlx::PgPool;

use super::domain::DomainError;
use super::isolation::TenantScope;
use crate::domain::ids::TenantId;

/// How long what was read is used.
const FRESH: Duration = Duration::from_secs(60);

/// Domains that are kept.
const CACHED: usize = 10_000;

/// Gives a sending domain a return-path domain of its own, or none. `pool` acts as the
/// operator's role.
pub async fn set(
    pool: &PgPool,
    scope: TenantScope,
    sending: &str,
    return_path: Option<&str>,
) -> Result<(), DomainError> {
    let (asked, given) = (sending.to_owned(), return_path.map(ToOwned::to_owned));
    let changed = scope
        .operate(pool, move |conn| {
            async move {
                sqlx::query(
                    "update postrider.sending_domain set return_path = $3
                     where tenant_id = $1 and domain = $2",
                )
                .bind(scope.tenant().get())
                .bind(asked)
                .bind(given)
                .execute(conn)
                .await
            }
            .boxed()
        })
        .await?;
    if changed.rows_affected() == 0 {
        return Err(DomainError::NoDomain { domain: sending.to_owned() });
    }
    Ok(())
}

/// The return-path domain of each of a tenant's sending domains that has one of its own: sending
/// domain and return path. `pool` acts as the operator's role.
pub async fn list(pool: &PgPool, scope: TenantScope) -> Result<Vec<(String, String)>, sqlx::Error> {
    scope
        .operate(pool, move |conn| {
            sqlx::query_as(
                "select domain, return_path from postrider.sending_domain
                 where tenant_id = $1 and return_path is not null order by domain",
            )
            .bind(scope.tenant().get())
            .fetch_all(conn)
            .boxed()
        })
        .await
}

/// The return-path domains of all sending domains, looked up when first needed and again
/// after a minute.
pub struct ReturnDomains {
    pool: PgPool,
    known: Cache<(TenantId, Arc<str>), Known>,
}

#[derive(Clone)]
struct Known {
    at: Instant,
    domain: Option<Arc<str>>,
}

impl ReturnDomains {
    /// `pool` acts as the worker's role.
    pub fn new(pool: PgPool) -> Self {
        Self { pool, known: Cache::new(CACHED) }
    }

    /// The domain that this sending domain's mail returns to, if it has one of its own.
    pub async fn of(
        &self,
        tenant: TenantId,
        sending: &str,
    ) -> Result<Option<Arc<str>>, sqlx::Error> {
        let key = (tenant, Arc::from(sending));
        if let Some(known) = self.known.get(&key) {
            if known.at.elapsed() < FRESH {
                return Ok(known.domain);
            }
            self.known.remove(&key);
        }
        let load = async {
            let domain: Option<Option<String>> = sqlx::query_scalar(
                "select return_path from postrider.sending_domain where tenant_id = $1 and domain = $2",
            )
            .bind(tenant.get())
            .bind(sending)
            .fetch_optional(&self.pool)
            .await?;
            Ok::<_, sqlx::Error>(Known {
                at: Instant::now(),
                domain: domain.flatten().map(Arc::from),
            })
        };
        Ok(self.known.get_or_insert_async(&key, load).await?.domain)
    }
}

impl std::fmt::Debug for ReturnDomains {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReturnDomains").field("known", &self.known.len()).finish_non_exhaustive()
    }
}
