//! [`List`]: one list, with what can be done to it: put on, take off, look up, page through.

use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::Serialize;
use sqlx::{FromRow, PgConnection, PgPool};

use super::keeper::Keeper;
use super::subject::Subject;
use crate::tenant::isolation::{TenantScope, for_nobody};

/// Whose list.
#[derive(Debug, Clone, Copy)]
pub enum Whose {
    /// A tenant's own.
    Tenant(TenantScope),
    /// That of all tenants. The pool acts as the operator's role.
    Everyone,
}

/// A list in one cell.
#[derive(Debug, Clone)]
pub struct List {
    /// Connections.
    pub pool: PgPool,
    /// Whose it is.
    pub whose: Whose,
    /// How it names people.
    pub keeper: Keeper,
}

/// What is to be put on it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// As stored: see [`Keeper::entry`].
    pub address: String,
    /// Only for this stream; `None`: for all.
    pub stream: Option<String>,
    /// Why, in words.
    pub reason: String,
    /// Who says so: `operator`, `api` or `import`; the programs themselves write `reply`,
    /// `report` and `recipient`.
    pub source: &'static str,
    /// Until when; `None`: for ever.
    pub expires_at: Option<DateTime<Utc>>,
}

/// An entry as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, FromRow)]
pub struct Listed {
    /// The address or `@domain`, normalised; a hash where it is kept as one.
    pub address: String,
    /// The only stream it is about; `None`: all.
    pub stream: Option<String>,
    /// Why.
    pub reason: String,
    /// Who said so.
    pub source: String,
    /// Since when.
    pub created_at: DateTime<Utc>,
    /// Until when.
    pub expires_at: Option<DateTime<Utc>>,
}

/// An entry that is no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, FromRow)]
pub struct Past {
    /// As it stood.
    #[serde(flatten)]
    #[sqlx(flatten)]
    pub was: Listed,
    /// Until it was removed.
    pub removed_at: DateTime<Utc>,
    /// By whom.
    pub removed_by: String,
    /// Why.
    pub removal: String,
}

/// All that is known of an address or a domain.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Shown {
    /// What suppresses it now: entries about it, and about its domain.
    pub entries: Vec<Listed>,
    /// What suppresses it for all tenants.
    pub everywhere: Vec<Listed>,
    /// What did once, the newest first.
    pub past: Vec<Past>,
    /// Days on which its mailbox took no mail; they may come to suppress it.
    pub soft_failures: i32,
}

/// How an entry is taken off.
#[derive(Debug, Clone)]
pub struct Removal {
    /// Of this stream; `None`: every entry about the subject.
    pub stream: Option<String>,
    /// Who does it.
    pub by: String,
    /// Why.
    pub why: String,
    /// Leave nothing: neither these entries nor those of before, nor what was counted.
    pub forget: bool,
}

/// Entries of the past that are shown.
const MAX_PAST: i64 = 50;

/// What [`Listed`] reads.
macro_rules! columns {
    () => {
        "address, nullif(stream, '') as stream, reason, source, created_at, expires_at"
    };
}

impl List {
    /// Puts entries on it; how many are new, or last longer than what was there. Others keep
    /// their first reason.
    pub async fn add(&self, entries: Vec<Entry>) -> Result<u64, sqlx::Error> {
        let tenant = self.number();
        self.run(move |conn| {
            async move {
                let new: i64 = sqlx::query_scalar(
                    "select postrider.suppress($1, $2, $3, $4, $5, $6, array_fill(null::bigint, array[cardinality($2)]))",
                )
                .bind(tenant)
                .bind(entries.iter().map(|one| one.address.as_str()).collect::<Vec<_>>())
                .bind(entries.iter().map(|one| one.stream.as_deref()).collect::<Vec<_>>())
                .bind(entries.iter().map(|one| one.reason.as_str()).collect::<Vec<_>>())
                .bind(entries.iter().map(|one| one.source).collect::<Vec<_>>())
                .bind(entries.iter().map(|one| one.expires_at).collect::<Vec<_>>())
                .fetch_one(conn)
                .await?;
                Ok(new.unsigned_abs())
            }
            .boxed()
        })
        .await
    }

