//! The paces that all replicas share.
//!
//! With the first reply that asks for a pace a row is made; from then on every replica adds
//! what it saw under the row's lock, about twice a second, and whoever comes follows the law
//! (`law.rs`). All of them read all rows as often and hold to them, so a change is in force
//! everywhere within a second. When the database is away the paces last seen stay in force.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, gauge};
use serde::Serialize;
use sqlx::types::Json;
use sqlx::{FromRow, PgPool};
use tokio_util::sync::CancellationToken;

use super::breaker::Breakers;
use super::key::Key;
use super::limiter::Limiter;
use super::pace::{Heard, Pace, Phase, Standing, Terms};
use super::pacing::Paces;
use super::rules::Held;
use crate::config::Adaptive;
use crate::domain::outcome::WaitReason;

/// How often replicas tell and look.
const EVERY: Duration = Duration::from_millis(400);

/// Least time between two rounds that replies cause.
const LEAST: Duration = Duration::from_millis(50);

/// A pace as it stands, for people.
#[derive(Debug, Clone, Serialize)]
pub struct Shown {
    /// `source_mailbox_provider/pool-1/google`.
    pub key: String,
    /// What it means now.
    #[serde(flatten)]
    pub standing: Standing,
    /// What the receiver took when it last refused, per second.
    pub taken: f64,
    /// Seconds since it was last refused.
    pub refused_ago: f64,
    /// Seconds until more is tried, when it rests.
    pub probe_in: f64,
    /// Which rule last spoke; empty: deferrals alone.
    pub rule: String,
    /// Its reply, without addresses.
    pub reply: String,
}

#[derive(Debug, FromRow)]
struct Row {
    key: String,
    state: Json<Pace>,
    now: f64,
}

/// Tells and looks until `stop`, and keeps the limiter to what came out.
pub async fn follow(
    pool: PgPool,
    paces: Arc<Paces>,
    breakers: Arc<Breakers>,
    limiter: Arc<Limiter>,
    stop: CancellationToken,
) {
    let mut failed = false;
    let mut shared = HashMap::new();
    while !stop.is_cancelled() {
        tokio::select! {
            () = stop.cancelled() => return,
            () = paces.asked.notified() => tokio::time::sleep(LEAST).await,
            () = tokio::time::sleep(EVERY.mul_f64(0.8 + 0.4 * rand::random::<f64>())) => {}
        }
        let settings = paces.settings.read().clone();
        match round(&pool, &paces, &limiter, &settings).await {
            Ok(now) => {
                shared = now;
                failed = false;
            }
            Err(error) if !failed => {
                tracing::warn!(%error, "cannot share the paces; those last seen stay in force");
                failed = true;
            }
            Err(_) => {}
        }
        let mut held = shared.clone();
        close_routes(&breakers, &limiter, &mut held);
        limiter.set_paces(held);
    }
}

/// One round: what was seen goes in, what is in force comes out.
async fn round(
    pool: &PgPool,
    paces: &Paces,
    limiter: &Limiter,
    settings: &Adaptive,
) -> Result<HashMap<Key, Held>, sqlx::Error> {
    if !settings.enabled {
        paces.seen.lock().clear();
        gauge!("postrider_paces").set(0.0);
        return Ok(HashMap::new());
    }
    let terms = Terms::of(settings);
    let told = paces.to_tell(&terms);
    if !told.is_empty() {
        tell(pool, told, &terms).await?;
    }
    let rows: Vec<Row> = sqlx::query_as(include_str!("sql/paces.sql")).fetch_all(pool).await?;
    let mut held = HashMap::with_capacity(rows.len());
    let mut over = Vec::new();
    for Row { key: path, state: Json(pace), now } in rows {
        let Some(key) = Key::from_path(&path) else { continue };
        if pace.is_over(now, &terms) {
            over.push(path);
        } else {
            held.insert(key, in_force(&pace, now, &terms, limiter));
        }
    }
    if !over.is_empty() {
        sqlx::query(include_str!("sql/forget_paces.sql"))
            .bind(over)
            .bind(terms.forget)
            .execute(pool)
            .await?;
    }
    gauge!("postrider_paces").set(held.len() as f64);
    *paces.paced.write() = held.keys().cloned().collect();
    Ok(held)
}

