//! Brings what is stored into the form of today: hashes where the list is kept as hashes, the
//! normal form elsewhere. In bounded steps, and as often as one likes: what is so already is left
//! alone. What is a hash stays one; nobody can turn it back.

use futures_util::FutureExt;
use sqlx::{AssertSqlSafe, PgPool};

use super::keeper::Keeper;
use crate::tenant::isolation::for_nobody;

/// What one step did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rehashed {
    /// Rows that were looked at.
    pub seen: u64,
    /// Rows that were changed.
    pub changed: u64,
}

/// Rows of one step.
const STEP: i64 = 5_000;

/// The tables that name people.
const TABLES: [(&str, &str); 3] =
    [("suppression", "stream"), ("suppression_past", "past_id::text"), ("soft_bounce", "''::text")];

/// Works through all lists of one cell, and says after each step how far it is. `pool` acts as the
/// operator's role.
pub async fn rehash(
    pool: &PgPool,
    keeper: &Keeper,
    mut told: impl FnMut(Rehashed),
) -> Result<Rehashed, sqlx::Error> {
    let mut all = Rehashed::default();
    for (table, last) in TABLES {
        let mut after = (i64::MIN, String::new(), String::new());
        loop {
            let (next, step) = turn(pool, keeper, table, last, after).await?;
            all.seen += step.seen;
            all.changed += step.changed;
            told(all);
            match next {
                Some(next) => after = next,
                None => break,
            }
        }
    }
    Ok(all)
}

type Place = (i64, String, String);

async fn turn(
    pool: &PgPool,
    keeper: &Keeper,
    table: &'static str,
    last: &'static str,
    after: Place,
) -> Result<(Option<Place>, Rehashed), sqlx::Error> {
    let keeper = keeper.clone();
    for_nobody(pool, move |conn| {
        async move {
            let page = format!(
                "select tenant_id, address, {last} from postrider.{table}
                 where (tenant_id, address, {last}) > ($1, $2, $3) order by 1, 2, 3 limit $4"
            );
            // The names are ours.
            let rows: Vec<Place> = sqlx::query_as(AssertSqlSafe(page))
                .bind(after.0)
                .bind(after.1)
                .bind(after.2)
                .bind(STEP)
                .fetch_all(&mut *conn)
                .await?;
            let renewed: Vec<(&Place, String)> =
                rows.iter().filter_map(|row| Some((row, keeper.renewed(&row.1)?))).collect();
            if !renewed.is_empty() {
                // It is no news to anybody.
                sqlx::query("select set_config('postrider.rewriting', 'on', true)")
                    .execute(&mut *conn)
                    .await?;
                sqlx::query(match table {
                    "suppression" => include_str!("sql/rehash_suppression.sql"),
                    "suppression_past" => include_str!("sql/rehash_past.sql"),
                    _ => include_str!("sql/rehash_soft.sql"),
                })
                .bind(renewed.iter().map(|(row, _)| row.0).collect::<Vec<_>>())
                .bind(renewed.iter().map(|(row, _)| row.1.as_str()).collect::<Vec<_>>())
                .bind(renewed.iter().map(|(row, _)| row.2.as_str()).collect::<Vec<_>>())
                .bind(renewed.iter().map(|(_, to)| to.as_str()).collect::<Vec<_>>())
                .execute(conn)
                .await?;
            }
            let step = Rehashed { seen: rows.len() as u64, changed: renewed.len() as u64 };
            let more = rows.len() as i64 == STEP;
            Ok((rows.into_iter().last().filter(|_| more), step))
        }
        .boxed()
    })
    .await
}
