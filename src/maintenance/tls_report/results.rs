//! Stores what this process counted.

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::queue::deadline;
use crate::route::tls_result::{Event, Tally};

/// How often. A process that dies loses as much.
const EVERY: Duration = Duration::from_secs(15);

/// Longest time for one statement.
const LONGEST: Duration = Duration::from_secs(20);

/// Rows of one statement.
const ROWS: usize = 2_000;

/// Stores counts until `stop`, and what is left then.
pub async fn keep(pool: PgPool, tally: Arc<Tally>, stop: CancellationToken) {
    loop {
        let stopping = tokio::select! {
            () = stop.cancelled() => true,
            () = tokio::time::sleep(EVERY) => false,
        };
        if let Err(error) = store(&pool, &tally).await {
            tracing::warn!(%error, "results of TLS sessions could not be stored; trying again");
        }
        if stopping {
            return;
        }
    }
}

/// Stores what is counted now. What could not be stored is counted again.
pub async fn store(pool: &PgPool, tally: &Tally) -> Result<(), sqlx::Error> {
    let mut counts = tally.drain();
    while !counts.is_empty() {
        let rest = counts.split_off(counts.len().min(ROWS));
        if let Err(error) = deadline::within(LONGEST, write(pool, &counts)).await {
            tally.give_back(counts.into_iter().chain(rest));
            return Err(error);
        }
        counts = rest;
    }
    Ok(())
}

async fn write(pool: &PgPool, counts: &[(Event, u64)]) -> Result<(), sqlx::Error> {
    let texts = |take: &dyn Fn(&Event) -> String| -> Vec<String> {
        counts.iter().map(|(event, _)| take(event)).collect()
    };
    let ip = |ip: Option<std::net::IpAddr>| ip.map(|ip| ip.to_string()).unwrap_or_default();
    sqlx::query(include_str!("../sql/tls_store.sql"))
        .bind(texts(&|event| event.domain.to_string()))
        .bind(texts(&|event| event.policy_type.to_owned()))
        .bind(texts(&|event| event.policy.to_string()))
        .bind(texts(&|event| event.host.to_string()))
        .bind(texts(&|event| ip(event.from)))
        .bind(texts(&|event| ip(event.to)))
        .bind(texts(&|event| event.failure.map_or("", |failure| failure.as_str()).to_owned()))
        .bind(counts.iter().map(|(_, number)| *number as i64).collect::<Vec<_>>())
        .execute(pool)
        .await
        .map(drop)
}
