//! Names that a sending domain has of its own: the return-path domain of its mail, and the host
//! that tracked links lead over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use quick_cache::sync::Cache;
use serde_json::json;
use sqlx::{FromRow, PgPool};

use super::action::Deed;
use super::domain::{DomainError, read_domain};
use super::isolation::TenantScope;
use crate::domain::ids::TenantId;

/// How long what was read is used.
const FRESH: Duration = Duration::from_secs(60);

/// Domains that are kept.
const CACHED: usize = 10_000;

/// Which of the names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// The domain of the envelope senders.
    ReturnPath,
    /// The host that tracked links lead over.
    TrackingHost,
}

impl Name {
    const fn statement(self) -> &'static str {
        match self {
            Self::ReturnPath => {
                "update postrider.sending_domain set return_path = $3 where tenant_id = $1 and domain = $2"
            }
            Self::TrackingHost => {
                "update postrider.sending_domain set tracking_host = $3 where tenant_id = $1 and domain = $2"
            }
        }
    }

    const fn verb(self) -> &'static str {
        match self {
            Self::ReturnPath => "domain return-path",
            Self::TrackingHost => "domain tracking-host",
        }
    }
}

/// The form of a tracking host for this sending domain: the domain itself or below it, so that
/// a tenant only ever uses its own name; lower-case A-labels, as in a request.
pub fn tracking_host(sending: &str, host: &str) -> Result<String, DomainError> {
    let (sending, host) = (read_domain(sending)?, read_domain(host)?);
    let below = host.strip_suffix(sending.as_str());
    if below.is_some_and(|rest| rest.is_empty() || rest.ends_with('.')) {
        return Ok(host);
    }
    Err(DomainError::NotBelow { domain: sending, found: host })
}

/// Gives a sending domain a name of its own, or takes it away. `pool` acts as the operator's
/// role; `actor` is recorded with it.
pub async fn set(
    pool: &PgPool,
    scope: TenantScope,
    sending: &str,
    name: Name,
    given: Option<&str>,
    actor: &str,
) -> Result<(), DomainError> {
    let sending = read_domain(sending)?;
    let detail = json!({"tenant_id": scope.tenant().get(), "name": given});
    let deed = Deed::new(actor, name.verb(), format!("domain {sending}")).with(detail);
    let (asked, given) = (sending.clone(), given.map(ToOwned::to_owned));
    let changed = scope
        .operate(pool, move |conn| {
            async move {
                let changed = sqlx::query(name.statement())
                    .bind(scope.tenant().get())
                    .bind(asked)
                    .bind(given)
                    .execute(&mut *conn)
                    .await?;
                if changed.rows_affected() > 0 {
                    deed.record(conn).await?;
                }
                Ok(changed)
            }
            .boxed()
        })
        .await?;
    if changed.rows_affected() == 0 {
        Err(DomainError::NoDomain { domain: sending })
    } else {
        Ok(())
    }
}

/// What a sending domain has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnNames {
    /// The domain that its mail returns to, in place of the installation's.
    pub return_path: Option<Arc<str>>,
    /// The host that its links lead over; without one nothing of its mail is tracked.
    pub tracking_host: Option<Arc<str>>,
}

/// The names of all sending domains, looked up when first needed and again after a minute.
pub struct DomainNames {
    pool: PgPool,
    known: Cache<(TenantId, Arc<str>), Known>,
}

#[derive(Clone)]
struct Known {
    at: Instant,
    names: OwnNames,
}

#[derive(FromRow)]
struct Row {
    return_path: Option<String>,
    tracking_host: Option<String>,
}

impl DomainNames {
    /// `pool` acts as the worker's role.
    pub fn new(pool: PgPool) -> Self {
        Self { pool, known: Cache::new(CACHED) }
    }

    /// The names of this sending domain; none where it is not there.
    pub async fn of(&self, tenant: TenantId, sending: &str) -> Result<OwnNames, sqlx::Error> {
        let key = (tenant, Arc::from(sending));
        if let Some(known) = self.known.get(&key) {
            if known.at.elapsed() < FRESH {
                return Ok(known.names);
            }
            self.known.remove(&key);
        }
        let load = async {
            let row: Option<Row> = sqlx::query_as(
                "select return_path, tracking_host from postrider.sending_domain
                 where tenant_id = $1 and domain = $2",
            )
            .bind(tenant.get())
            .bind(sending)
            .fetch_optional(&self.pool)
            .await?;
            let names = row.map_or_else(OwnNames::default, |row| OwnNames {
                return_path: row.return_path.map(Arc::from),
                tracking_host: row.tracking_host.map(Arc::from),
            });
            Ok::<_, sqlx::Error>(Known { at: Instant::now(), names })
        };
        Ok(self.known.get_or_insert_async(&key, load).await?.names)
    }
}

impl std::fmt::Debug for DomainNames {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DomainNames").field("known", &self.known.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tracking_host_lies_in_its_domain() {
        for (domain, host, read) in [
            ("shop.example", "link.shop.example", "link.shop.example"),
            ("Shop.Example", "A.Link.SHOP.example", "a.link.shop.example"),
            ("shop.example", "shop.example", "shop.example"),
            ("bücher.example", "link.bücher.example", "link.xn--bcher-kva.example"),
        ] {
            assert_eq!(tracking_host(domain, host).expect("fits"), read);
        }
        for host in [
            "other.example",
            "example",
            "eshop.example",
            "link-shop.example",
            "shop.example.org",
            "",
            "link.shop.example/x",
            "link.shop.example:443",
            "a b.shop.example",
            "-.shop.example",
        ] {
            assert!(tracking_host("shop.example", host).is_err(), "{host:?}");
        }
    }
}
