//! Finds the cell of something that is known by name or id, for operators.
//!
//! The directory and the number in an id say where to look first; the other cells are asked
//! after it. A cell that does not answer is passed over as long as another one knows; if none
//! does, its error is the answer, because what is sought may be there.

use sqlx::PgPool;

use super::{Cell, directory};
use crate::domain::ids::{CellNumber, DeliveryId, MessageId};

/// Where the tenant of this name lives; `None` when in no cell. The first cell is the home cell.
pub async fn tenant<'c>(cells: &'c [Cell], name: &str) -> Result<Option<&'c Cell>, sqlx::Error> {
    let [home, others @ ..] = cells else { return Ok(None) };
    if others.is_empty() {
        return Ok(Some(home));
    }
    // Where the directory cannot be asked, the cells themselves are.
    let hint = directory::cell_of(&home.pool, name).await.unwrap_or(None);
    first(cells, hint, async |cell| {
        let found: bool = sqlx::query_scalar(
            "select exists (select 1 from postrider.tenant where name = $1 and residence in ('here', 'leaving'))",
        )
        .bind(name)
        .fetch_one(&cell.pool)
        .await?;
        Ok(found.then_some(()))
    })
    .await
    .map(|found| found.map(|(cell, ())| cell))
}

/// The cell where a sending domain has an owner, as written in lower case.
pub async fn domain<'c>(cells: &'c [Cell], domain: &str) -> Result<Option<&'c Cell>, sqlx::Error> {
    if cells.len() < 2 {
        return Ok(None);
    }
    first(cells, None, async |cell| {
        let found: bool = sqlx::query_scalar(
            "select exists (select 1 from postrider.sending_domain d join postrider.tenant t using (tenant_id)
             where d.domain = lower($1) and t.residence in ('here', 'leaving'))",
        )
        .bind(domain)
        .fetch_one(&cell.pool)
        .await?;
        Ok(found.then_some(()))
    })
    .await
    .map(|found| found.map(|(cell, ())| cell))
}

/// The delivery that a provider took under this id last; `None` when none of the cells has it.
pub async fn taken_under(
    cells: &[Cell],
    provider_id: &str,
) -> Result<Option<DeliveryId>, sqlx::Error> {
    first(cells, None, async |cell| {
        sqlx::query_scalar(
            "select job_id from postrider.attempt where provider_id = $1 order by at desc limit 1",
        )
        .bind(provider_id)
        .fetch_optional(&cell.pool)
        .await
    })
    .await
    .map(|found| found.map(|(_, job)| DeliveryId::new(job)))
}

/// The cell that has a message, and the name of its tenant.
pub async fn message(
    cells: &[Cell],
    id: MessageId,
) -> Result<Option<(&Cell, String)>, sqlx::Error> {
    first(cells, Some(id.minted_in()), async |cell| {
        owner(
            &cell.pool,
            "select t.name from postrider.message m join postrider.tenant t using (tenant_id)
           where m.message_id = $1 and t.residence in ('here', 'leaving')",
            id.get(),
        )
        .await
    })
    .await
}

/// The cell that has a delivery, and the name of its tenant.
pub async fn delivery(
    cells: &[Cell],
    id: DeliveryId,
) -> Result<Option<(&Cell, String)>, sqlx::Error> {
    first(cells, Some(id.minted_in()), async |cell| {
        owner(
            &cell.pool,
            "select t.name from postrider.job j join postrider.tenant t using (tenant_id)
           where j.job_id = $1 and t.residence in ('here', 'leaving')",
            id.get(),
        )
        .await
    })
    .await
}

async fn owner(pool: &PgPool, query: &'static str, id: i64) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar(query).bind(id).fetch_optional(pool).await
}

/// Asks the hinted cell, then the others in order, until one knows.
async fn first<T>(
    cells: &[Cell],
    hint: Option<CellNumber>,
    ask: impl AsyncFn(&Cell) -> Result<Option<T>, sqlx::Error>,
) -> Result<Option<(&Cell, T)>, sqlx::Error> {
    let hinted = |cell: &&Cell| Some(cell.number) == hint;
    let order = cells.iter().filter(hinted).chain(cells.iter().filter(|cell| !hinted(cell)));
    let mut trouble = None;
    for cell in order {
        match ask(cell).await {
            Ok(Some(found)) => return Ok(Some((cell, found))),
            Ok(None) => {}
            Err(error) => trouble = Some(error),
        }
    }
    trouble.map_or(Ok(None), Err)
}
