//! Why a message's or a tenant's mail waits: one line for each lane.

use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use serde::Serialize;
use sqlx::Row;

use super::facts::Place;
use super::{Constraint, Expected, Explain, MOST_BEFORE};
use crate::domain::ids::MessageId;
use crate::queue::backlog::Depth;
use crate::queue::lookup::{Counts, Lookup};
use crate::tenant::isolation::TenantScope;

/// Rows that are counted in one lane.
const MOST_IN_LANE: i64 = 10_000;

/// Lanes that are shown, those with most in them first.
const MOST_LANES: i64 = 200;

/// Jobs of a message that are looked at from either end, to find its lanes.
const MOST_JOBS: i64 = 10_000;

/// One lane and what it waits for.
#[derive(Debug, Clone, Serialize)]
pub struct LaneSummary {
    /// Its number.
    pub lane: i32,
    /// Of which stream.
    pub stream: String,
    /// For whom.
    pub mailbox_provider: String,
    /// Due now, the tenant's other messages in this lane included.
    pub due: Depth,
    /// Due later, and never tried.
    pub scheduled: Depth,
    /// When the first of those is due.
    pub next_at: Option<DateTime<Utc>>,
    /// Since when the oldest is due.
    pub oldest: Option<DateTime<Utc>>,
    /// What binds first at the head.
    pub waits_for: Vec<Constraint>,
    /// Deliveries that go a second at present.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_second: Option<f64>,
    /// When the last of what is due now is expected to go.
    pub expected: Expected,
}

/// What waits for its time, outside of the lanes.
#[derive(Debug, Clone, Serialize, sqlx::FromRow)]
pub struct Waiting {
    /// For whom.
    pub mailbox_provider: String,
    /// Of which stream.
    pub stream: String,
    /// True: waits for its `send_at`; false: was refused for now.
    pub scheduled: bool,
    /// How many.
    #[sqlx(rename = "n")]
    pub count: i64,
    /// When the first of them is due.
    pub next_at: Option<DateTime<Utc>>,
}

/// Why a message's deliveries wait.
#[derive(Debug, Clone, Serialize)]
pub struct WhyMessage {
    /// The message.
    pub message: MessageId,
    /// Its stream.
    pub stream: String,
    /// Its deliveries by state.
    pub deliveries: Counts,
    /// Not sent before.
    pub send_at: Option<DateTime<Utc>>,
    /// When it was called back.
    pub cancelled_at: Option<DateTime<Utc>>,
    /// Given up at.
    pub expires_at: DateTime<Utc>,
    /// The lanes in which it has queued deliveries, as far as was looked.
    pub lanes: Vec<LaneSummary>,
    /// Not all of its deliveries were looked at, so there may be more lanes.
    pub more_lanes: bool,
    /// All of it in plain words, line by line.
    pub words: Vec<String>,
}

/// Why a tenant's mail waits.
#[derive(Debug, Clone, Serialize)]
pub struct WhyTenant {
    /// Its name.
    pub tenant: String,
    /// Its lanes that hold something, those with most in them first.
    pub lanes: Vec<LaneSummary>,
    /// There are more.
    pub more_lanes: bool,
    /// What waits for its time.
    pub waiting: Vec<Waiting>,
    /// All of it in plain words, line by line.
    pub words: Vec<String>,
}

impl Explain {
    /// Why a message's deliveries wait; `None` when this tenant has no such message.
    pub async fn message(
        &self,
        scope: TenantScope,
        id: MessageId,
    ) -> Result<Option<WhyMessage>, sqlx::Error> {
        let Some(known) = Lookup::new(self.pool.clone()).message(&scope, id).await? else {
            return Ok(None);
        };
        let lanes = if known.deliveries.queued == 0 {
            Vec::new()
        } else {
            let lanes: Vec<i32> = scope
                .run(&self.pool, move |conn| {
                    sqlx::query_scalar(include_str!("sql/message_lanes.sql"))
                        .bind(id.get())
                        .bind(MOST_JOBS)
                        .fetch_all(conn)
                        .boxed()
                })
                .await?;
            self.lanes(scope, Some(lanes)).await?
        };
        let mut why = WhyMessage {
            message: id,
            stream: known.stream,
            deliveries: known.deliveries,
            send_at: known.send_at,
            cancelled_at: known.cancelled_at,
            expires_at: known.expires_at,
            lanes,
            more_lanes: known.deliveries.queued > 0 && known.accepted > 2 * MOST_JOBS as u64,
            words: Vec::new(),
        };
        why.words = super::words::message(&why);
        Ok(Some(why))
    }

