//! From an API key to a [`TenantScope`].

use sqlx::{PgPool, Row};

use super::isolation::TenantScope;
use super::key::ApiKey;
use crate::domain::ids::TenantId;

/// A caller who has shown a valid key.
#[derive(Debug, Clone)]
pub struct Caller {
    /// What the caller may touch.
    pub scope: TenantScope,
    /// The key's number, for limits and the log.
    pub key_id: i64,
    /// The tenant's name.
    pub tenant_name: String,
}

/// Who shows this key; `None` when it is unknown, revoked, or its tenant is suspended.
pub async fn authenticate(pool: &PgPool, key: &ApiKey) -> Result<Option<Caller>, sqlx::Error> {
    // Sees exactly one row by the policy of api_key: that of the shown prefix.
    let row = sqlx::query(include_str!("sql/authenticate.sql"))
        .bind(key.prefix())
        .fetch_optional(pool)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let hash: Vec<u8> = row.try_get("hash")?;
    if !key.matches(&hash) {
        return Ok(None);
    }
    Ok(Some(Caller {
        scope: TenantScope::new(TenantId::new(row.try_get("tenant_id")?)),
        key_id: row.try_get("key_id")?,
        tenant_name: row.try_get("name")?,
    }))
}

/// The scope of a tenant that an operator names; `None` when there is none of this name.
/// `pool` must act as the operator's role.
pub async fn scope_of_name(pool: &PgPool, name: &str) -> Result<Option<TenantScope>, sqlx::Error> {
    let id: Option<i64> =
        sqlx::query_scalar(
            "select tenant_id from postrider.tenant where name = $1 and residence in ('here', 'leaving')",
        )
        .bind(name)
        .fetch_optional(pool)
        .await?;
    Ok(id.map(|id| TenantScope::new(TenantId::new(id))))
}