    /// Takes entries about `subject` off; what they were. They go on as a line of the past.
    pub async fn remove(
        &self,
        subject: &Subject,
        removal: Removal,
    ) -> Result<Vec<Past>, sqlx::Error> {
        let (tenant, forms) = (self.number(), self.keeper.forms(subject));
        self.run(move |conn| {
            async move {
                let gone: Vec<Past> = sqlx::query_as(concat!(
                    "select ",
                    columns!(),
                    ", removed_at, removed_by, removal from postrider.unsuppress($1, $2, $3, $4, $5)"
                ))
                .bind(tenant)
                .bind(&forms)
                .bind(removal.stream)
                .bind(removal.by)
                .bind(removal.why)
                .fetch_all(&mut *conn)
                .await?;
                if removal.forget {
                    sqlx::query(
                        "with past as (delete from postrider.suppression_past where tenant_id = $1 and address = any ($2))
                         delete from postrider.soft_bounce where tenant_id = $1 and address = any ($2)",
                    )
                    .bind(tenant)
                    .bind(&forms)
                    .execute(conn)
                    .await?;
                }
                Ok(gone)
            }
            .boxed()
        })
        .await
    }

    /// What is known of an address or a domain.
    pub async fn show(&self, subject: &Subject) -> Result<Shown, sqlx::Error> {
        let (tenant, own) = (self.number(), self.keeper.forms(subject));
        let mut all = own.clone();
        if let Subject::Address(address) = subject {
            all.extend(self.keeper.forms_of_domain(address));
        }
        self.run(move |conn| {
            async move {
                let now = concat!(
                    "select ",
                    columns!(),
                    " from postrider.suppression s where tenant_id = $1 and address = any ($2)
                       and (expires_at is null or expires_at > now()) order by s.address, s.stream"
                );
                let entries = sqlx::query_as(now).bind(tenant).bind(&all);
                let entries: Vec<Listed> = entries.fetch_all(&mut *conn).await?;
                let everywhere: Vec<Listed> = if tenant == 0 {
                    Vec::new()
                } else {
                    sqlx::query_as(now).bind(0_i64).bind(&all).fetch_all(&mut *conn).await?
                };
                let past: Vec<Past> = sqlx::query_as(concat!(
                    "select ",
                    columns!(),
                    ", removed_at, removed_by, removal from postrider.suppression_past
                     where tenant_id = $1 and address = any ($2) order by past_id desc limit $3"
                ))
                .bind(tenant)
                .bind(&own)
                .bind(MAX_PAST)
                .fetch_all(&mut *conn)
                .await?;
                let days: Option<i32> = sqlx::query_scalar(
                    "select max(days) from postrider.soft_bounce where tenant_id = $1 and address = any ($2)",
                )
                .bind(tenant)
                .bind(&own)
                .fetch_one(conn)
                .await?;
                Ok(Shown { entries, everywhere, past, soft_failures: days.unwrap_or(0) })
            }
            .boxed()
        })
        .await
    }

    /// One page of it, in the order of address and stream: those after `after`.
    pub async fn page(&self, after: (&str, &str), limit: i64) -> Result<Vec<Listed>, sqlx::Error> {
        let (tenant, after) = (self.number(), (after.0.to_owned(), after.1.to_owned()));
        self.run(move |conn| {
            async move {
                sqlx::query_as(concat!(
                    "select ",
                    columns!(),
                    " from postrider.suppression s
                     where tenant_id = $1 and (s.address, s.stream) > ($2, $3)
                       and (expires_at is null or expires_at > now())
                     order by s.address, s.stream limit $4"
                ))
                .bind(tenant)
                .bind(after.0)
                .bind(after.1)
                .bind(limit)
                .fetch_all(conn)
                .await
            }
            .boxed()
        })
        .await
    }

    /// As the table has it.
    pub(super) fn number(&self) -> i64 {
        match self.whose {
            Whose::Tenant(scope) => scope.tenant().get(),
            Whose::Everyone => 0,
        }
    }

    /// Runs `work` in one transaction that may touch this list.
    pub(super) async fn run<T, F>(&self, work: F) -> Result<T, sqlx::Error>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, sqlx::Error>>
            + Send
            + 'static,
    {
        match self.whose {
            Whose::Tenant(scope) => scope.run(&self.pool, work).await,
            Whose::Everyone => for_nobody(&self.pool, work).await,
        }
    }
}
