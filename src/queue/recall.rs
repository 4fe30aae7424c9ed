//! Mail of whole lanes that was called back: sweeps what waits of it.
//!
//! A row in `lane_cancellation` says that everything of a lane up to an id is called back.
//! Claims honour it from its commit on; the sweep here ends what nobody claims, in bounded
//! statements that may run in several processes at once. The row is forgotten when nothing of
//! it can come again, so a delivery in hand that is put back later ends as cancelled too.

use std::sync::LazyLock;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgPool};

use super::{Generation, PerGeneration};

static SWEEP: LazyLock<PerGeneration> =
    LazyLock::new(|| PerGeneration::new(include_str!("sql/cancel_lane.sql")));

/// Wait before a lane is looked at again of whose called-back mail some is still in hand.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Everything of a lane that was accepted up to a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromRow)]
pub struct Recall {
    lane_id: i32,
    before_id: i64,
}

/// What one statement of a sweep did.
#[derive(FromRow)]
struct Stride {
    seen: i64,
    ended: i64,
    run_at: Option<DateTime<Utc>>,
    job_id: Option<i64>,
}

/// What it is time to sweep.
pub async fn open(pool: &PgPool) -> Result<Vec<Recall>, sqlx::Error> {
    sqlx::query_as(include_str!("sql/open_lane_cancellations.sql")).fetch_all(pool).await
}

/// Ends what waits of a recall, in statements of at most `limit` rows; how many.
pub async fn sweep(pool: &PgPool, recall: Recall, limit: i64) -> Result<u64, sqlx::Error> {
    let mut ended = 0;
    loop {
        let some: i64 = sqlx::query_scalar(include_str!("sql/cancel_lane_deferred.sql"))
            .bind(recall.lane_id)
            .bind(recall.before_id)
            .bind(limit)
            .fetch_one(pool)
            .await?;
        ended += some;
        if some < limit {
            break;
        }
    }
    for generation in Generation::all() {
        let mut after = (None, None);
        loop {
            let stride: Stride = sqlx::query_as(SWEEP.of(generation))
                .bind(recall.lane_id)
                .bind(recall.before_id)
                .bind(limit)
                .bind(after.0)
                .bind(after.1)
                .fetch_one(pool)
                .await?;
            ended += stride.ended;
            if stride.seen < limit {
                break;
            }
            after = (stride.run_at, stride.job_id);
        }
    }
    Ok(ended.max(0) as u64)
}

/// Forgets a recall if nothing of it can come again; else it is looked at again later.
pub async fn close(pool: &PgPool, recall: Recall) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(include_str!("sql/close_lane_cancellation.sql"))
        .bind(recall.lane_id)
        .bind(recall.before_id)
        .bind(LOOK_AGAIN.as_secs_f64())
        .fetch_one(pool)
        .await
}
