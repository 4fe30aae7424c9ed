//! Deliveries that may have been sent although no outcome is recorded: what is learned of
//! them later, and how the doubt ends.
//!
//! Two roads lead here. A worker that lost its lease finishes all the same and leaves its
//! outcome as evidence; a claim of a suspect delivery looks for it. And somebody knows: an
//! operator, or a report from the receiving side; [`resolve`] ends the doubt in the caller's
//! transaction.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use sqlx::{PgConnection, PgPool, Row};

use super::job::InDoubt;
use super::settle::Settlement;
use crate::domain::ids::{DeliveryId, TenantId};
use crate::domain::outcome::Learned;

/// How a doubt ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// It was delivered.
    Delivered,
    /// It is sent again, with the same Message-ID and flagged.
    Resend,
    /// It is given up: it ends as cancelled, in doubt.
    Discard,
}

impl Resolution {
    /// As in the history and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Resend => "resend",
            Self::Discard => "discard",
        }
    }
}

/// Which deliveries in doubt are meant.
#[derive(Debug, Clone, Default)]
pub struct Doubts {
    /// One tenant's.
    pub tenant: Option<TenantId>,
    /// Of streams of this name.
    pub stream: Option<String>,
    /// These: held ones, and those that wait to be sent again.
    pub deliveries: Option<Vec<DeliveryId>>,
    /// All that have been held since before this moment.
    pub held_before: Option<DateTime<Utc>>,
}

/// How it is known, for the history.
#[derive(Debug, Clone, Copy)]
pub struct Grounds<'a> {
    /// By what: `operator`, `dsn`, `event`.
    pub source: &'a str,
    /// By whom.
    pub actor: &'a str,
    /// Why.
    pub reason: &'a str,
}

/// What one batch did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resolved {
    /// Deliveries in doubt it found; fewer than asked for: the end is reached.
    pub picked: i64,
    /// Those whose doubt ended. The others cannot be sent again: they were called back, or
    /// their content is no longer kept.
    pub done: i64,
    /// Where the next batch goes on.
    pub last: Option<DeliveryId>,
}

/// Ends the doubt about up to `most` of `which`, in the transaction of `conn`, whose role is
/// the operator's or the worker's. A delivery that is not in doubt, or is in a worker's hands,
/// is left alone.
pub async fn resolve(
    conn: &mut PgConnection,
    which: &Doubts,
    after: Option<DeliveryId>,
    most: i64,
    resolution: Resolution,
    grounds: Grounds<'_>,
) -> Result<Resolved, sqlx::Error> {
    let deliveries =
        which.deliveries.as_ref().map(|ids| ids.iter().map(|id| id.get()).collect::<Vec<_>>());
    let detail = serde_json::json!({
        "cause": format!("in doubt, and resolved as {}", resolution.as_str()),
        "by": grounds.source, "actor": grounds.actor, "reason": grounds.reason,
    });
    let row = sqlx::query(include_str!("sql/resolve_doubt.sql"))
        .bind(which.tenant.map(TenantId::get))
        .bind(deliveries)
        .bind(which.held_before)
        .bind(after.map_or(0, DeliveryId::get))
        .bind(most)
        .bind(resolution.as_str())
        .bind(detail.to_string())
        .bind(which.stream.as_deref())
        .fetch_one(conn)
        .await?;
    Ok(Resolved {
        picked: row.try_get("picked")?,
        done: row.try_get("done")?,
        last: row.try_get::<Option<i64>, _>("last")?.map(DeliveryId::new),
    })
}

/// Leaves the outcomes of `fenced` as evidence, those that say what became of the letter; how
/// many were news.
pub async fn leave_evidence(pool: &PgPool, fenced: &[&Settlement]) -> Result<u64, sqlx::Error> {
    let telling: Vec<&&Settlement> = fenced.iter().filter(|one| one.is_telling()).collect();
    if telling.is_empty() {
        return Ok(0);
    }
    sqlx::query(include_str!("sql/leave_evidence.sql"))
        .bind(telling.iter().map(|one| one.job.get()).collect::<Vec<_>>())
        .bind(telling.iter().map(|one| one.hold.get()).collect::<Vec<_>>())
        .bind(telling.iter().map(|one| one.ending.kind() as i16).collect::<Vec<_>>())
        .bind(telling.iter().map(|one| one.code()).collect::<Vec<_>>())
        .bind(telling.iter().map(|one| one.detail()).collect::<Vec<_>>())
        .execute(pool)
        .await
        .map(|done| done.rows_affected())
}

/// Reads what a claim brings of the attempt that left a delivery in doubt.
pub(super) fn in_doubt(json: &str) -> Result<InDoubt, sqlx::Error> {
    #[derive(Deserialize)]
    struct Attempt {
        route: Option<String>,
        seconds: f64,
    }
    let Attempt { route, seconds } =
        serde_json::from_str(json).map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
    let age = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    Ok(InDoubt { route, age })
}

/// Reads evidence as a claim brings it.
pub(super) fn learned(json: &str) -> Result<Learned, sqlx::Error> {
    #[derive(Deserialize)]
    struct Late {
        kind: i16,
        code: Option<i16>,
        detail: Option<Box<serde_json::value::RawValue>>,
    }
    let late: Late =
        serde_json::from_str(json).map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
    Ok(Learned {
        delivered: late.kind == 1,
        code: late.code,
        detail: late.detail.map(|detail| detail.get().to_owned()),
    })
}
