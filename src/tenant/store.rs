//! Tenants and their API keys in Postgres: what an operator does with them.
//!
//! `pool` acts as the operator's role. A key is shown once, when it is made; only
//! its hash and its prefix are kept.

use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use serde::Serialize;
use serde_json::json;
use sqlx::{FromRow, PgPool};

use super::action::Deed;
use super::isolation::TenantScope;
use super::key::ApiKey;
use crate::domain::ids::TenantId;
use crate::message::time_zone::TimeZone;

/// One customer of the installation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, FromRow)]
pub struct Tenant {
    /// Its number.
    #[serde(rename = "id")]
    pub tenant_id: i64,
    /// Its name: lower-case letters, digits and hyphens.
    pub name: String,
    /// `active` or `suspended`.
    pub state: String,
    /// Its share of the capacity beside the others' (100 is ordinary).
    pub weight: i32,
    /// By whose clock its quiet hours go: a name like `Europe/Berlin`.
    pub time_zone: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// Whether a tenant may submit and its mail is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TenantState {
    /// It works.
    Active,
    /// Its keys and logins are refused.
    Suspended,
}

/// What is known of a key after it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, FromRow)]
pub struct StoredKey {
    /// The readable part.
    pub prefix: String,
    /// What the operator called it.
    pub name: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// Since when it is refused.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// Why a tenant or a key was not made, changed or found.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Not a name.
    #[error(
        "expected a tenant name of 1 to 63 lower-case letters, digits and hyphens that starts \
         with a letter or digit, found {found:?}"
    )]
    BadName {
        /// What was given.
        found: String,
    },
    /// There is one of this name.
    #[error("there is already a tenant {name:?}: choose another name")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// There is none of this name.
    #[error("there is no tenant {name:?}: see `postrider tenant list`")]
    NoTenant {
        /// The name.
        name: String,
    },
    /// It is on its way to another cell.
    #[error("the tenant {name:?} is being moved to another cell: let that finish first")]
    Moving {
        /// The name.
        name: String,
    },
    /// The tenant has no such key.
    #[error("the tenant has no key {prefix:?}: see `postrider key list`")]
    NoKey {
        /// The prefix that was given.
        prefix: String,
    },
    /// The database did not do it.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Makes a tenant.
pub async fn create(
    pool: &PgPool,
    name: &str,
    weight: i32,
    time_zone: TimeZone,
) -> Result<Tenant, StoreError> {
    if !is_name(name) {
        return Err(StoreError::BadName { found: name.chars().take(80).collect() });
    }
    sqlx::query_as(
        "insert into postrider.tenant(name, weight, time_zone) values ($1, $2, $3)
         on conflict (name) do nothing
         returning tenant_id, name, state, weight, time_zone, created_at",
    )
    .bind(name)
    .bind(weight)
    .bind(time_zone.to_string())
    .fetch_optional(pool)
    .await?
    .ok_or_else(|| StoreError::NameTaken { name: name.to_owned() })
}

/// Changes what is given; the daemons go by it within a second.
pub async fn change(
    pool: &PgPool,
    name: &str,
    weight: Option<i32>,
    time_zone: Option<TimeZone>,
) -> Result<Tenant, StoreError> {
    let changed = sqlx::query_as(include_str!("sql/change.sql"))
        .bind(name)
        .bind(weight)
        .bind(time_zone.map(|zone| zone.to_string()))
        .fetch_optional(pool)
        .await?;
    found_here(pool, name, changed).await
}

/// All tenants that live in this cell, by name.
pub async fn list(pool: &PgPool) -> Result<Vec<Tenant>, StoreError> {
    Ok(sqlx::query_as(
        "select tenant_id, name, state, weight, time_zone, created_at from postrider.tenant
         where residence in ('here', 'leaving') order by name",
    )
    .fetch_all(pool)
    .await?)
}

/// Suspends a tenant or lets it work again.
pub async fn set_state(
    pool: &PgPool,
    name: &str,
    state: TenantState,
) -> Result<Tenant, StoreError> {
    let changed = sqlx::query_as(include_str!("sql/set_state.sql"))
        .bind(name)
        .bind(match state {
            TenantState::Active => "active",
            TenantState::Suspended => "suspended",
        })
        .fetch_optional(pool)
        .await?;
    found_here(pool, name, changed).await
}

