//! Tells the database what this process found out of replies and hosts, now and then. Nobody
//! needs it to deliver: a failure costs freshness only.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use super::hearing::Hearing;
use crate::queue::breaker::{self, Broken};
use crate::queue::session::Session;
use crate::queue::unknown;
use crate::reply::unknown::Unknowns;
use crate::throttle::breaker::Seen;

/// How often unknown replies are written down.
const UNKNOWN_EVERY: Duration = Duration::from_secs(2);

/// How often it is told what does not answer, while that is anything.
const BREAKERS_EVERY: Duration = Duration::from_secs(1);

/// The most that is told of at once.
const MOST: usize = 500;

/// Writes down until `stop` what no rule knows.
pub async fn unknown(pool: PgPool, seen: Arc<Unknowns>, stop: CancellationToken) {
    loop {
        let more = stop.run_until_cancelled(tokio::time::sleep(UNKNOWN_EVERY)).await;
        let taken = seen.take();
        if !taken.is_empty()
            && let Err(error) = unknown::add(&pool, &taken).await
        {
            tracing::debug!(%error, "could not write down unknown replies; the next time does");
            seen.put_back(taken);
        }
        if more.is_none() {
            return;
        }
    }
}

/// Tells until `stop` what does not answer.
pub async fn breakers(
    pool: PgPool,
    session: Arc<Session>,
    hearing: Arc<Hearing>,
    stop: CancellationToken,
) {
    let mut told_any = false;
    while stop.run_until_cancelled(tokio::time::sleep(BREAKERS_EVERY)).await.is_some() {
        let mut seen = hearing.breakers.seen();
        let hosts: Vec<SocketAddr> = seen.iter().map(|one| one.host).collect();
        hearing.forget_but(&hosts);
        if seen.is_empty() && !told_any {
            continue;
        }
        seen.sort_by_key(|one| std::cmp::Reverse(one.lasted));
        seen.truncate(MOST);
        let all: Vec<Broken> = seen.iter().map(|one| told(&hearing, one)).collect();
        match breaker::tell(&pool, session.id(), &all).await {
            Ok(()) => told_any = !all.is_empty(),
            Err(error) => tracing::debug!(%error, "could not tell what does not answer"),
        }
    }
}

fn told(hearing: &Hearing, one: &Seen) -> Broken {
    let behind = hearing.behind(one.host);
    Broken {
        spot: format!("host {}", one.host),
        host: behind.host,
        state: one.state,
        why: one.why.to_string(),
        domains: behind.domains,
        lasted: one.lasted.as_secs_f64(),
        left: one.left.as_secs_f64(),
    }
}
