//! Sealing endpoints' secrets anew, under the newest version of the installation's key.

use sqlx::{FromRow, PgPool};

use super::secret::SEALED_AS;
use crate::domain::ids::{TenantId, WebhookId};
use crate::tenant::rewrap::{Count, Rewrapped};
use crate::tenant::seal::{Owner, Sealer};

/// The last secret that was looked at: its endpoint and itself.
pub type SecretPlace = (i64, i64);

#[derive(FromRow)]
struct Row {
    tenant_id: i64,
    webhook_id: i64,
    secret_id: i64,
    sealed: Vec<u8>,
}

/// How many secrets are sealed under which version. `pool` acts as the operator's role.
pub async fn counts(pool: &PgPool) -> Result<Vec<Count>, sqlx::Error> {
    sqlx::query_as(
        "select postrider.sealed_under(sealed) as version, count(*) as values
         from postrider.webhook_secret group by 1 order by 1",
    )
    .fetch_all(pool)
    .await
}

/// Seals at most `most` secrets anew that lie behind `after`, and moves it on; `None` when there
/// are no more. `pool` acts as the operator's role.
pub async fn secrets(
    pool: &PgPool,
    sealer: &Sealer,
    after: &mut SecretPlace,
    most: i64,
) -> Result<Option<Rewrapped>, sqlx::Error> {
    let mut tx = pool.begin().await?;
    let rows: Vec<Row> = sqlx::query_as(
        "select tenant_id, webhook_id, secret_id, sealed from postrider.webhook_secret
         where (webhook_id, secret_id) > ($1, $2)
           and postrider.sealed_under(sealed) is distinct from $3
         order by webhook_id, secret_id limit $4 for update",
    )
    .bind(after.0)
    .bind(after.1)
    .bind(i32::from(sealer.newest()))
    .bind(most)
    .fetch_all(&mut *tx)
    .await?;
    let Some(last) = rows.last() else { return Ok(None) };
    *after = (last.webhook_id, last.secret_id);
    let mut rewrapped = Rewrapped::default();
    for row in &rows {
        let webhook = WebhookId::new(row.webhook_id).to_string();
        let tenant = TenantId::new(row.tenant_id);
        let owner = Owner { tenant, domain: SEALED_AS, selector: &webhook };
        let named = || format!("secret of endpoint {webhook}");
        let Some(again) = rewrapped.rewrap(sealer, owner, named, &row.sealed) else { continue };
        sqlx::query(
            "update postrider.webhook_secret set sealed = $3 where webhook_id = $1 and secret_id = $2",
        )
        .bind(row.webhook_id)
        .bind(row.secret_id)
        .bind(again)
        .execute(&mut *tx)
        .await?;
    }
    tx.commit().await?;
    Ok(Some(rewrapped))
}
