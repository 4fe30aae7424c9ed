//! Sending domains and the DKIM keys they sign with.
//!
//! A domain belongs to one tenant. Its private keys lie sealed in the database
//! ([`Sealer`]); only the operator's command that makes them and the worker that
//! signs with them ever hold them open. A domain without a usable key is an error,
//! so that nothing goes out unsigned by mistake.

mod error;

use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use serde::Serialize;
use serde_json::json;
use sqlx::{FromRow, PgPool};

use super::action::Deed;
use super::isolation::TenantScope;
use super::seal::{Owner, Sealer};
use crate::domain::ids::TenantId;
use crate::message::dkim::{self, Algorithm, KeyPair, KeyRefused};

pub use error::DomainError;

/// A domain that a tenant may write from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SendingDomain {
    /// Lower-case A-labels.
    pub domain: String,
    /// When it was added.
    pub created_at: DateTime<Utc>,
    /// The domain that its mail returns to, if it has one of its own.
    pub return_path: Option<String>,
    /// The host that its tracked links lead over, if it has one.
    pub tracking_host: Option<String>,
    /// Its keys in use.
    pub keys: Vec<PublishedKey>,
}

/// The public half of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PublishedKey {
    /// Where it is published: `SELECTOR._domainkey.DOMAIN`.
    pub selector: String,
    /// `rsa-sha256` or `ed25519-sha256`.
    pub algorithm: String,
    /// What to publish there.
    pub record: String,
}

#[derive(FromRow)]
struct DomainRow {
    domain: String,
    created_at: DateTime<Utc>,
    return_path: Option<String>,
    tracking_host: Option<String>,
}

impl DomainRow {
    fn with(self, keys: Vec<PublishedKey>) -> SendingDomain {
        let Self { domain, created_at, return_path, tracking_host } = self;
        SendingDomain { domain, created_at, return_path, tracking_host, keys }
    }
}

#[derive(FromRow)]
struct KeyRow {
    selector: String,
    algorithm: String,
    public_key: Vec<u8>,
}

/// One key on its way into the database.
struct NewKey {
    selector: String,
    algorithm: &'static str,
    public_key: Vec<u8>,
    sealed: Vec<u8>,
}

/// Adds a domain, or keys to a domain that is there: one for each algorithm, under
/// the selectors `PREFIX-rsa` and `PREFIX-ed`. `pool` acts as the operator's role; `actor` is
/// recorded with it.
pub async fn add(
    pool: &PgPool,
    scope: TenantScope,
    sealer: &Sealer,
    domain: &str,
    selector: &str,
    algorithms: &[Algorithm],
    actor: &str,
) -> Result<SendingDomain, DomainError> {
    let domain = read_domain(domain)?;
    let mut keys = Vec::with_capacity(algorithms.len());
    for algorithm in algorithms {
        keys.push(make_key(sealer, scope.tenant(), &domain, selector, *algorithm).await?);
    }
    let selectors: Vec<&str> = keys.iter().map(|key| &*key.selector).collect();
    let detail = json!({"tenant_id": scope.tenant().get(), "keys": selectors});
    let deed = Deed::new(actor, "domain add", format!("domain {domain}")).with(detail);
    match store(pool, scope, &domain, keys, deed).await? {
        Stored::Done => find(pool, scope, &domain).await,
        Stored::Foreign => Err(DomainError::Taken { domain }),
        Stored::Known(selector) => Err(DomainError::SelectorTaken { domain, selector }),
    }
}

/// The tenant's domains with their keys.
pub async fn list(pool: &PgPool, scope: TenantScope) -> Result<Vec<SendingDomain>, DomainError> {
    let rows: Vec<DomainRow> = scope
        .operate(pool, move |conn| {
            sqlx::query_as(
                "select domain, created_at, return_path, tracking_host from postrider.sending_domain
                 where tenant_id = $1 order by domain",
            )
            .bind(scope.tenant().get())
            .fetch_all(conn)
            .boxed()
        })
        .await?;
    let mut domains = Vec::with_capacity(rows.len());
    for row in rows {
        let keys = published(pool, scope, &row.domain).await?;
        domains.push(row.with(keys));
    }
    Ok(domains)
}

