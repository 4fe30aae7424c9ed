//! Why mail waits, since when, and when it is expected to go.
//!
//! An answer is put together from the state of the delivery, from what holds its lane back,
//! and from what living daemons told of the lane ([`signal`](super::signal)). Everything is
//! read as the API's role in the tenant's scope, so row-level security keeps others' rows
//! out; what only an operator may know is read apart and only for [`Eyes::Operator`].
//!
//! An expectation is an interval, or honestly unknown with the reason. Counts are bounded.

mod delivery;
pub mod estimate;
mod facts;
mod summary;
pub mod words;

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgPool;

pub use self::delivery::WhyDelivery;
pub use self::summary::{LaneSummary, Waiting, WhyMessage, WhyTenant};

/// Rows of a lane that are counted before a delivery.
pub const MOST_BEFORE: i64 = 100_000;

/// Who reads the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eyes {
    /// Sees names of workers, sources and routes, and what was recorded of pauses.
    Operator,
    /// Sees its own: what is shared with others is said without names and numbers.
    Tenant,
}

/// Finds the answers.
#[derive(Debug, Clone)]
pub struct Explain {
    pool: PgPool,
    eyes: Eyes,
    /// A session lives that was heard within this.
    ttl: Duration,
}

/// What a delivery or a lane waits for.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Constraint {
    /// In a word: `rate`, `concurrency`, `paused`, `scheduled`, `retry`, `no_worker`,
    /// `in_hand`, `fairness`, `no_room`, `tenant_room`, `turn`, `cancelled`, `dead_letter`,
    /// `ended`, or another reason of a limit.
    pub kind: String,
    /// The limit, what is paused, the worker, the last reply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub what: Option<String>,
    /// What the limit allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allows: Option<String>,
    /// The same per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_per_second: Option<f64>,
    /// Why, as somebody gave it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Since when.
    pub since: Option<DateTime<Utc>>,
    /// Until when, where that is known.
    pub until: Option<DateTime<Utc>>,
}

/// When something is expected.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Expected {
    /// Not before.
    pub earliest: Option<DateTime<Utc>>,
    /// Likely by; absent: it cannot be said.
    pub latest: Option<DateTime<Utc>>,
    /// Why it cannot be said.
    pub unknown: Option<String>,
}

impl Explain {
    /// `pool` may act as the API's role; for an operator it acts as the operator's.
    pub const fn new(pool: PgPool, eyes: Eyes, ttl: Duration) -> Self {
        Self { pool, eyes, ttl }
    }
}

impl Constraint {
    /// Of a kind, since some time.
    fn of(kind: &str, since: Option<DateTime<Utc>>) -> Self {
        Self { kind: kind.to_owned(), since, ..Self::default() }
    }
}
