//! What waits in the whole cluster, why, and who works on it: the facts behind `GET /scale`.
//!
//! The cost is bounded whatever waits. Lanes are found by one probe each, at most
//! [`MOST_LANES`]; about [`MOST_ROWS`] rows are counted in all, and where a count is cut off
//! the planner's estimate takes its place (see [`Depth`]). The statements are not of one
//! snapshot: a delivery that moves meanwhile may be counted twice or not at all.

use std::time::Duration;

use sqlx::{FromRow, PgPool, Row};

use super::admin::pause::{self, Block};
use super::signal::Class;

/// Lanes that are looked at.
pub const MOST_LANES: i64 = 20_000;

/// Rows that are counted, about.
pub const MOST_ROWS: i64 = 200_000;

/// Rows of `deferred` that are looked at.
const MOST_DEFERRED: i64 = 100_000;

/// What sessions told longer ago than this is not how fast they go now.
const STALE: f64 = 10.0;

/// A number of deliveries, and how well it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Depth {
    /// How many.
    pub count: u64,
    /// There may be more.
    pub at_least: bool,
    /// Some of it is the planner's estimate.
    pub estimated: bool,
}

/// What is ready in one lane.
#[derive(Debug, Clone)]
pub struct LaneBacklog {
    /// Its number.
    pub lane: i32,
    /// Whose.
    pub tenant: String,
    /// For whom.
    pub mailbox_provider: String,
    /// Of which stream.
    pub stream: String,
    /// Of which class.
    pub class: Class,
    /// Due now.
    pub due: Depth,
    /// Due later.
    pub scheduled: Depth,
    /// Age of the oldest due one in seconds.
    pub oldest_seconds: Option<f64>,
}

/// A session that lives.
#[derive(Debug, Clone, FromRow)]
pub struct Replica {
    /// Its number.
    pub session_id: i64,
    /// What it calls itself.
    pub worker: String,
    /// Transactional deliveries it brings to an end a second; absent: it told nothing yet.
    pub rate: Option<f64>,
    /// The same of bulk.
    pub rate_bulk: Option<f64>,
    /// Deliveries in hand.
    pub in_hand: Option<i32>,
    /// Deliveries it may have in hand.
    pub slots: Option<i32>,
    /// Ends a second when it was busy.
    pub capacity: Option<f64>,
    told_seconds: Option<f64>,
}

/// Why a lane waits, as one session says.
#[derive(Debug, Clone, FromRow)]
pub struct Wait {
    /// The lane.
    pub lane_id: i32,
    /// In a word: see [`signal::Hold`](super::signal::Hold).
    pub reason: String,
    /// The limit that binds.
    pub limit_key: Option<String>,
    /// What it allows.
    pub limit_text: Option<String>,
    /// What it allows a second.
    pub limit_rate: Option<f64>,
    /// Deliveries of the lane that the session takes on a second.
    pub lane_rate: f64,
}

/// Everything that waits.
#[derive(Debug, Clone, Default)]
pub struct Backlog {
    /// Lanes that hold something.
    pub lanes: Vec<LaneBacklog>,
    /// There are more lanes than were looked at.
    pub more_lanes: bool,
    /// Not yet due and never tried, outside of ready, by [`Class::index`].
    pub scheduled: [Depth; 2],
    /// Refused for now, by [`Class::index`].
    pub deferred: [Depth; 2],
    /// Who lives.
    pub replicas: Vec<Replica>,
    /// Why lanes wait.
    pub waits: Vec<Wait>,
    /// What operators hold back.
    pub blocks: Vec<Block>,
}

impl Depth {
    /// An exact number.
    pub const fn exact(count: u64) -> Self {
        Self { count, at_least: false, estimated: false }
    }