/// One of the tenant's domains.
pub async fn find(
    pool: &PgPool,
    scope: TenantScope,
    domain: &str,
) -> Result<SendingDomain, DomainError> {
    let domain = read_domain(domain)?;
    let asked = domain.clone();
    let row: DomainRow = scope
        .operate(pool, move |conn| {
            sqlx::query_as(
                "select domain, created_at, return_path, tracking_host from postrider.sending_domain
                 where tenant_id = $1 and domain = $2",
            )
            .bind(scope.tenant().get())
            .bind(asked)
            .fetch_optional(conn)
            .boxed()
        })
        .await?
        .ok_or_else(|| DomainError::NoDomain { domain: domain.clone() })?;
    let keys = published(pool, scope, &domain).await?;
    Ok(row.with(keys))
}

/// Removes a domain with its keys. What is queued for it can no longer be signed.
/// `actor` is recorded with it.
pub async fn remove(
    pool: &PgPool,
    scope: TenantScope,
    domain: &str,
    actor: &str,
) -> Result<(), DomainError> {
    let domain = read_domain(domain)?;
    let asked = domain.clone();
    let detail = json!({"tenant_id": scope.tenant().get()});
    let deed = Deed::new(actor, "domain remove", format!("domain {domain}")).with(detail);
    let removed = scope
        .operate(pool, move |conn| {
            async move {
                let removed = sqlx::query(
                    "delete from postrider.sending_domain where tenant_id = $1 and domain = $2",
                )
                .bind(scope.tenant().get())
                .bind(asked)
                .execute(&mut *conn)
                .await?;
                if removed.rows_affected() > 0 {
                    deed.record(conn).await?;
                }
                Ok(removed)
            }
            .boxed()
        })
        .await?;
    if removed.rows_affected() == 0 { Err(DomainError::NoDomain { domain }) } else { Ok(()) }
}

enum Stored {
    Done,
    Foreign,
    Known(String),
}

async fn store(
    pool: &PgPool,
    scope: TenantScope,
    domain: &str,
    keys: Vec<NewKey>,
    deed: Deed,
) -> Result<Stored, DomainError> {
    let domain = domain.to_owned();
    let stored = scope
        .operate(pool, move |conn| {
            async move {
                let tenant = scope.tenant().get();
                sqlx::query(
                    "insert into postrider.sending_domain(tenant_id, domain, signed)
                     values ($1, $2, $3) on conflict do nothing",
                )
                .bind(tenant)
                .bind(&domain)
                .bind(!keys.is_empty())
                .execute(&mut *conn)
                .await?;
                if !keys.is_empty() {
                    sqlx::query(
                        "update postrider.sending_domain set signed = true
                         where tenant_id = $1 and domain = $2 and not signed",
                    )
                    .bind(tenant)
                    .bind(&domain)
                    .execute(&mut *conn)
                    .await?;
                }
                // Another tenant's row is not seen here, but it kept ours out.
                let ours: bool = sqlx::query_scalar(
                    "select exists (select 1 from postrider.sending_domain
                     where tenant_id = $1 and domain = $2)",
                )
                .bind(tenant)
                .bind(&domain)
                .fetch_one(&mut *conn)
                .await?;
                if !ours {
                    return Ok(Stored::Foreign);
                }
                let selectors: Vec<&str> = keys.iter().map(|key| &*key.selector).collect();
                let known: Option<String> = sqlx::query_scalar(
                    "select selector from postrider.dkim_key
                     where tenant_id = $1 and domain = $2 and selector = any($3) limit 1",
                )
                .bind(tenant)
                .bind(&domain)
                .bind(selectors)
                .fetch_optional(&mut *conn)
                .await?;
                if let Some(selector) = known {
                    return Ok(Stored::Known(selector));
                }
                for key in keys {
                    sqlx::query(
                        "insert into postrider.dkim_key
                           (tenant_id, domain, selector, algorithm, public_key, sealed)
                         values ($1, $2, $3, $4, $5, $6)",
                    )
                    .bind(tenant)
                    .bind(&domain)
                    .bind(key.selector)
                    .bind(key.algorithm)
                    .bind(key.public_key)
                    .bind(key.sealed)
                    .execute(&mut *conn)
                    .await?;
                }
                deed.record(conn).await?;
                Ok(Stored::Done)
            }
            .boxed()
        })
        .await?;
    Ok(stored)
}

