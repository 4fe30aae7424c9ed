//! What must happen now and then so that every job comes to its end: promotion,
//! expiry, rescue, cancellation, generations, partitions. Each function is one bounded
//! step that may run in several processes at once; `maintenance/` decides when.

use std::sync::LazyLock;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgPool;

use super::{Generation, PerGeneration};
use crate::config::{Settings, Stream};
use crate::domain::ids::{MessageId, SessionId};

macro_rules! per_generation {
    ($name:ident, $file:literal) => {
        static $name: LazyLock<PerGeneration> =
            LazyLock::new(|| PerGeneration::new(include_str!($file)));
    };
}

per_generation!(EXPIRE, "sql/expire_ready.sql");
per_generation!(RESCUE, "sql/rescue.sql");
per_generation!(CANCEL, "sql/cancel.sql");
per_generation!(COMPACT, "sql/compact.sql");

/// Makes due work ready (or ends it, if it has expired); at most `limit` rows.
pub async fn promote(pool: &PgPool, limit: i32) -> Result<u64, sqlx::Error> {
    count(sqlx::query_scalar(include_str!("sql/promote.sql")).bind(limit).fetch_one(pool).await)
}

/// Ends expired work at the heads of the lanes; at most `per_lane` rows of each.
pub async fn expire(pool: &PgPool, per_lane: i32) -> Result<u64, sqlx::Error> {
    let mut ended = 0;
    for generation in Generation::all() {
        ended +=
            count(sqlx::query_scalar(EXPIRE.of(generation)).bind(per_lane).fetch_one(pool).await)?;
    }
    Ok(ended)
}

/// Fences sessions that were silent for `ttl`; says which.
pub async fn fence(pool: &PgPool, ttl: Duration) -> Result<Vec<SessionId>, sqlx::Error> {
    let ids: Vec<i64> = sqlx::query_scalar(include_str!("sql/fence.sql"))
        .bind(ttl.as_secs_f64())
        .fetch_all(pool)
        .await?;
    Ok(ids.into_iter().map(SessionId::new).collect())
}

/// Takes leases from fenced sessions: tried again after `delay` or dead after
/// `max_interruptions` deaths. At most `limit` of each generation.
pub async fn rescue(
    pool: &PgPool,
    limit: i64,
    delay: Duration,
    max_interruptions: u16,
) -> Result<u64, sqlx::Error> {
    let mut rescued = 0;
    for generation in Generation::all() {
        rescued += count(
            sqlx::query_scalar(RESCUE.of(generation))
                .bind(limit)
                .bind(delay.as_secs_f64())
                .bind(i64::from(max_interruptions))
                .fetch_one(pool)
                .await,
        )?;
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
    for generation in Generation::all() {
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

/// Generations that may hold rows, oldest first; the last one is current.
pub async fn live_generations(pool: &PgPool) -> Result<Vec<Generation>, sqlx::Error> {
    let live: Vec<i16> =
        sqlx::query_scalar("select live from postrider.generation").fetch_one(pool).await?;
    Ok(live.into_iter().filter_map(Generation::try_new).collect())
}

/// Moves up to `limit` rows left behind in an old generation to the current one.
pub async fn compact(pool: &PgPool, old: Generation, limit: i64) -> Result<u64, sqlx::Error> {
    count(sqlx::query_scalar(COMPACT.of(old)).bind(limit).fetch_one(pool).await)
}

/// Truncates an old generation if nothing is in it; false if it was busy.
pub async fn retire_generation(pool: &PgPool, old: Generation) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select postrider.retire_generation($1)")
        .bind(old.number())
        .fetch_one(pool)
        .await
}

/// Creates the partitions of the days to come; how many.
pub async fn make_partitions(pool: &PgPool) -> Result<i32, sqlx::Error> {
    sqlx::query_scalar("select postrider.ensure_partitions(7)").fetch_one(pool).await
}

/// Creates the partitions of the days to come and drops those past retention.
pub async fn roll_partitions(
    pool: &PgPool,
    retention: Duration,
) -> Result<(i32, i32), sqlx::Error> {
    let made = make_partitions(pool).await?;
    let dropped: i32 = sqlx::query_scalar(
        "select postrider.drop_partitions(now() - make_interval(secs => $1),
           least(postrider.oldest_needed(), postrider.oldest_in_transit()))",
    )
    .bind(retention.as_secs_f64())
    .fetch_one(pool)
    .await?;
    Ok((made, dropped))
}

/// Deletes bookkeeping that has served its time, at most `limit` rows of each kind; how many.
pub async fn prune(pool: &PgPool, limit: i64) -> Result<u64, sqlx::Error> {
    count(sqlx::query_scalar(include_str!("sql/prune.sql")).bind(limit).fetch_one(pool).await)
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
