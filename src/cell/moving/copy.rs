//! Copies a frozen tenant into its new cell, where nothing of it can be claimed yet.
//!
//! Rows travel as JSON made and read by the databases themselves, by column names, so this
//! code need not know the columns, and a document keeps its bytes. What is there already is
//! left alone: a copy that broke off is made again from its beginning.

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, FromRow};

use super::lanes::{self, Numbers};
use super::tables::{COUNTED, KEYED, put};
use super::{BATCH, Event, Move, MoveError, Told, say};

/// Messages of one page, by number and by deliveries; a larger one is copied by itself.
const PAGE_MESSAGES: i64 = 500;
const PAGE_DELIVERIES: i64 = 1_000;

/// A pause, or with a route a detour.
#[derive(Debug, FromRow)]
struct Order {
    scope: String,
    key: String,
    pool: Option<String>,
    until: DateTime<Utc>,
    reason: String,
    actor: Option<String>,
    since: DateTime<Utc>,
    holder: Option<String>,
    route: Option<String>,
}

impl Move {
    pub(super) async fn copy(&self, told: Told<'_>) -> Result<(), MoveError> {
        let numbers = self.prepare().await?;
        say(told, &Event::Arriving)?;
        for table in &KEYED {
            let mut after = String::new();
            loop {
                let page: Vec<(String, String)> = sqlx::query_as(table.page)
                    .bind(self.tenant.get())
                    .bind(&after)
                    .bind(BATCH)
                    .fetch_all(&self.from.pool)
                    .await?;
                let Some((last, _)) = page.last() else { break };
                after.clone_from(last);
                let lines = page.into_iter().map(|(_, line)| line).collect();
                let statement = put(table.name, table.overriding);
                self.put(table.name, &statement, lines, &numbers, told).await?;
            }
        }
        self.messages(&numbers, told).await
    }

    /// Both cells must have the same, but for bookkeeping that the old one has meanwhile pruned.
    pub(super) async fn compare(&self, told: Told<'_>) -> Result<(), MoveError> {
        for table in &COUNTED {
            let here = table.count(&self.from.pool, self.tenant).await?;
            let there = table.count(&self.to.pool, self.tenant).await?;
            if there < here || (table.name == "transit" && there != here) {
                return Err(MoveError::Disagrees { table: table.name, here, there });
            }
        }
        say(told, &Event::Compared)
    }

    /// The tenant itself, its days of history, and everything that has a number of its own there.
    async fn prepare(&self) -> Result<Numbers, MoveError> {
        let (from, to, tenant) = (&self.from.pool, &self.to.pool, self.tenant.get());
        let row: String = sqlx::query_scalar(
            r#"select (to_jsonb(t) || '{"residence": "arriving", "bound_for": null}')::text
               from postrider.tenant t where tenant_id = $1"#,
        )
        .bind(tenant)
        .fetch_one(from)
        .await?;
        sqlx::query("update postrider.cell set in_use = true where not in_use").execute(to).await?;
        // What an earlier stay left is only the name.
        sqlx::query("delete from postrider.tenant where tenant_id = $1 and residence = 'gone'")
            .bind(tenant)
            .execute(to)
            .await?;
        sqlx::query(
            "insert into postrider.tenant overriding system value
             select r.* from json_populate_record(null::postrider.tenant, $1::text::json) r
             on conflict (tenant_id) do nothing",
        )
        .bind(row)
        .execute(to)
        .await?;
        let oldest: Option<DateTime<Utc>> = sqlx::query_scalar(
            "select created_at from postrider.message where tenant_id = $1 order by message_id limit 1",
        )
        .bind(tenant)
        .fetch_optional(from)
        .await?;
        if let Some(oldest) = oldest {
            sqlx::query("select postrider.ensure_past_partitions($1)")
                .bind(oldest)
                .execute(to)
                .await?;
        }
        sqlx::query(
            "select postrider.ensure_event_days(now() - make_interval(days => $1), 7, 1000)",
        )
        .bind(self.days_of_events().await?)
        .execute(to)
        .await?;
        let numbers = lanes::make(from, to, self.tenant).await?;
        self.orders(&numbers).await?;
        Ok(numbers)
    }

    /// How many days ago the oldest event is.
    async fn days_of_events(&self) -> Result<i32, sqlx::Error> {
        sqlx::query_scalar(
            "select coalesce(ceil((date_part('epoch', now()) - 1577836800 - (min(event_id) >> 22) / 1000.0) / 86400), 1)::int
             from postrider.event where tenant_id = $1",
        )
        .bind(self.tenant.get())
        .fetch_one(&self.from.pool)
        .await
    }

    /// What was held back stays held back, and what took another route goes on to.
    async fn orders(&self, numbers: &Numbers) -> Result<(), MoveError> {
        let orders: Vec<Order> = sqlx::query_as(include_str!("../sql/blocks_of.sql"))
            .bind(self.tenant.get())
            .fetch_all(&self.from.pool)
            .await?;
        for order in orders {
            let pool = match &order.pool {
                Some(name) => Some(lanes::pool(&self.to.pool, name).await?),
                None => None,
            };
            let Some(key) = numbers.scope_key(&order.scope, &order.key, pool) else { continue };
            let statement = match order.route {
                Some(_) => include_str!("../sql/put_route_override.sql"),
                None => include_str!("../sql/put_block.sql"),
            };
            sqlx::query(statement)
                .bind(order.scope)
                .bind(key)
                .bind(order.until)
                .bind(order.reason)
                .bind(order.actor)
                .bind(order.since)
                .bind(order.route.or(order.holder))
                .execute(&self.to.pool)
                .await?;
        }
        Ok(())
    }

