//! What must happen now and then so that every job comes to its end: promotion,
//! expiry, rescue, cancellation, generations, partitions. Each function is one bounded
//! step that may run in several processes at once; `maintenance/` decides when.

use std::sync::LazyLock;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{PgPool, Row};

use super::{Generation, PerGeneration};
use crate::config::{Settings, Stream};
use crate::domain::ids::{DeliveryId, LaneId, MessageId, SessionId};

macro_rules! per_generation {
    ($name:ident, $file:literal) => {
        static $name: LazyLock<PerGeneration> =
            LazyLock::new(|| PerGeneration::new(include_str!($file)));
    };
}

per_generation!(RESCUE, "sql/rescue.sql");
per_generation!(CANCEL, "sql/cancel.sql");
per_generation!(COMPACT, "sql/compact.sql");

/// Makes due work ready (or ends it, if it has expired); at most `limit` rows.
pub async fn promote(pool: &PgPool, limit: i32) -> Result<u64, sqlx::Error> {
    count(
        sqlx::query_scalar("select moved + expired from postrider.promote($1)")
            .bind(limit)
            .fetch_one(pool)
            .await,
    )
}

/// Hints the lanes whose scheduled work is due now; at most `limit`, and how many. Several
/// processes at once take different ones.
pub async fn wake_lanes(pool: &PgPool, limit: i32) -> Result<u64, sqlx::Error> {
    count(sqlx::query_scalar("select postrider.wake_lanes($1)").bind(limit).fetch_one(pool).await)
}

/// Ends what has expired among the ready rows, wherever it lies: one stride for the whole
/// cluster in each `every` (see the function in the schema). At least [`EXPIRED_AT_ONCE`]
/// ended: there is more, and the next call goes on at once.
pub async fn expire(pool: &PgPool, every: Duration) -> Result<u64, sqlx::Error> {
    count(
        sqlx::query_scalar("select postrider.expire_waiting(make_interval(secs => $1))")
            .bind(every.as_secs_f64())
            .fetch_one(pool)
            .await,
    )
}

/// Rows that one stride ends at most of one generation and kind.
pub const EXPIRED_AT_ONCE: u64 = 5_000;

/// Expiry, promotion and waking in one, with the API's rights: at most `limit` rows each; how
/// many deliveries were ended.
pub async fn keep_time(pool: &PgPool, limit: i32) -> Result<u64, sqlx::Error> {
    count(sqlx::query_scalar("select postrider.keep_time($1)").bind(limit).fetch_one(pool).await)
}

/// Fences sessions that were silent for `ttl`; says which.
pub async fn fence(pool: &PgPool, ttl: Duration) -> Result<Vec<SessionId>, sqlx::Error> {
    let ids: Vec<i64> = sqlx::query_scalar(include_str!("sql/fence.sql"))
        .bind(ttl.as_secs_f64())
        .fetch_all(pool)
        .await?;
    Ok(ids.into_iter().map(SessionId::new).collect())
}

/// What a rescue found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rescued {
    /// Deliveries of which nothing was sent.
    pub unsent: u64,
    /// In doubt, to be sent again.
    pub resent: u64,
    /// In doubt, and dead letters now.
    pub held: u64,
}

impl Rescued {
    /// All of them.
    pub const fn all(self) -> u64 {
        self.unsent + self.resent + self.held
    }
}

/// Takes leases from fenced sessions. What was never sent goes back at once; what is in doubt
/// is sent again after `delay` or held, as its stream says; after `max_interruptions` deaths a
/// delivery is a dead letter. At most `limit` of each generation.
pub async fn rescue(
    pool: &PgPool,
    limit: i64,
    delay: Duration,
    max_interruptions: u16,
) -> Result<Rescued, sqlx::Error> {
    let mut rescued = Rescued::default();
    for generation in Generation::ring() {
        let row = sqlx::query(RESCUE.of(generation))
            .bind(limit)
            .bind(delay.as_secs_f64())
            .bind(i64::from(max_interruptions))
            .fetch_one(pool)
            .await?;
        rescued.unsent += count(row.try_get("unsent"))?;
        rescued.resent += count(row.try_get("resent"))?;
        rescued.held += count(row.try_get("held"))?;
    }
    Ok(rescued)
}

/// Forgets sessions that were fenced long ago and hold nothing.
pub async fn forget_sessions(pool: &PgPool) -> Result<u64, sqlx::Error> {
    let done = sqlx::query(include_str!("sql/forget_sessions.sql")).execute(pool).await?;
    Ok(done.rows_affected())
}

