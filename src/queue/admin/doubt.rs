//! Deliveries in doubt, as operators see them: which, on what evidence, and how it ends.
//!
//! Each batch is one transaction with its record among the operators' actions; it is done
//! with its record or not at all.

use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use serde::Serialize;
use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row};

use super::action::{self, Action};
use super::within;
use crate::domain::ids::{DeliveryId, MessageId, TenantId};
use crate::queue::doubt::{Doubts, Grounds, Resolution, Resolved, resolve};
use crate::tenant::isolation::TenantScope;

/// A delivery that may have been sent without an outcome.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Doubt {
    /// Which.
    pub delivery: DeliveryId,
    /// Of which message.
    pub message: MessageId,
    /// Whose.
    pub tenant: String,
    /// Of which stream.
    pub stream: Option<String>,
    /// To whom.
    pub recipient: Option<String>,
    /// `held`, `waiting` or `sending` (again), or how it ended.
    pub state: String,
    /// Since when.
    pub since: DateTime<Utc>,
    /// The doubtful attempt's number.
    pub attempt: i16,
    /// What is known of that attempt.
    pub evidence: Option<Value>,
    /// What its worker found out when it was no longer its to write.
    pub late: Option<Late>,
}

/// An outcome that came too late.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Late {
    /// `delivered` or `bounced`.
    pub outcome: &'static str,
    /// When it was written.
    pub at: DateTime<Utc>,
    /// What is known of it.
    pub evidence: Option<Value>,
}

/// Which doubts to list.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// One tenant's.
    pub scope: Option<TenantScope>,
    /// Of streams of this name.
    pub stream: Option<String>,
    /// Those that wait for a decision only.
    pub held_only: bool,
    /// Those after this delivery.
    pub after: Option<DeliveryId>,
    /// At most.
    pub most: i64,
}

/// Whether a decision is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// It is.
    Real,
    /// It is counted and taken back.
    Dry,
}

/// One page by delivery.
pub async fn list(pool: &PgPool, listing: &Listing) -> Result<Vec<Doubt>, sqlx::Error> {
    let asked = listing.clone();
    let rows = within(pool, listing.scope, move |conn| {
        sqlx::query(include_str!("sql/doubts.sql"))
            .bind(asked.scope.map(|scope| scope.tenant().get()))
            .bind(asked.stream)
            .bind(asked.after.map_or(0, DeliveryId::get))
            .bind(asked.most)
            .bind(asked.held_only)
            .fetch_all(conn)
            .boxed()
    })
    .await?;
    rows.iter().map(read).collect()
}

/// Decides about one batch, as `actor` for `reason`, and records that it was done.
pub async fn decide(
    pool: &PgPool,
    which: &Doubts,
    after: Option<DeliveryId>,
    most: i64,
    resolution: Resolution,
    (actor, reason): (&str, &str),
    run: Run,
) -> Result<Resolved, sqlx::Error> {
    let (pool, which) = (pool.clone(), which.clone());
    let (actor, reason) = (actor.to_owned(), reason.to_owned());
    // In a task of its own, so that a caller that goes away cannot leave the connection
    // inside the transaction (docs/adr/0005).
    let decided = tokio::spawn(async move {
        let mut tx = pool.begin().await?;
        if let Some(tenant) = which.tenant {
            // Row-level security narrows it again.
            sqlx::query("select set_config('postrider.tenant', $1, true)")
                .bind(tenant.get().to_string())
                .execute(&mut *tx)
                .await?;
        }
        let grounds = Grounds { source: "operator", actor: &actor, reason: &reason };
        let resolved = resolve(&mut tx, &which, after, most, resolution, grounds).await?;
        if run == Run::Dry {
            tx.rollback().await?;
            return Ok(resolved);
        }
        if resolved.done > 0 {
            let target = target_of(&which);
            let detail = serde_json::json!({
                "resolution": resolution.as_str(), "deliveries": resolved.done,
                "tenant": which.tenant.map(TenantId::get), "stream": which.stream,
            });
            let done = Action {
                actor: &actor,
                action: "doubt resolve",
                target: &target,
                reason: Some(&reason),
                detail,
            };
            action::record(&mut tx, &done).await?;
        }
        tx.commit().await?;
        Ok(resolved)
    });
    decided.await.map_err(|error| sqlx::Error::Protocol(error.to_string()))?
}

/// What was meant, as on the command line.
fn target_of(which: &Doubts) -> String {
    let named = which.deliveries.iter().flatten().map(DeliveryId::to_string);
    let before = which.held_before.map(|at| format!("all held before {}", at.to_rfc3339()));
    named.chain(before).collect::<Vec<_>>().join(" ")
}

fn read(row: &PgRow) -> Result<Doubt, sqlx::Error> {
    let evidence = |column: &str| -> Result<Option<Value>, sqlx::Error> {
        let text: Option<&str> = row.try_get(column)?;
        text.map(serde_json::from_str)
            .transpose()
            .map_err(|error| sqlx::Error::Decode(Box::new(error)))
    };
    let late = match row.try_get::<Option<i16>, _>("late_kind")? {
        None => None,
        Some(kind) => Some(Late {
            outcome: if kind == 1 { "delivered" } else { "bounced" },
            at: row.try_get("late_at")?,
            evidence: evidence("late_evidence")?,
        }),
    };
    Ok(Doubt {
        delivery: DeliveryId::new(row.try_get("job_id")?),
        message: MessageId::new(row.try_get("message_id")?),
        tenant: row.try_get("tenant")?,
        stream: row.try_get("stream")?,
        recipient: row.try_get("recipient")?,
        state: row.try_get("state")?,
        since: row.try_get("at")?,
        attempt: row.try_get("attempt")?,
        evidence: evidence("evidence")?,
        late,
    })
}
