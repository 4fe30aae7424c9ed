//! The directory in the home cell: which tenant lives where.
//!
//! It reserves names and spares a search; it is not the truth. The truth is the tenant's row
//! in its cell, so a directory that lags behind costs a look into the other cells and no more.

use std::collections::BTreeMap;

use sqlx::PgPool;

use crate::domain::ids::CellNumber;

/// The cell of the tenant of this name, if the directory has it. `home` is the home cell's pool.
pub async fn cell_of(home: &PgPool, tenant: &str) -> Result<Option<CellNumber>, sqlx::Error> {
    let cell: Option<i16> =
        sqlx::query_scalar("select cell from postrider.tenant_cell where name = $1")
            .bind(tenant)
            .fetch_optional(home)
            .await?;
    Ok(cell.and_then(number))
}

/// Reserves a name for a tenant of `cell`, unless it is taken; says whose cell has it now.
pub async fn reserve(
    home: &PgPool,
    tenant: &str,
    cell: CellNumber,
) -> Result<CellNumber, sqlx::Error> {
    sqlx::query(
        "insert into postrider.tenant_cell(name, cell) values ($1, $2) on conflict do nothing",
    )
    .bind(tenant)
    .bind(i16::from(cell.get()))
    .execute(home)
    .await?;
    Ok(cell_of(home, tenant).await?.unwrap_or(cell))
}

/// Notes that a tenant lives in `cell` now.
pub async fn put(home: &PgPool, tenant: &str, cell: CellNumber) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into postrider.tenant_cell(name, cell) values ($1, $2)
         on conflict (name) do update set cell = excluded.cell, changed_at = now()
         where postrider.tenant_cell.cell <> excluded.cell",
    )
    .bind(tenant)
    .bind(i16::from(cell.get()))
    .execute(home)
    .await
    .map(drop)
}

/// How many names the directory has for each cell.
pub async fn counts(home: &PgPool) -> Result<BTreeMap<u8, i64>, sqlx::Error> {
    let rows: Vec<(i16, i64)> =
        sqlx::query_as("select cell, count(*) from postrider.tenant_cell group by cell")
            .fetch_all(home)
            .await?;
    Ok(rows.into_iter().filter_map(|(cell, n)| Some((number(cell)?.get(), n))).collect())
}

fn number(cell: i16) -> Option<CellNumber> {
    u8::try_from(cell).ok().map(CellNumber::new)
}