    /// Both together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            count: self.count.saturating_add(other.count),
            at_least: self.at_least || other.at_least,
            estimated: self.estimated || other.estimated,
        }
    }

    /// What was counted up to a bound, with the estimate of the rest.
    fn of(counted: i64, cut: bool, estimate: Option<i64>) -> Self {
        let counted = counted.max(0) as u64;
        match estimate.map(|n| n.max(0) as u64) {
            Some(n) if cut && n > counted => Self { count: n, at_least: false, estimated: true },
            _ => Self { count: counted, at_least: cut, estimated: false },
        }
    }
}

impl Replica {
    /// Ends a second of a class, as far as it was told lately.
    pub fn rate_of(&self, class: Class) -> f64 {
        let told = self.told_seconds.is_some_and(|seconds| seconds < STALE);
        let rate = match class {
            Class::Transactional => self.rate,
            Class::Bulk => self.rate_bulk,
        };
        rate.filter(|_| told).unwrap_or(0.0)
    }
}

impl LaneBacklog {
    /// Whether a block is about this lane.
    pub fn is_held_by(&self, block: &Block) -> bool {
        block.holds(&self.tenant, &self.stream, &self.mailbox_provider, self.lane)
    }
}

/// Reads everything. A session lives that was heard within `ttl`.
pub async fn read(pool: &PgPool, ttl: Duration) -> Result<Backlog, sqlx::Error> {
    let mut backlog = Backlog { blocks: pause::blocks(pool).await?, ..Backlog::default() };
    for row in sqlx::query(include_str!("sql/backlog.sql"))
        .bind(MOST_LANES)
        .bind(MOST_ROWS)
        .fetch_all(pool)
        .await?
    {
        backlog.lanes.push(LaneBacklog {
            lane: row.try_get("lane_id")?,
            tenant: row.try_get("tenant")?,
            mailbox_provider: row.try_get("mailbox_provider")?,
            stream: row.try_get("stream")?,
            class: Class::of(row.try_get("bulk")?),
            due: Depth::of(row.try_get("due")?, row.try_get("due_cut")?, row.try_get("estimate")?),
            scheduled: Depth::of(row.try_get("later")?, row.try_get("later_cut")?, None),
            oldest_seconds: row.try_get("oldest_seconds")?,
        });
    }
    backlog.more_lanes = backlog.lanes.len() as i64 >= MOST_LANES;
    let mut looked_at = 0;
    for row in sqlx::query(include_str!("sql/backlog_deferred.sql"))
        .bind(MOST_DEFERRED)
        .fetch_all(pool)
        .await?
    {
        let (rows, class): (i64, _) = (row.try_get("rows")?, Class::of(row.try_get("bulk")?));
        let of =
            if row.try_get("scheduled")? { &mut backlog.scheduled } else { &mut backlog.deferred };
        of[class.index()] = Depth::exact(rows.max(0) as u64);
        looked_at += rows;
    }
    if looked_at >= MOST_DEFERRED {
        for depth in backlog.scheduled.iter_mut().chain(&mut backlog.deferred) {
            depth.at_least = true;
        }
    }
    let seconds = ttl.as_secs_f64();
    backlog.replicas = sqlx::query_as(include_str!("sql/backlog_replicas.sql"))
        .bind(seconds)
        .fetch_all(pool)
        .await?;
    backlog.waits =
        sqlx::query_as(include_str!("sql/backlog_waits.sql")).bind(seconds).fetch_all(pool).await?;
    Ok(backlog)
}

/// How many replicas to suggest when `needed` are needed now: more at once, fewer only after
/// `hold`, whichever process is asked (the state is the database's).
pub async fn suggest(pool: &PgPool, needed: u32, hold: Duration) -> Result<u32, sqlx::Error> {
    let suggested: i32 =
        sqlx::query_scalar("select postrider.suggest_replicas($1, make_interval(secs => $2))")
            .bind(i32::try_from(needed).unwrap_or(i32::MAX))
            .bind(hold.as_secs_f64())
            .fetch_one(pool)
            .await?;
    Ok(suggested.max(0) as u32)
}