/// Messages called back whose waiting deliveries are not all ended yet.
pub async fn open_cancellations(pool: &PgPool) -> Result<Vec<MessageId>, sqlx::Error> {
    let ids: Vec<i64> =
        sqlx::query_scalar(include_str!("sql/open_cancellations.sql")).fetch_all(pool).await?;
    Ok(ids.into_iter().map(MessageId::new).collect())
}

/// Ends up to `limit` waiting deliveries of a cancelled message. When nothing waits any
/// more the cancellation is closed; what is in hand is screened when it comes back.
pub async fn cancel(pool: &PgPool, message: MessageId, limit: i64) -> Result<u64, sqlx::Error> {
    let mut ended = count(
        sqlx::query_scalar(include_str!("sql/cancel_deferred.sql"))
            .bind(message.get())
            .bind(limit)
            .fetch_one(pool)
            .await,
    )?;
    // The parked ones last: rows move there from the ring meanwhile, and never back.
    for generation in Generation::ring().chain([Generation::PARKED]) {
        ended += count(
            sqlx::query_scalar(CANCEL.of(generation))
                .bind(message.get())
                .bind(limit)
                .fetch_one(pool)
                .await,
        )?;
    }
    Ok(ended)
}

/// Nothing of a cancelled message waits any more.
pub async fn close_cancellation(pool: &PgPool, message: MessageId) -> Result<(), sqlx::Error> {
    sqlx::query(include_str!("sql/close_cancellation.sql"))
        .bind(message.get())
        .execute(pool)
        .await
        .map(drop)
}

/// Turns the ring by one if the current generation is older than `age`; true if it did.
pub async fn switch_generation(pool: &PgPool, age: Duration) -> Result<bool, sqlx::Error> {
    let switched: Option<i16> = sqlx::query_scalar(include_str!("sql/switch_generation.sql"))
        .bind(age.as_secs_f64())
        .fetch_optional(pool)
        .await?;
    Ok(switched.is_some())
}

/// Generations of the ring that may hold rows, oldest first; the last one is current.
pub async fn live_generations(pool: &PgPool) -> Result<Vec<Generation>, sqlx::Error> {
    let live: Vec<i16> =
        sqlx::query_scalar("select live from postrider.generation").fetch_one(pool).await?;
    Ok(live.into_iter().filter_map(Generation::try_new).collect())
}

/// A place in the order of a generation's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    lane: LaneId,
    run_at: DateTime<Utc>,
    job: DeliveryId,
}

impl Place {
    /// Before every row.
    pub const START: Self =
        Self { lane: LaneId::new(0), run_at: DateTime::<Utc>::UNIX_EPOCH, job: DeliveryId::new(0) };
}

/// What a step of compaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compacted {
    /// Rows parked or ended.
    pub moved: u64,
    /// Where the next step goes on.
    pub next: Place,
}

/// Parks up to `limit` rows left behind in an old generation after a place.
pub async fn compact(
    pool: &PgPool,
    old: Generation,
    limit: i64,
    after: Place,
) -> Result<Compacted, sqlx::Error> {
    let row = sqlx::query(COMPACT.of(old))
        .bind(limit)
        .bind(after.lane.get())
        .bind(after.run_at)
        .bind(after.job.get())
        .fetch_optional(pool)
        .await?;
    let Some(row) = row else { return Ok(Compacted { moved: 0, next: after }) };
    Ok(Compacted {
        moved: row.try_get::<i64, _>("moved")?.unsigned_abs(),
        next: Place {
            lane: LaneId::new(row.try_get("lane_id")?),
            run_at: row.try_get("run_at")?,
            job: DeliveryId::new(row.try_get("job_id")?),
        },
    })
}

/// Parks all that an old generation still holds, in steps of `limit` rows; how many. What
/// somebody else holds is left to the next time. Then tells the claimers.
pub async fn park(pool: &PgPool, old: Generation, limit: i64) -> Result<u64, sqlx::Error> {
    let mut parked = 0;
    let mut place = Place::START;
    loop {
        let step = compact(pool, old, limit, place).await?;
        parked += step.moved;
        if step.moved < limit.unsigned_abs() {
            break;
        }
        place = step.next;
    }
    if parked > 0 {
        sqlx::query("update postrider.generation set parked = parked + 1").execute(pool).await?;
    }
    Ok(parked)
}

/// Truncates an old generation if nothing is in it; false if it was busy.
pub async fn retire_generation(pool: &PgPool, old: Generation) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select postrider.retire_generation($1)")
        .bind(old.number())
        .fetch_one(pool)
        .await
}

