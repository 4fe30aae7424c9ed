//! Policies that were fetched, kept in the database, so that they outlive the process and all
//! replicas know them. Without a database (yet) they are kept in memory.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use sqlx::PgPool;

/// Policies kept in memory.
const IN_MEMORY: usize = 10_000;

/// A policy as it was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) id: String,
    pub(super) text: String,
    /// For how long it has been kept.
    pub(super) age: Duration,
    /// For how long it may still be.
    pub(super) left: Duration,
}

/// Keeps policies.
#[derive(Debug)]
pub struct StsStore {
    pool: RwLock<Option<PgPool>>,
    memory: quick_cache::sync::Cache<String, Arc<InMemory>>,
}

#[derive(Debug)]
struct InMemory {
    id: String,
    text: String,
    since: tokio::time::Instant,
    life: Duration,
}

impl Default for StsStore {
    fn default() -> Self {
        Self { pool: RwLock::default(), memory: quick_cache::sync::Cache::new(IN_MEMORY) }
    }
}

impl StsStore {
    /// From now on policies are kept in this database too.
    pub fn keep_in(&self, pool: PgPool) {
        *self.pool.write() = Some(pool);
    }

    /// The policy of a domain that is still in force. An error where there may be one that
    /// cannot be read: then nobody may act as if there were none.
    pub(super) async fn load(&self, domain: &str) -> Result<Option<Kept>, sqlx::Error> {
        let Some(pool) = self.pool() else { return Ok(self.in_memory(domain)) };
        let read =
            sqlx::query_as::<_, (String, String, f64, f64)>(include_str!("../sql/sts_load.sql"))
                .bind(domain)
                .fetch_optional(&pool)
                .await;
        match read {
            Ok(row) => Ok(row.map(|(id, text, age, left)| Kept {
                id,
                text,
                age: Duration::from_secs_f64(age.max(0.0)),
                left: Duration::from_secs_f64(left.max(0.0)),
            })),
            Err(error) => self.in_memory(domain).map(Some).ok_or(error),
        }
    }

    /// Keeps a policy for `life`.
    pub(super) async fn save(&self, domain: &str, id: &str, text: &str, life: Duration) {
        let kept = InMemory {
            id: id.to_owned(),
            text: text.to_owned(),
            since: tokio::time::Instant::now(),
            life,
        };
        self.memory.insert(domain.to_owned(), Arc::new(kept));
        let Some(pool) = self.pool() else { return };
        let saved = sqlx::query(include_str!("../sql/sts_save.sql"))
            .bind(domain)
            .bind(id)
            .bind(text)
            .bind(life.as_secs_f64())
            .execute(&pool)
            .await;
        if let Err(error) = saved {
            tracing::warn!(%error, domain, "could not store an MTA-STS policy; this process knows it");
        }
    }

    /// Domains whose policies have been kept for half of their life, or a day.
    /// What has expired is forgotten.
    pub(super) async fn ageing(&self, most: i64) -> Result<Vec<String>, sqlx::Error> {
        let Some(pool) = self.pool() else { return Ok(Vec::new()) };
        sqlx::query(include_str!("../sql/sts_forget.sql")).execute(&pool).await?;
        sqlx::query_scalar(include_str!("../sql/sts_ageing.sql")).bind(most).fetch_all(&pool).await
    }

    fn pool(&self) -> Option<PgPool> {
        self.pool.read().clone()
    }

    fn in_memory(&self, domain: &str) -> Option<Kept> {
        let kept = self.memory.get(domain)?;
        let age = kept.since.elapsed();
        let left = kept.life.checked_sub(age).filter(|left| !left.is_zero())?;
        Some(Kept { id: kept.id.clone(), text: kept.text.clone(), age, left })
    }
}

/// Whether a policy has been kept so long that it should be looked at again (see `ageing`).
pub(super) fn is_ageing(age: Duration, left: Duration) -> bool {
    age >= left || age >= Duration::from_secs(24 * 3600)
}
