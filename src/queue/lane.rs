//! Lanes: what may be claimed, and what must be left alone.

use std::collections::HashSet;

use sqlx::{PgPool, Row};

use super::{Generation, PerGeneration};
use crate::domain::ids::{LaneId, MailboxProvider, PoolId, StreamId, TenantId};
use std::sync::LazyLock;

static WAITING: LazyLock<PerGeneration> =
    LazyLock::new(|| PerGeneration::new(include_str!("sql/waiting_lanes.sql")));

/// A directory entry: tenant x destination pool x priority x stream. Never changes.
#[derive(Debug, Clone)]
pub struct Lane {
    /// Its number.
    pub id: LaneId,
    /// Whose mail.
    pub tenant: TenantId,
    /// The tenant's name, by which limits and rules call it.
    pub tenant_name: std::sync::Arc<str>,
    /// The tenant's share against others.
    pub weight: u32,
    /// Who receives.
    pub pool: PoolId,
    /// The pool's name.
    pub mailbox_provider: MailboxProvider,
    /// 0 goes first.
    pub priority: u8,
    /// The stream.
    pub stream: StreamId,
    /// The stream's name.
    pub stream_name: std::sync::Arc<str>,
}

/// What the claimer is told of the state of the queue.
#[derive(Debug, Default)]
pub struct Look {
    /// Generations of the ring that may hold rows, oldest first.
    pub generations: Vec<Generation>,
    /// How often rows were parked: another number means that other lanes may have some.
    pub parked: i64,
    /// Lanes that got work lately.
    pub hinted: Vec<LaneId>,
    /// What is paused.
    pub blocks: Blocks,
}

/// Paused tenants, pools, streams and lanes.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Blocks(HashSet<(char, i64)>);

impl Blocks {
    /// Whether `lane` must be left alone.
    pub fn cover(&self, lane: &Lane) -> bool {
        !self.0.is_empty()
            && [
                ('T', lane.tenant.get()),
                ('P', i64::from(lane.pool.get())),
                ('S', i64::from(lane.stream.get())),
                ('L', i64::from(lane.id.get())),
            ]
            .iter()
            .any(|key| self.0.contains(key))
    }
}

impl FromIterator<(char, i64)> for Blocks {
    fn from_iter<I: IntoIterator<Item = (char, i64)>>(all: I) -> Self {
        Self(all.into_iter().collect())
    }
}

/// Looks at the hints of the last `seconds`, and at what is paused.
pub async fn look(pool: &PgPool, seconds: f64) -> Result<Look, sqlx::Error> {
    let row = sqlx::query(include_str!("sql/look.sql")).bind(seconds).fetch_one(pool).await?;
    let generations: Vec<i16> = row.try_get("generations")?;
    let hinted: Vec<i32> = row.try_get("hinted")?;
    let blocked: Vec<String> = row.try_get("blocked")?;
    Ok(Look {
        generations: generations.into_iter().filter_map(Generation::try_new).collect(),
        parked: row.try_get("parked")?,
        hinted: hinted.into_iter().map(LaneId::new).collect(),
        blocks: blocked
            .iter()
            .filter_map(|text| {
                let scope = text.chars().next()?;
                Some((scope, text.get(1..)?.parse().ok()?))
            })
            .collect(),
    })
}

/// The directory entries of `lanes`.
pub async fn directory(pool: &PgPool, lanes: &[LaneId]) -> Result<Vec<Lane>, sqlx::Error> {
    let ids: Vec<i32> = lanes.iter().map(|lane| lane.get()).collect();
    let rows = sqlx::query(include_str!("sql/lanes.sql")).bind(ids).fetch_all(pool).await?;
    rows.into_iter()
        .map(|row| {
            Ok(Lane {
                id: LaneId::new(row.try_get("lane_id")?),
                tenant: TenantId::new(row.try_get("tenant_id")?),
                tenant_name: row.try_get::<String, _>("tenant")?.into(),
                weight: row.try_get::<i32, _>("weight")?.max(1) as u32,
                pool: PoolId::new(row.try_get("pool_id")?),
                mailbox_provider: MailboxProvider::new(row.try_get::<String, _>("pool")?),
                priority: row.try_get::<i16, _>("prio")?.clamp(0, 3) as u8,
                stream: StreamId::new(row.try_get("stream_id")?),
                stream_name: row.try_get::<String, _>("stream")?.into(),
            })
        })
        .collect()
}

/// The lanes that hold rows in a generation.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Holding {
    /// Those with work that may go now.
    pub due: Vec<LaneId>,
    /// Those whose first is scheduled for later.
    pub later: Vec<LaneId>,
}

/// Every lane that holds rows in `generation`: the backstop behind the hints, for those that
/// were missed (a submitting transaction that stayed open for long).
pub async fn waiting(pool: &PgPool, generation: Generation) -> Result<Holding, sqlx::Error> {
    let lanes: Vec<(i32, bool)> = sqlx::query_as(WAITING.of(generation)).fetch_all(pool).await?;
    let mut holding = Holding::default();
    for (lane, due) in lanes {
        let group = if due { &mut holding.due } else { &mut holding.later };
        group.push(LaneId::new(lane));
    }
    Ok(holding)
}

/// Records that mail for `domain` goes to `provider`, as its MX told; a configured rule wins.
pub async fn learn_domain(
    pool: &PgPool,
    domain: &str,
    provider: &MailboxProvider,
) -> Result<(), sqlx::Error> {
    sqlx::query(include_str!("sql/learn_domain.sql"))
        .bind(domain)
        .bind(provider.as_str())
        .execute(pool)
        .await
        .map(drop)
}