/// Creates the partitions of the days to come, each in a transaction of its own; how many.
pub async fn make_partitions(pool: &PgPool) -> Result<i32, sqlx::Error> {
    let mut made = 0;
    loop {
        let one: i32 =
            sqlx::query_scalar("select postrider.ensure_partitions(7, 1)").fetch_one(pool).await?;
        if one == 0 {
            return Ok(made);
        }
        made += one;
    }
}

/// Creates the partitions of the times to come and drops those past retention; how many of
/// each. Messages and jobs are kept for `retention`, attempts for `history`.
pub async fn roll_partitions(
    pool: &PgPool,
    retention: Duration,
    history: Duration,
) -> Result<(i32, i32), sqlx::Error> {
    let (moved_in, windows): (i32, i32) =
        sqlx::query_as("select made, dropped from postrider.roll_windows()")
            .fetch_one(pool)
            .await?;
    let made = make_partitions(pool).await? + moved_in;
    let mut days = 0;
    loop {
        let one: Option<i32> = sqlx::query_scalar(include_str!("sql/drop_partitions.sql"))
            .bind(retention.as_secs_f64())
            .bind(history.as_secs_f64())
            .fetch_one(pool)
            .await?;
        match one {
            Some(dropped) if dropped > 0 => days += dropped,
            _ => return Ok((made, days + windows)),
        }
    }
}

/// Deletes bookkeeping that has served its time, at most `limit` rows of each kind; how many.
pub async fn prune(pool: &PgPool, limit: i64) -> Result<u64, sqlx::Error> {
    count(sqlx::query_scalar(include_str!("sql/prune.sql")).bind(limit).fetch_one(pool).await)
}

/// Entries of lists that have run out, counts of failures that nothing followed, and imports that
/// nobody finished: at most `limit` of each in one statement; how many were the more.
pub async fn expire_suppressions(pool: &PgPool, limit: i32) -> Result<u64, sqlx::Error> {
    count(
        sqlx::query_scalar("select postrider.expire_suppressions($1)")
            .bind(limit)
            .fetch_one(pool)
            .await,
    )
}

/// The right to run `task` for the tick at `at`: given once per cluster.
pub async fn may_fire(
    pool: &PgPool,
    task: &str,
    at: DateTime<Utc>,
    session: SessionId,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(include_str!("sql/cron_fire.sql"))
        .bind(task)
        .bind(at)
        .bind(session.get())
        .execute(pool)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Tells the database what the configuration says of streams and mailbox providers,
/// so that submissions by SQL follow it too.
pub async fn publish_settings(pool: &PgPool, settings: &Settings) -> Result<(), sqlx::Error> {
    let streams = &settings.streams;
    let each = |take: fn(&Stream) -> bool| streams.values().map(take).collect::<Vec<_>>();
    sqlx::query(include_str!("sql/sync_stream_policy.sql"))
        .bind(streams.keys().cloned().collect::<Vec<_>>())
        .bind(each(|stream| stream.bulk))
        .bind(streams.values().map(|stream| i16::from(stream.priority)).collect::<Vec<_>>())
        .bind(streams.values().map(|stream| stream.expires_after.as_secs_f64()).collect::<Vec<_>>())
        .bind(
            streams
                .values()
                .map(|stream| if stream.resend_in_doubt { "resend" } else { "hold" })
                .collect::<Vec<_>>(),
        )
        .execute(pool)
        .await?;
    let list = &settings.suppression;
    sqlx::query(include_str!("sql/sync_suppression_policy.sql"))
        .bind(i32::from(list.soft_failures))
        .bind(list.soft_over.as_secs_f64())
        .bind(list.soft_lasts.as_secs_f64())
        .bind(list.soft_forget.as_secs_f64())
        .execute(pool)
        .await?;
    let providers = &settings.mailbox_providers;
    sqlx::query(include_str!("sql/sync_pools.sql"))
        .bind(providers.iter().map(|provider| provider.name.clone()).collect::<Vec<_>>())
        .execute(pool)
        .await?;
    let (domains, pools): (Vec<String>, Vec<String>) = providers
        .iter()
        .flat_map(|provider| {
            provider.domains.iter().map(|domain| (domain.clone(), provider.name.clone()))
        })
        .unzip();
    sqlx::query(include_str!("sql/sync_domains.sql"))
        .bind(domains)
        .bind(pools)
        .execute(pool)
        .await
        .map(drop)
}

fn count(rows: Result<i64, sqlx::Error>) -> Result<u64, sqlx::Error> {
    rows.map(|n| n.max(0) as u64)
}
