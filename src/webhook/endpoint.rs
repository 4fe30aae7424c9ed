//! [`Endpoint`]: what is shown of an endpoint; never a secret.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};

use crate::domain::ids::{TenantId, WebhookId};
use crate::event::kind::EventKind;

/// An endpoint and how it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Endpoint {
    /// Its id.
    pub id: WebhookId,
    /// Where it is.
    pub url: String,
    /// For people.
    pub description: String,
    /// Which events; `None`: all.
    pub types: Option<Vec<&'static str>>,
    /// Events of one request.
    pub batch: i32,
    /// Requests at once.
    pub in_flight: i32,
    /// Requests a second; `None`: as fast as it answers.
    pub per_second: Option<i32>,
    /// `active`, or `disabled`.
    pub state: String,
    /// By whom: `tenant`, `operator`, `failing` (it took nothing for too long), `gone` (it said so).
    pub disabled_by: Option<String>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// Since when it takes nothing.
    pub failing_since: Option<DateTime<Utc>>,
    /// When it is tried next, if it fails.
    pub next_try_at: Option<DateTime<Utc>>,
    /// What it said last when it took nothing.
    pub last_error: Option<String>,
    /// When it last took something.
    pub last_taken_at: Option<DateTime<Utc>>,
    /// Events after its cursor, of all kinds; counted up to 10,000.
    pub pending: i64,
    /// Events that it refused and is told again.
    pub retries: i64,
}

/// The tenant's endpoints, or one of them. The connection must see its rows.
pub(super) async fn show(
    conn: &mut PgConnection,
    tenant: TenantId,
    one: Option<WebhookId>,
) -> Result<Vec<Endpoint>, sqlx::Error> {
    let rows = sqlx::query(include_str!("sql/show.sql"))
        .bind(tenant.get())
        .bind(one.map(WebhookId::get))
        .fetch_all(conn)
        .await?;
    rows.iter().map(endpoint_of).collect()
}

fn endpoint_of(row: &PgRow) -> Result<Endpoint, sqlx::Error> {
    let kinds: Option<Vec<i16>> = row.try_get("kinds")?;
    let failing_since: Option<DateTime<Utc>> = row.try_get("failing_since")?;
    Ok(Endpoint {
        id: WebhookId::new(row.try_get("webhook_id")?),
        url: row.try_get("url")?,
        description: row.try_get("description")?,
        types: kinds.map(|numbers| {
            numbers.into_iter().filter_map(EventKind::from_number).map(EventKind::as_str).collect()
        }),
        batch: row.try_get("batch")?,
        in_flight: row.try_get("in_flight")?,
        per_second: row.try_get("per_second")?,
        state: row.try_get("state")?,
        disabled_by: row.try_get("disabled_by")?,
        created_at: row.try_get("created_at")?,
        failing_since,
        next_try_at: failing_since.map(|_| row.try_get("next_at")).transpose()?,
        last_error: row.try_get("last_error")?,
        last_taken_at: row.try_get("last_taken_at")?,
        pending: row.try_get("pending")?,
        retries: row.try_get("retries")?,
    })
}