    /// Why a tenant's mail waits, for an operator.
    pub async fn tenant(&self, scope: TenantScope, name: &str) -> Result<WhyTenant, sqlx::Error> {
        let lanes = self.lanes(scope, None).await?;
        let waiting = sqlx::query_as(include_str!("sql/tenant_deferred.sql"))
            .bind(scope.tenant().get())
            .bind(MOST_BEFORE)
            .fetch_all(&self.pool)
            .await?;
        let mut why = WhyTenant {
            tenant: name.to_owned(),
            more_lanes: lanes.len() as i64 >= MOST_LANES,
            lanes,
            waiting,
            words: Vec::new(),
        };
        why.words = super::words::tenant(&why);
        Ok(why)
    }

    async fn lanes(
        &self,
        scope: TenantScope,
        lanes: Option<Vec<i32>>,
    ) -> Result<Vec<LaneSummary>, sqlx::Error> {
        let rows = scope
            .run(&self.pool, move |conn| {
                sqlx::query(include_str!("sql/lanes.sql"))
                    .bind(scope.tenant().get())
                    .bind(lanes)
                    .bind(MOST_IN_LANE)
                    .bind(MOST_LANES)
                    .fetch_all(conn)
                    .boxed()
            })
            .await?;
        let ids = rows.iter().map(|row| row.try_get("lane_id")).collect::<Result<Vec<i32>, _>>()?;
        let waits = self.waits(scope, ids).await?;
        let blocks = self.blocks().await?;
        let mut summaries = Vec::with_capacity(rows.len());
        for row in rows {
            let now: DateTime<Utc> = row.try_get("now")?;
            let place = Place {
                lane: row.try_get("lane_id")?,
                pool: row.try_get("pool_id")?,
                stream_id: row.try_get("stream_id")?,
                tenant: row.try_get("tenant")?,
                mailbox_provider: row.try_get("mailbox_provider")?,
                stream: row.try_get("stream")?,
            };
            let depth = |column| -> Result<Depth, sqlx::Error> {
                let rows: i64 = row.try_get(column)?;
                let at_least = rows >= MOST_IN_LANE;
                Ok(Depth { at_least, ..Depth::exact(rows.max(0) as u64) })
            };
            let (due, scheduled) = (depth("due")?, depth("later")?);
            let pauses = self.pauses(scope, &place, &blocks, now).await?;
            let mut standing = self.standing(&place, pauses, &waits);
            let oldest: Option<DateTime<Utc>> = row.try_get("head")?;
            if standing.constraints[0].since.is_none() {
                standing.constraints[0].since = oldest;
            }
            // The last one has all the others before it.
            let last = Depth { count: due.count.saturating_sub(1), ..due };
            let next_at: Option<DateTime<Utc>> = row.try_get("next_at")?;
            let nothing_due = due.count == 0;
            summaries.push(LaneSummary {
                expected: if nothing_due {
                    Expected { earliest: next_at, ..Expected::default() }
                } else {
                    standing.expected(last, now)
                },
                per_second: (standing.lane_rate() > 0.0).then(|| standing.lane_rate()),
                waits_for: if nothing_due {
                    vec![Constraint { until: next_at, ..Constraint::of("scheduled", None) }]
                } else {
                    standing.constraints
                },
                lane: place.lane,
                stream: place.stream,
                mailbox_provider: place.mailbox_provider,
                due,
                scheduled,
                next_at,
                oldest,
            });
        }
        Ok(summaries)
    }
}