    async fn messages(&self, numbers: &Numbers, told: Told<'_>) -> Result<(), MoveError> {
        let mut after = 0;
        loop {
            let page: Vec<(i64, i64, String)> =
                sqlx::query_as(include_str!("../sql/page_messages.sql"))
                    .bind(self.tenant.get())
                    .bind(after)
                    .bind(PAGE_MESSAGES)
                    .fetch_all(&self.from.pool)
                    .await?;
            let Some((last, ..)) = page.last() else { return Ok(()) };
            after = *last;
            let sizes: Vec<(i64, i64)> = page.iter().map(|(id, n, _)| (*id, *n)).collect();
            let lines = page.into_iter().map(|(.., line)| line).collect();
            self.put("message", &put("message", ""), lines, numbers, told).await?;
            for group in groups(&sizes) {
                match group.as_slice() {
                    [(one, many)] if *many > PAGE_DELIVERIES => {
                        self.large_message(*one, numbers, told).await?;
                    }
                    some => {
                        let ids: Vec<i64> = some.iter().map(|(id, _)| *id).collect();
                        self.small_messages(&ids, numbers, told).await?;
                    }
                }
            }
        }
    }

    /// Deliveries and history of a few messages, together.
    async fn small_messages(
        &self,
        ids: &[i64],
        numbers: &Numbers,
        told: Told<'_>,
    ) -> Result<(), MoveError> {
        let from = &self.from.pool;
        let jobs = sqlx::query_scalar(include_str!("../sql/jobs_of.sql"))
            .bind(ids)
            .fetch_all(from)
            .await?;
        self.put("job", &put("job", ""), jobs, numbers, told).await?;
        let history = sqlx::query_scalar(include_str!("../sql/attempts_of.sql"))
            .bind(ids)
            .fetch_all(from)
            .await?;
        self.put("attempt", include_str!("../sql/put_attempts.sql"), history, numbers, told).await
    }

    /// Deliveries and history of one message, page by page.
    async fn large_message(
        &self,
        id: i64,
        numbers: &Numbers,
        told: Told<'_>,
    ) -> Result<(), MoveError> {
        let mut after = 0;
        loop {
            let page: Vec<(i64, String)> = sqlx::query_as(include_str!("../sql/page_jobs.sql"))
                .bind(id)
                .bind(after)
                .bind(BATCH)
                .fetch_all(&self.from.pool)
                .await?;
            let Some((last, _)) = page.last() else { break };
            after = *last;
            let lines = page.into_iter().map(|(_, line)| line).collect();
            self.put("job", &put("job", ""), lines, numbers, told).await?;
        }
        let mut after: (i16, i64, Option<DateTime<Utc>>) = (0, 0, None);
        loop {
            let page: Vec<(i16, i64, DateTime<Utc>, String)> =
                sqlx::query_as(include_str!("../sql/page_attempts.sql"))
                    .bind(id)
                    .bind(after.0)
                    .bind(after.1)
                    .bind(after.2)
                    .bind(BATCH)
                    .fetch_all(&self.from.pool)
                    .await?;
            let Some((kind, job, at, _)) = page.last() else { return Ok(()) };
            after = (*kind, *job, Some(*at));
            let lines = page.into_iter().map(|(.., line)| line).collect();
            let statement = include_str!("../sql/put_attempts.sql");
            self.put("attempt", statement, lines, numbers, told).await?;
        }
    }

    async fn put(
        &self,
        table: &'static str,
        statement: &str,
        lines: Vec<String>,
        numbers: &Numbers,
        told: Told<'_>,
    ) -> Result<(), MoveError> {
        if lines.is_empty() {
            return Ok(());
        }
        let lines: Vec<String> =
            lines.iter().map(|line| numbers.translate(line)).collect::<Result<_, _>>()?;
        // Made of files of ours and the names above.
        sqlx::query(AssertSqlSafe(statement))
            .bind(&lines)
            .bind(self.tenant.get())
            .execute(&self.to.pool)
            .await?;
        say(told, &Event::Copied(table, lines.len()))
    }
}

/// Messages together as long as their deliveries are few; a large one stands alone.
fn groups(sizes: &[(i64, i64)]) -> Vec<Vec<(i64, i64)>> {
    let mut groups: Vec<Vec<(i64, i64)>> = Vec::new();
    let mut room = 0;
    for &(id, size) in sizes {
        if let Some(group) = groups.last_mut().filter(|_| size <= room) {
            group.push((id, size));
        } else {
            groups.push(vec![(id, size)]);
            room = PAGE_DELIVERIES;
        }
        room -= size;
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_messages_stand_alone_and_none_is_forgotten() {
        let sizes = [(1, 10), (2, 990), (3, 1), (4, 5_000), (5, 0), (6, 1_000)];
        let found = groups(&sizes);
        assert_eq!(found.concat(), sizes);
        for group in &found {
            let sum: i64 = group.iter().map(|(_, size)| size).sum();
            assert!(sum <= PAGE_DELIVERIES || group.len() == 1, "{group:?}");
        }
    }
}