async fn make_key(
    sealer: &Sealer,
    tenant: TenantId,
    domain: &str,
    prefix: &str,
    algorithm: Algorithm,
) -> Result<NewKey, DomainError> {
    let selector = match algorithm {
        Algorithm::RsaSha256 => format!("{prefix}-rsa"),
        Algorithm::Ed25519Sha256 => format!("{prefix}-ed"),
    };
    if !is_label(&selector) {
        return Err(DomainError::BadSelector { found: prefix.chars().take(80).collect() });
    }
    // An RSA key takes the processor for some tenths of a second.
    let pair = tokio::task::spawn_blocking(move || KeyPair::generate(algorithm))
        .await
        .map_err(|_| KeyRefused::Generate)??;
    let owner = Owner { tenant, domain, selector: &selector };
    let sealed = sealer.seal(owner, &pair.to_pkcs8()?)?;
    Ok(NewKey { sealed, public_key: pair.public_key()?, algorithm: algorithm.tag(), selector })
}

async fn published(
    pool: &PgPool,
    scope: TenantScope,
    domain: &str,
) -> Result<Vec<PublishedKey>, DomainError> {
    let domain = domain.to_owned();
    let rows: Vec<KeyRow> = scope
        .operate(pool, move |conn| {
            sqlx::query_as(
                "select selector, algorithm, public_key from postrider.dkim_key
                 where tenant_id = $1 and domain = $2 and retired_at is null order by selector",
            )
            .bind(scope.tenant().get())
            .bind(domain)
            .fetch_all(conn)
            .boxed()
        })
        .await?;
    let publish = |row: KeyRow| {
        let algorithm: Algorithm = row.algorithm.parse()?;
        let record = dkim::record(algorithm, &row.public_key);
        Ok(PublishedKey { selector: row.selector, algorithm: row.algorithm, record })
    };
    rows.into_iter().map(publish).collect()
}

/// The same form as the domain of an address, so that both compare as bytes.
pub(super) fn read_domain(text: &str) -> Result<String, DomainError> {
    let bad = || DomainError::BadDomain { found: text.chars().take(80).collect() };
    let address = crate::message::address::Address::try_new(&format!("a@{text}"));
    Ok(address.map_err(|_| bad())?.domain().to_owned())
}

fn is_label(text: &str) -> bool {
    let fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty()
        && text.len() <= 63
        && text.bytes().all(fine)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_read_as_in_an_address() {
        assert_eq!(read_domain("Shop.EXAMPLE").expect("a domain"), "shop.example");
        assert_eq!(read_domain("bücher.example").expect("a domain"), "xn--bcher-kva.example");
        for bad in ["", "example", "a b.example", "x@shop.example", "shop.example\r\n", "10.0.0.1"]
        {
            assert!(read_domain(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_selector_is_one_label() {
        for good in ["a", "pr2026-rsa"] {
            assert!(is_label(good), "{good}");
        }
        for bad in ["", "-a", "a-", "a.b", "A", "a b", &"a".repeat(64)] {
            assert!(!is_label(bad), "{bad}");
        }
    }
}
