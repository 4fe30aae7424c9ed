//! Lanes: what may be claimed, and what must be left alone.

use std::sync::{Arc, LazyLock};

use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row};

use super::selector::Selector;
pub use super::selector::{Blocks, Detours};
use super::{Generation, PerGeneration};
use crate::domain::ids::{LaneId, MailboxProvider, PoolId, StreamId, TenantId};
use crate::message::time_zone::TimeZone;

static WAITING: LazyLock<PerGeneration> =
    LazyLock::new(|| PerGeneration::new(include_str!("sql/waiting_lanes.sql")));

/// A directory entry: tenant x destination pool x priority x stream. Of what it
/// holds only the tenant's weight and time zone ever change; then [`Orders::directory`] does.
#[derive(Debug, Clone)]
pub struct Lane {
    /// Its number.
    pub id: LaneId,
    /// Whose mail.
    pub tenant: TenantId,
    /// The tenant's name, by which limits and rules call it.
    pub tenant_name: Arc<str>,
    /// By whose clock its quiet hours go.
    pub time_zone: TimeZone,
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
    pub stream_name: Arc<str>,
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
    /// What operators said.
    pub orders: Orders,
}

/// What operators said, as far as claimers obey it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Orders {
    /// What is paused.
    pub blocks: Blocks,
    /// What takes another route for a while.
    pub detours: Detours,
    /// Another number: directory entries changed.
    pub directory: i64,
}

/// Looks at the hints of the last `seconds`, and at what operators said.
pub async fn look(pool: &PgPool, seconds: f64) -> Result<Look, sqlx::Error> {
    let row = sqlx::query(include_str!("sql/look.sql")).bind(seconds).fetch_one(pool).await?;
    let generations: Vec<i16> = row.try_get("generations")?;
    let hinted: Vec<i32> = row.try_get("hinted")?;
    Ok(Look {
        generations: generations.into_iter().filter_map(Generation::try_new).collect(),
        parked: row.try_get("parked")?,
        hinted: hinted.into_iter().map(LaneId::new).collect(),
        orders: orders_of(&row)?,
    })
}

/// What operators said, without a look at the lanes.
pub async fn orders(pool: &PgPool) -> Result<Orders, sqlx::Error> {
    orders_of(&sqlx::query(include_str!("sql/orders.sql")).fetch_one(pool).await?)
}

fn orders_of(row: &PgRow) -> Result<Orders, sqlx::Error> {
    let blocked: Vec<String> = row.try_get("blocked")?;
    let detours: Vec<String> = row.try_get("detours")?;
    let selector = |text: &str| text.split_once(' ').and_then(|(s, k)| Selector::read(s, k));
    let detour = |text: &String| {
        let (selected, route) = text.rsplit_once(' ')?;
        Some((selector(selected)?, Arc::from(route)))
    };
    Ok(Orders {
        blocks: blocked.iter().filter_map(|text| Some((selector(text)?, ()))).collect(),
        detours: detours.iter().filter_map(detour).collect(),
        directory: row.try_get("directory")?,
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
                // A zone that this release does not know: its mail rests by UTC.
                time_zone: row.try_get::<&str, _>("time_zone")?.parse().unwrap_or_default(),
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