/// Adds what was seen to the rows, under their locks, in one order for everyone.
async fn tell(pool: &PgPool, told: Vec<(Key, Heard)>, terms: &Terms) -> Result<(), sqlx::Error> {
    let mut heard: Vec<(String, Heard)> =
        told.into_iter().map(|(key, heard)| (key.path(), heard)).collect();
    heard.sort_by(|a, b| a.0.cmp(&b.0));
    let mut tx = pool.begin().await?;
    // Worth no wait for a disk: what is lost with a crash is learned again.
    sqlx::query("set local synchronous_commit = off").execute(&mut *tx).await?;
    let keys: Vec<&str> = heard.iter().map(|(key, _)| &**key).collect();
    let rows: Vec<Row> =
        sqlx::query_as(include_str!("sql/lock_paces.sql")).bind(&keys).fetch_all(&mut *tx).await?;
    let (now, replicas): (f64, i64) =
        sqlx::query_as(include_str!("sql/replicas.sql")).fetch_one(&mut *tx).await?;
    let mut known: HashMap<String, Pace> =
        rows.into_iter().map(|row| (row.key, row.state.0)).collect();
    let mut keys = Vec::new();
    let mut states = Vec::new();
    for (key, mut heard) in heard {
        let draw = rand::random();
        let pace = if let Some(mut pace) = known.remove(&key) {
            let before = pace.standing(now, terms);
            pace.hear(now, &heard, terms, draw);
            report(&key, &before, &pace, now, terms);
            pace
        } else {
            // The others have sent about as much.
            let others = replicas.max(1) as f64;
            for count in [&mut heard.passed, &mut heard.refused, &mut heard.spent] {
                *count *= others;
            }
            let Some(pace) = Pace::learn(now, &heard, terms, draw) else { continue };
            let any = Standing { phase: Phase::Paced, rate: None, slots: None, left: None };
            report(&key, &any, &pace, now, terms);
            pace
        };
        keys.push(key);
        states.push(Json(pace));
    }
    sqlx::query(include_str!("sql/tell_paces.sql"))
        .bind(keys)
        .bind(states)
        .execute(&mut *tx)
        .await?;
    tx.commit().await
}

/// Says what changed: in the log when it is worse, and in numbers.
fn report(key: &str, before: &Standing, pace: &Pace, now: f64, terms: &Terms) {
    let after = pace.standing(now, terms);
    let slower = |a: Option<f64>, b: Option<f64>| b.unwrap_or(f64::MAX) < a.unwrap_or(f64::MAX);
    let change = if after.phase == Phase::Suspended && before.phase != Phase::Suspended {
        "suspended"
    } else if slower(before.rate, after.rate) || after.slots < before.slots && after.slots.is_some()
    {
        "slower"
    } else if slower(after.rate, before.rate) {
        "faster"
    } else {
        return;
    };
    counter!("postrider_pace_changes_total", "change" => change).increment(1);
    if change == "suspended" || (before.rate.is_none() && after.rate.is_some()) {
        let (rule, reply) = (&pace.rule, &pace.reply);
        tracing::warn!(key, change, rate = after.rate, left = after.left, rule, reply, "pace");
    } else {
        tracing::debug!(key, change, rate = after.rate, slots = after.slots, "pace");
    }
}

fn in_force(pace: &Pace, now: f64, terms: &Terms, limiter: &Limiter) -> Held {
    let standing = pace.standing(now, terms);
    let time = Duration::from_secs_f64(standing.left.unwrap_or(0.0).max(0.0));
    let closed = (standing.phase == Phase::Suspended)
        .then(|| limiter.closed_for(time, WaitReason::Suspended));
    let said = if pace.rule.is_empty() {
        "deferrals".to_owned()
    } else {
        format!("{} ({})", pace.reply, pace.rule)
    };
    let why = match standing.phase {
        Phase::Paced => format!("paced after {said}"),
        Phase::Capped => format!("held back for a time after {said}"),
        Phase::Probing => format!("being tried out after a stop for {said}"),
        Phase::Suspended => format!("stopped for a time after {said}"),
    };
    Held { rate: standing.rate, slots: standing.slots, closed, why: why.into() }
}

/// What lies behind a blocked route is not even claimed, unless it has another way; and behind
/// one that comes back no more than it takes.
fn close_routes(breakers: &Breakers, limiter: &Limiter, held: &mut HashMap<Key, Held>) {
    for (route, blocked) in breakers.blocked_routes() {
        if breakers.is_spared(&route) {
            continue;
        }
        let closed = Some(limiter.closed_for(blocked.wait, WaitReason::Breaker));
        let why: Arc<str> =
            format!("host {} does not answer: {}", blocked.host, blocked.why).into();
        let fresh = Held { rate: None, slots: None, closed, why: Arc::clone(&why) };
        let one = held.entry(Key::Route(route)).or_insert(fresh);
        (one.closed, one.why) = (closed, why);
    }
    for (route, slots, why) in breakers.returning_routes() {
        let why: Arc<str> = format!("coming back after: {why}").into();
        let fresh = Held { rate: None, slots: None, closed: None, why };
        let one = held.entry(Key::Route(route)).or_insert(fresh);
        one.slots = Some(one.slots.map_or(slots, |known| known.min(slots)));
    }
}

/// All paces, for people, as these settings read them.
pub async fn shown(pool: &PgPool, settings: &Adaptive) -> Result<Vec<Shown>, sqlx::Error> {
    let terms = Terms::of(settings);
    let rows: Vec<Row> = sqlx::query_as(include_str!("sql/paces.sql")).fetch_all(pool).await?;
    let shown = |Row { key, state: Json(pace), now }| Shown {
        key,
        standing: pace.standing(now, &terms),
        taken: pace.taken,
        refused_ago: now - pace.refused_at.max(pace.since),
        probe_in: (pace.probe_at - now).max(0.0),
        rule: pace.rule,
        reply: pace.reply,
    };
    Ok(rows.into_iter().map(shown).collect())
}
