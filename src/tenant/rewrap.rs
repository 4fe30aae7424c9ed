//! Sealing anew, under the newest version of the installation's key: DKIM keys, and what other
//! parts give here to be opened and sealed.
//!
//! In batches, each in one transaction: whoever is stopped in the middle leaves what is done
//! done, and the next run goes on with what is left. A value is opened and sealed with its owner
//! as proof, as always; what does not open stays as it is and is named.

use sqlx::{FromRow, PgPool};

use super::seal::{Owner, SealError, Sealer};
use crate::domain::ids::TenantId;

/// What became of one batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rewrapped {
    /// Sealed anew.
    pub done: u64,
    /// Which do not open, and why; nothing of what they hold.
    pub failed: Vec<String>,
}

/// Sealed values of one kind by the version they were sealed under; null: no seal.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Count {
    /// The version of the key.
    pub version: Option<i32>,
    /// How many.
    pub values: i64,
}

/// The last DKIM key that was looked at.
pub type DkimPlace = (i64, String, String);

#[derive(FromRow)]
struct DkimRow {
    tenant_id: i64,
    domain: String,
    selector: String,
    sealed: Vec<u8>,
}

impl Rewrapped {
    /// What `owner` has there, sealed under the newest key; `None` when it does not open, which
    /// is noted.
    pub fn rewrap(
        &mut self,
        sealer: &Sealer,
        owner: Owner<'_>,
        named: impl FnOnce() -> String,
        sealed: &[u8],
    ) -> Option<Vec<u8>> {
        let again = sealer.open(owner, sealed).and_then(|open| sealer.seal(owner, &open));
        self.note(again, named)
    }

    fn note(
        &mut self,
        again: Result<Vec<u8>, SealError>,
        named: impl FnOnce() -> String,
    ) -> Option<Vec<u8>> {
        match again {
            Ok(again) => {
                self.done += 1;
                Some(again)
            }
            Err(error) => {
                self.failed.push(format!("{}: {error}", named()));
                None
            }
        }
    }
}

/// How many DKIM keys are sealed under which version. `pool` acts as the operator's role.
pub async fn dkim_counts(pool: &PgPool) -> Result<Vec<Count>, sqlx::Error> {
    sqlx::query_as(
        "select postrider.sealed_under(sealed) as version, count(*) as values
         from postrider.dkim_key group by 1 order by 1",
    )
    .fetch_all(pool)
    .await
}

/// Seals at most `most` DKIM keys anew that lie behind `after`, and moves it on; `None` when
/// there are no more. `pool` acts as the operator's role.
pub async fn dkim_keys(
    pool: &PgPool,
    sealer: &Sealer,
    after: &mut DkimPlace,
    most: i64,
) -> Result<Option<Rewrapped>, sqlx::Error> {
    let mut tx = pool.begin().await?;
    let rows: Vec<DkimRow> = sqlx::query_as(
        "select tenant_id, domain, selector, sealed from postrider.dkim_key
         where (tenant_id, domain, selector) > ($1, $2, $3)
           and postrider.sealed_under(sealed) is distinct from $4
         order by tenant_id, domain, selector limit $5 for update",
    )
    .bind(after.0)
    .bind(&after.1)
    .bind(&after.2)
    .bind(i32::from(sealer.newest()))
    .bind(most)
    .fetch_all(&mut *tx)
    .await?;
    let Some(last) = rows.last() else { return Ok(None) };
    *after = (last.tenant_id, last.domain.clone(), last.selector.clone());
    let mut rewrapped = Rewrapped::default();
    for row in &rows {
        let tenant = TenantId::new(row.tenant_id);
        let owner = Owner { tenant, domain: &row.domain, selector: &row.selector };
        let named = || format!("DKIM key {} of {}", row.selector, row.domain);
        let Some(again) = rewrapped.rewrap(sealer, owner, named, &row.sealed) else { continue };
        sqlx::query(
            "update postrider.dkim_key set sealed = $4
             where tenant_id = $1 and domain = $2 and selector = $3",
        )
        .bind(row.tenant_id)
        .bind(&row.domain)
        .bind(&row.selector)
        .bind(again)
        .execute(&mut *tx)
        .await?;
    }
    tx.commit().await?;
    Ok(Some(rewrapped))
}
