//! Holding mail back, and letting it go again.
//!
//! A pause is a row that the claimers honour within one poll: what is in hand goes
//! on, nothing new is claimed, and what waits costs nothing. A suspended tenant is
//! held back by a row of its own kind, which only `tenant activate` removes.

use serde::Serialize;
use sqlx::{FromRow, PgPool};

use crate::tenant::isolation::TenantScope;

/// What is held back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Everything of a tenant.
    Tenant(TenantScope),
    /// One of its streams.
    Stream(TenantScope, String),
    /// All mail to a mailbox provider.
    MailboxProvider(String),
}

/// A row that claimers honour.
#[derive(Debug, Clone, PartialEq, Serialize, FromRow)]
pub struct Block {
    /// `tenant`, `stream`, `mailbox-provider` or `lane`.
    pub scope: String,
    /// Its name; a stream's with its tenant before it.
    pub name: String,
    /// Why.
    pub reason: String,
    /// Seconds until it ends by itself; absent: not before somebody ends it.
    pub seconds_left: Option<f64>,
}

impl Block {
    /// Whether it holds back the lane of these names. What is not known here by name is told
    /// by the daemons, which honour every row.
    pub fn holds(&self, tenant: &str, stream: &str, mailbox_provider: &str, lane: i32) -> bool {
        match &*self.scope {
            "tenant" => self.name == tenant,
            "stream" => {
                self.name.strip_prefix(tenant).and_then(|rest| rest.strip_prefix('/'))
                    == Some(stream)
            }
            "mailbox-provider" => self.name == mailbox_provider,
            "lane" => self.name == lane.to_string(),
            _ => false,
        }
    }
}

/// Why nothing was held back or let go.
#[derive(Debug, thiserror::Error)]
pub enum PauseError {
    /// The tenant has no such stream.
    #[error("the tenant has no stream {name:?}{}", said(.known))]
    NoStream {
        /// What was given.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// No such mailbox provider.
    #[error("there is no mailbox provider {name:?}{}", said(.known))]
    NoMailboxProvider {
        /// What was given.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The tenant is suspended.
    #[error(
        "the tenant is suspended, which holds back all its mail: see `postrider tenant activate`"
    )]
    Suspended,
    /// The database did not do it.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Holds back for `seconds`, or until [`resume`]. Pausing again replaces reason and time.
pub async fn pause(
    pool: &PgPool,
    target: &Target,
    reason: &str,
    seconds: Option<f64>,
) -> Result<(), PauseError> {
    let (scope, key) = key_of(pool, target).await?;
    let done = sqlx::query(include_str!("sql/pause.sql"))
        .bind(scope)
        .bind(key)
        .bind(seconds)
        .bind(reason)
        .execute(pool)
        .await?;
    if done.rows_affected() == 0 { Err(PauseError::Suspended) } else { Ok(()) }
}

/// Lets go. Says whether anything was held back.
pub async fn resume(pool: &PgPool, target: &Target) -> Result<bool, PauseError> {
    let (scope, key) = key_of(pool, target).await?;
    let (held, suspended): (bool, bool) = sqlx::query_as(include_str!("sql/resume.sql"))
        .bind(scope)
        .bind(key)
        .fetch_one(pool)
        .await?;
    if suspended { Err(PauseError::Suspended) } else { Ok(held) }
}

/// What is held back at present.
pub async fn blocks(pool: &PgPool) -> Result<Vec<Block>, sqlx::Error> {
    sqlx::query_as(include_str!("sql/blocks.sql")).fetch_all(pool).await
}

async fn key_of(pool: &PgPool, target: &Target) -> Result<(&'static str, i64), PauseError> {
    match target {
        Target::Tenant(scope) => Ok(("T", scope.tenant().get())),
        Target::Stream(scope, name) => {
            let streams: Vec<(String, i64)> = sqlx::query_as(
                "select name, stream_id::bigint from postrider.stream where tenant_id = $1 order by 1",
            )
            .bind(scope.tenant().get())
            .fetch_all(pool)
            .await?;
            find(streams, name)
                .map(|key| ("S", key))
                .map_err(|known| PauseError::NoStream { name: name.clone(), known })
        }
        Target::MailboxProvider(name) => {
            let pools: Vec<(String, i64)> =
                sqlx::query_as("select name, pool_id::bigint from postrider.pool order by 1")
                    .fetch_all(pool)
                    .await?;
            find(pools, name)
                .map(|key| ("P", key))
                .map_err(|known| PauseError::NoMailboxProvider { name: name.clone(), known })
        }
    }
}

fn find(there: Vec<(String, i64)>, name: &str) -> Result<i64, Vec<String>> {
    match there.iter().find(|(known, _)| known == name) {
        Some((_, key)) => Ok(*key),
        None => Err(there.into_iter().map(|(known, _)| known).collect()),
    }
}

fn said(names: &[String]) -> String {
    if names.is_empty() {
        ": it has none yet".into()
    } else {
        format!(": known are {}", names.join(", "))
    }
}