/// What was changed, or why nothing was.
async fn found_here(
    pool: &PgPool,
    name: &str,
    changed: Option<Tenant>,
) -> Result<Tenant, StoreError> {
    match changed {
        Some(tenant) => Ok(tenant),
        // It lives here, and yet is left alone: it is leaving.
        None => match scope(pool, name).await {
            Ok(_) => Err(StoreError::Moving { name: name.to_owned() }),
            Err(error) => Err(error),
        },
    }
}

/// The scope of the tenant that an operator names.
pub async fn scope(pool: &PgPool, name: &str) -> Result<TenantScope, StoreError> {
    super::auth::scope_of_name(pool, name)
        .await?
        .ok_or_else(|| StoreError::NoTenant { name: name.to_owned() })
}

/// The name of a scope's tenant.
pub async fn name_of(pool: &PgPool, scope: TenantScope) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar("select name from postrider.tenant where tenant_id = $1")
        .bind(scope.tenant().get())
        .fetch_optional(pool)
        .await
}

/// Makes a key and gives it back, this once. `actor` is recorded with it.
pub async fn create_key(
    pool: &PgPool,
    scope: TenantScope,
    name: &str,
    actor: &str,
) -> Result<ApiKey, StoreError> {
    let key = ApiKey::generate();
    let (prefix, hash, name) = (key.prefix().to_owned(), key.hash(), name.to_owned());
    let detail = json!({"tenant_id": scope.tenant().get(), "name": name});
    let deed = Deed::new(actor, "key create", format!("key {prefix}")).with(detail);
    scope
        .operate(pool, move |conn| {
            async move {
                sqlx::query(
                    "insert into postrider.api_key(tenant_id, prefix, hash, name) values ($1, $2, $3, $4)",
                )
                .bind(scope.tenant().get())
                .bind(prefix)
                .bind(hash.as_slice())
                .bind(name)
                .execute(&mut *conn)
                .await?;
                deed.record(conn).await
            }
            .boxed()
        })
        .await?;
    Ok(key)
}

/// The tenant's keys, the newest last.
pub async fn keys(pool: &PgPool, scope: TenantScope) -> Result<Vec<StoredKey>, StoreError> {
    Ok(scope
        .operate(pool, move |conn| {
            sqlx::query_as(
                "select prefix, name, created_at, revoked_at from postrider.api_key
                 where tenant_id = $1 order by key_id",
            )
            .bind(scope.tenant().get())
            .fetch_all(conn)
            .boxed()
        })
        .await?)
}

/// Refuses a key from now on. Revoking it again changes nothing. `actor` is recorded with it.
pub async fn revoke_key(
    pool: &PgPool,
    scope: TenantScope,
    prefix: &str,
    actor: &str,
) -> Result<StoredKey, StoreError> {
    let shown = prefix.to_owned();
    let detail = json!({"tenant_id": scope.tenant().get()});
    let deed = Deed::new(actor, "key revoke", format!("key {prefix}")).with(detail);
    scope
        .operate(pool, move |conn| {
            async move {
                let revoked = sqlx::query_as(
                    "update postrider.api_key set revoked_at = coalesce(revoked_at, now())
                     where tenant_id = $1 and prefix = $2
                     returning prefix, name, created_at, revoked_at",
                )
                .bind(scope.tenant().get())
                .bind(shown)
                .fetch_optional(&mut *conn)
                .await?;
                if revoked.is_some() {
                    deed.record(conn).await?;
                }
                Ok(revoked)
            }
            .boxed()
        })
        .await?
        .ok_or_else(|| StoreError::NoKey { prefix: prefix.to_owned() })
}

impl Tenant {
    /// Its number as an id.
    pub const fn id(&self) -> TenantId {
        TenantId::new(self.tenant_id)
    }
}

/// The rule that the table checks too.
fn is_name(name: &str) -> bool {
    let first = name.bytes().next().is_some_and(|b| b != b'-');
    let fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    first && name.len() <= 63 && name.bytes().all(fine)
}

#[cfg(test)]
mod tests {
    use super::is_name;

    #[test]
    fn names_are_short_lower_case_and_plain() {
        for good in ["a", "shop-2", "0", &"a".repeat(63)] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "-a", "A", "a b", "a\n", "ä", &"a".repeat(64)] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
