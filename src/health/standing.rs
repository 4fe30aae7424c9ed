//! How a tenant's streams stand, for the tenant and for operators.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use serde::Serialize;
use sqlx::{FromRow, PgPool};

use super::figures::{self, Acting, Figures};
use crate::config::{Health, HealthLimits, unit};
use crate::tenant::isolation::TenantScope;

/// The health of a tenant.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TenantHealth {
    /// The tenant's name.
    pub tenant: String,
    /// Its streams that sent within the longest window, or are warned or held back.
    pub streams: Vec<StreamHealth>,
}

/// The health of a stream.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StreamHealth {
    /// Its name.
    pub stream: String,
    /// `well`, `warned`, or `stopped`: held back until an operator lets it go.
    pub level: String,
    /// Since when.
    pub since: Option<DateTime<Utc>>,
    /// What was found then.
    pub reason: Option<String>,
    /// Figures from before are not counted: an operator let the stream go then.
    pub counted_from: Option<DateTime<Utc>>,
    /// The limits that hold for it.
    pub limits: Limits,
    /// What was counted, by window and mailbox provider.
    pub figures: Vec<Rates>,
}

/// Limits as shares of what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the keys of [health]")]
pub struct Limits {
    pub pause: bool,
    pub minimum: u64,
    pub bounce_warn: f64,
    pub bounce_stop: f64,
    pub complaint_warn: f64,
    pub complaint_stop: f64,
}

/// One line of figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rates {
    /// How far back, as in the configuration.
    pub window: String,
    /// To whom; absent: to all.
    pub mailbox_provider: Option<String>,
    /// Taken by a receiver, or refused for good.
    pub sent: u64,
    /// Recipients that are lost.
    pub bounced: u64,
    /// Refused for good for another reason.
    pub refused: u64,
    /// Recipients that complained.
    pub complained: u64,
    /// `bounced` in `sent`.
    pub bounce_rate: f64,
    /// `complained` in `sent`.
    pub complaint_rate: f64,
}

/// A row of `health_stream`.
#[derive(Debug, FromRow)]
struct Judged {
    stream: String,
    level: String,
    since: DateTime<Utc>,
    reason: Option<String>,
    counted_from: Option<DateTime<Utc>>,
}

/// The health of one tenant, in the words of whoever asks.
pub async fn of(
    pool: &PgPool,
    scope: TenantScope,
    acting: Acting,
    tenant: &str,
    health: &Health,
) -> Result<TenantHealth, sqlx::Error> {
    let found = figures::of_tenant(pool, scope, acting, health.windows.clone()).await?;
    let mut streams: BTreeMap<String, StreamHealth> = BTreeMap::new();
    let named = |stream: &str| StreamHealth {
        stream: stream.to_owned(),
        level: "well".into(),
        since: None,
        reason: None,
        counted_from: None,
        limits: Limits::of(health.limits_of(tenant, stream)),
        figures: Vec::new(),
    };
    for (of, figures) in found {
        let stream = streams.entry(of.stream.clone()).or_insert_with(|| named(&of.stream));
        stream.figures = figures.into_iter().map(Rates::of).collect();
    }
    for level in levels(pool, scope, acting).await? {
        let stream = streams.entry(level.stream.clone()).or_insert_with(|| named(&level.stream));
        stream.level = level.level;
        stream.since = Some(level.since);
        stream.reason = level.reason;
        stream.counted_from = level.counted_from;
    }
    Ok(TenantHealth { tenant: tenant.to_owned(), streams: streams.into_values().collect() })
}

async fn levels(
    pool: &PgPool,
    scope: TenantScope,
    acting: Acting,
) -> Result<Vec<Judged>, sqlx::Error> {
    acting
        .within(pool, scope, move |conn| {
            sqlx::query_as(
                "select stream, level, since, reason, counted_from from postrider.health_stream
                 where tenant_id = $1",
            )
            .bind(scope.tenant().get())
            .fetch_all(conn)
            .boxed()
        })
        .await
}

impl Limits {
    fn of(limits: &HealthLimits) -> Self {
        Self {
            pause: limits.pause,
            minimum: limits.minimum,
            bounce_warn: limits.bounce_warn,
            bounce_stop: limits.bounce_stop,
            complaint_warn: limits.complaint_warn,
            complaint_stop: limits.complaint_stop,
        }
    }
}

impl Rates {
    fn of(figures: Figures) -> Self {
        Self {
            window: unit::written(figures.window),
            bounce_rate: figures.bounce_rate(),
            complaint_rate: figures.complaint_rate(),
            mailbox_provider: figures.mailbox_provider,
            sent: figures.sent,
            bounced: figures.bounced,
            refused: figures.refused,
            complained: figures.complained,
        }
    }
}
