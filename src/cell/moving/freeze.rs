//! Takes everything of a leaving tenant out of the hot tables, and waits for what is in hand.
//!
//! A claim, a promotion or a submission that began before the tenant was marked may not have
//! seen the mark, so first all transactions of that time are waited for. After that nothing
//! brings work in but what is leased, and each round takes what came back of it.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use sqlx::Row;

use super::{BATCH, Event, Move, MoveError, Told, lanes, say};

/// Wait between two looks at what is in hand.
const LOOK: Duration = Duration::from_millis(200);

impl Move {
    pub(super) async fn freeze(&self, told: Told<'_>) -> Result<(), MoveError> {
        let since = Instant::now();
        self.outlast_transactions(since, told).await?;
        let mut said = String::new();
        loop {
            self.take_out(told).await?;
            let Some(what) = self.unsettled().await? else { return say(told, &Event::Frozen) };
            if what != said {
                say(told, &Event::Waiting(what.clone()))?;
                said.clone_from(&what);
            }
            self.pause(since, what).await?;
        }
    }

    /// Waits for every transaction that may have looked before the tenant was marked.
    async fn outlast_transactions(&self, since: Instant, told: Told<'_>) -> Result<(), MoveError> {
        let pool = &self.from.pool;
        let older: Vec<String> = sqlx::query_scalar(include_str!("../sql/older_transactions.sql"))
            .fetch_one(pool)
            .await?;
        let mut said = false;
        loop {
            let running: i64 = sqlx::query_scalar(include_str!("../sql/still_running.sql"))
                .bind(&older)
                .fetch_one(pool)
                .await?;
            if running == 0 {
                return Ok(());
            }
            let what = format!("{running} transactions that began before");
            if !said {
                said = true;
                say(told, &Event::Waiting(what.clone()))?;
            }
            self.pause(since, what).await?;
        }
    }

    async fn pause(&self, since: Instant, what: String) -> Result<(), MoveError> {
        if since.elapsed() > self.patience {
            return Err(MoveError::Patience {
                what,
                seconds: self.patience.as_secs(),
                here: self.from.name.to_string(),
            });
        }
        tokio::time::sleep(LOOK).await;
        Ok(())
    }

    async fn take_out(&self, told: Told<'_>) -> Result<(), MoveError> {
        let (pool, tenant) = (&self.from.pool, self.tenant.get());
        let lanes = lanes::ids(pool, self.tenant).await?;
        loop {
            let taken: i64 = sqlx::query_scalar(include_str!("../sql/freeze_ready.sql"))
                .bind(tenant)
                .bind(&lanes)
                .bind(BATCH)
                .fetch_one(pool)
                .await?;
            if taken == 0 {
                break;
            }
            say(told, &Event::Taken(taken))?;
        }
        let mut after: (Option<DateTime<Utc>>, i64) = (None, 0);
        loop {
            let (taken, due, job): (i64, Option<DateTime<Utc>>, Option<i64>) =
                sqlx::query_as(include_str!("../sql/freeze_deferred.sql"))
                    .bind(tenant)
                    .bind(after.0)
                    .bind(after.1)
                    .bind(BATCH)
                    .fetch_one(pool)
                    .await?;
            let (Some(due), Some(job)) = (due, job) else { break };
            after = (Some(due), job);
            say(told, &Event::Taken(taken))?;
        }
        loop {
            let taken: i64 = sqlx::query_scalar(include_str!("../sql/freeze_dead.sql"))
                .bind(tenant)
                .bind(BATCH)
                .fetch_one(pool)
                .await?;
            if taken == 0 {
                return Ok(());
            }
            say(told, &Event::Taken(taken))?;
        }
    }

    /// What still moves, in words; `None` when nothing does.
    async fn unsettled(&self) -> Result<Option<String>, MoveError> {
        let (pool, tenant) = (self.from.pool.clone(), self.tenant);
        let lanes = lanes::ids(&pool, tenant).await?;
        // The hot tables are locked before the snapshot is taken, as for an audit: a truncation
        // between the two would hide rows whose move the snapshot does not show yet.
        let look = tokio::spawn(async move {
            let mut tx = pool.begin_with("begin isolation level repeatable read read only").await?;
            sqlx::raw_sql("lock table postrider.ready, postrider.lease in access share mode")
                .execute(&mut *tx)
                .await?;
            let row = sqlx::query(include_str!("../sql/unsettled.sql"))
                .bind(tenant.get())
                .bind(lanes)
                .fetch_one(&mut *tx)
                .await?;
            tx.commit().await?;
            Ok::<_, sqlx::Error>(row)
        });
        let row = look.await.map_err(|error| sqlx::Error::Protocol(error.to_string()))??;
        let (waiting, leased): (bool, i64) = (row.try_get("waiting")?, row.try_get("leased")?);
        let holders: Option<String> = row.try_get("holders")?;
        Ok(match (leased, waiting) {
            (0, false) => None,
            (0, true) => Some("deliveries that came back".to_owned()),
            _ => Some(format!("{leased} deliveries in hand of {}", holders.unwrap_or_default())),
        })
    }
}
