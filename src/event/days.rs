//! The days of the log: made ahead, dropped when their time is over.

use std::time::Duration;

use sqlx::PgPool;

/// Days made ahead.
const AHEAD: i32 = 7;

/// Creates the days to come and drops those past `retention`, each in a transaction of its own;
/// how many of each. What no endpoint was told of a day goes with it.
pub async fn roll(pool: &PgPool, retention: Duration) -> Result<(i32, i32), sqlx::Error> {
    let mut made = 0;
    loop {
        let one: i32 = sqlx::query_scalar(
            "select postrider.ensure_event_days(now() - interval '1 day', $1, 1)",
        )
        .bind(AHEAD)
        .fetch_one(pool)
        .await?;
        made += one;
        if one == 0 {
            break;
        }
    }
    let mut dropped = 0;
    loop {
        let one: i32 = sqlx::query_scalar(
            "select postrider.drop_event_day(now() - make_interval(secs => $1))",
        )
        .bind(retention.as_secs_f64())
        .fetch_one(pool)
        .await?;
        dropped += one;
        if one == 0 {
            return Ok((made, dropped));
        }
    }
}
