//! Take as many as there is room for, from named lanes.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row};

use super::job::{Bar, Job};
use super::{Generation, PerGeneration, doubt, screening};
use crate::domain::ids::{DeliveryId, Hold, LaneId, MessageId, SessionId, TenantId};
use crate::tenant::suppression::Keeper;

static CLAIM: LazyLock<PerGeneration> =
    LazyLock::new(|| PerGeneration::new(include_str!("sql/claim.sql")));

/// How many to take from one lane.
#[derive(Debug, Clone, Copy)]
pub struct Want {
    /// The lane.
    pub lane: LaneId,
    /// Nothing before this time is looked at: spares the walk over the dead head of
    /// the lane. A hint; `None` looks from the start.
    pub after: Option<DateTime<Utc>>,
    /// At most so many.
    pub take: u32,
}

/// What a claim brought.
#[derive(Debug, Default)]
pub struct Claimed {
    /// The jobs, now leased to the session.
    pub jobs: Vec<Job>,
    /// For each claimed lane the latest `run_at`, for the next [`Want::after`].
    pub latest: Vec<(LaneId, DateTime<Utc>)>,
}

/// Claims from one generation for `session`; each job says where its lease is, and whether its
/// recipient is suppressed by the list as `keeper` knows it. A fenced session gets nothing. After
/// an error there may be leases that nobody knows of.
pub async fn claim(
    pool: &PgPool,
    keeper: &Keeper,
    session: SessionId,
    generation: Generation,
    wants: &[Want],
) -> Result<Claimed, sqlx::Error> {
    let lanes: Vec<i32> = wants.iter().map(|want| want.lane.get()).collect();
    let after: Vec<Option<DateTime<Utc>>> = wants.iter().map(|want| want.after).collect();
    let takes: Vec<i32> = wants.iter().map(|want| want.take as i32).collect();
    let rows = sqlx::query(CLAIM.of(generation))
        .bind(session.get())
        .bind(lanes)
        .bind(after)
        .bind(takes)
        .fetch_all(pool)
        .await?;
    let claimed_at = Instant::now();
    let lease_generation = |row: &PgRow| {
        let number: i16 = row.try_get("lease_gen")?;
        Generation::try_new(number)
            .ok_or_else(|| sqlx::Error::Decode(format!("no generation {number} of leases").into()))
    };
    let mut claimed = Claimed { jobs: Vec::with_capacity(rows.len()), latest: Vec::new() };
    for row in rows {
        let lane = LaneId::new(row.try_get("lane_id")?);
        let run_at: DateTime<Utc> = row.try_get("run_at")?;
        match claimed.latest.iter_mut().find(|(known, _)| *known == lane) {
            Some((_, latest)) => *latest = run_at.max(*latest),
            None => claimed.latest.push((lane, run_at)),
        }
        let late: Option<&str> = row.try_get("late")?;
        let bar = if let Some(late) = late {
            Some(Bar::Learned(doubt::learned(late)?))
        } else if row.try_get("cancelled")? {
            Some(Bar::Cancelled)
        } else if row.try_get("expired")? {
            Some(Bar::Expired)
        } else {
            None
        };
        let waited: f64 = row.try_get("waited")?;
        claimed.jobs.push(Job {
            id: DeliveryId::new(row.try_get("job_id")?),
            message: MessageId::new(row.try_get("message_id")?),
            tenant: TenantId::new(row.try_get("tenant_id")?),
            lane,
            generation: lease_generation(&row)?,
            hold: Hold::new(row.try_get("hold")?),
            attempt: u16::try_from(row.try_get::<i32, _>("attempt")?).unwrap_or(u16::MAX),
            suspect: row.try_get("suspect")?,
            doubt: row.try_get::<Option<&str>, _>("doubt")?.map(doubt::in_doubt).transpose()?,
            bar,
            listed: keeper.recipient(row.try_get("recipient")?),
            recipient: row.try_get("recipient")?,
            payload: row.try_get("payload")?,
            waited: Duration::from_secs_f64(waited.max(0.0)),
            claimed_at,
        });
    }
    screening::bar_suppressed(pool, keeper, &mut claimed.jobs).await?;
    Ok(claimed)
}
