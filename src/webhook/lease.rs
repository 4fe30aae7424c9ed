//! [`Lease`]: an endpoint taken for one turn, and how it is given back.
//!
//! Held by a session, for a bounded time, under a number that each taking counts up: who lost
//! it can write nothing any more. Each function is one statement.

use std::time::Duration;

use sqlx::{FromRow, PgPool, Row};

use crate::domain::ids::{SessionId, TenantId, WebhookId};
use crate::event::cursor::Place;
use crate::event::kind::EventKind;
use crate::event::log::{self, Entry};

/// Events of one endpoint that wait to be told again, at most.
pub(super) const MOST_RETRIES: i64 = 10_000;

/// An endpoint in hand.
#[derive(Debug, Clone)]
pub(super) struct Lease {
    pub(super) webhook: WebhookId,
    pub(super) tenant: TenantId,
    hold: i32,
    pub(super) url: String,
    /// `None`: all kinds.
    pub(super) kinds: Option<Vec<EventKind>>,
    pub(super) batch: usize,
    pub(super) in_flight: usize,
    pub(super) per_second: Option<u32>,
    pub(super) at: Place,
    /// Turns in a row in which it took nothing.
    pub(super) failures: u32,
    /// Sealed, the newest first.
    pub(super) secrets: Vec<Vec<u8>>,
}

#[derive(FromRow)]
struct LeaseRow {
    webhook_id: i64,
    tenant_id: i64,
    hold: i32,
    url: String,
    kinds: Option<Vec<i16>>,
    batch: i32,
    in_flight: i32,
    per_second: Option<i32>,
    at_xid: i64,
    at_event: i64,
    failures: i32,
    secrets: Vec<Vec<u8>>,
}

/// An event that was refused before.
#[derive(Debug, Clone)]
pub(super) struct Retry {
    pub(super) place: Place,
    /// Its delivery.
    pub(super) job: Option<i64>,
    /// How often it was refused.
    pub(super) tries: u32,
    /// Since when.
    pub(super) age: Duration,
    /// `None`: its day was dropped.
    pub(super) entry: Option<Entry>,
}

/// How a turn left the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    /// It took something.
    Good,
    /// It took nothing of what it was offered.
    Bad,
    /// It was offered nothing.
    Same,
}

/// An event to be told again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Again {
    pub(super) place: Place,
    pub(super) job: Option<i64>,
    pub(super) wait: Duration,
}

/// What a turn changes.
#[derive(Debug)]
pub(super) struct Report {
    /// The cursor from now on.
    pub(super) at: Place,
    pub(super) mood: Mood,
    /// Time until the next turn.
    pub(super) wait: Duration,
    /// What it said, when bad.
    pub(super) error: Option<String>,
    /// It wants nothing any more.
    pub(super) gone: bool,
    /// Retries that are over.
    pub(super) over: Vec<Place>,
    /// What is told again.
    pub(super) again: Vec<Again>,
}

/// What became of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Given {
    /// It was written.
    Back,
    /// It was written, and the endpoint is disabled: `failing` or `gone`.
    Disabled(String),
    /// The lease was lost: nothing was written.
    Lost,
}

/// Takes up to `working` endpoints that work and `failing` ones that fail.
pub(super) async fn take(
    pool: &PgPool,
    session: SessionId,
    longest: Duration,
    working: usize,
    failing: usize,
) -> Result<Vec<Lease>, sqlx::Error> {
    let rows: Vec<LeaseRow> = sqlx::query_as(include_str!("sql/take.sql"))
        .bind(session.get())
        .bind(longest.as_secs_f64())
        .bind(working as i64)
        .bind(failing as i64)
        .fetch_all(pool)
        .await?;
    Ok(rows.into_iter().map(Lease::of).collect())
}

impl Lease {
    fn of(row: LeaseRow) -> Self {
        Self {
            webhook: WebhookId::new(row.webhook_id),
            tenant: TenantId::new(row.tenant_id),
            hold: row.hold,
            url: row.url,
            kinds: row
                .kinds
                .map(|numbers| numbers.into_iter().filter_map(EventKind::from_number).collect()),
            batch: row.batch.max(1) as usize,
            in_flight: row.in_flight.max(1) as usize,
            per_second: row.per_second.map(|n| n.max(1) as u32),
            at: Place { xid: row.at_xid, event: row.at_event },
            failures: row.failures.max(0) as u32,
            secrets: row.secrets,
        }
    }

    /// What is due to be told again, `most` at most.
    pub(super) async fn retries(
        &self,
        pool: &PgPool,
        most: i64,
    ) -> Result<Vec<Retry>, sqlx::Error> {
        let rows = sqlx::query(include_str!("sql/retries.sql"))
            .bind(self.webhook.get())
            .bind(most)
            .fetch_all(pool)
            .await?;
        rows.iter()
            .map(|row| {
                let known = row.try_get::<Option<i16>, _>("kind")?.is_some();
                Ok(Retry {
                    place: Place { xid: row.try_get("xid")?, event: row.try_get("event_id")? },
                    job: row.try_get("job_id")?,
                    tries: row.try_get::<i32, _>("tries")?.max(0) as u32,
                    age: Duration::from_secs_f64(row.try_get::<f64, _>("age")?.max(0.0)),
                    entry: known.then(|| log::entry_of(row)).transpose()?,
                })
            })
            .collect()
    }

    /// Those of `jobs` of which something must be told again first, and whether the list of
    /// retries is full.
    pub(super) async fn behind(
        &self,
        pool: &PgPool,
        jobs: &[i64],
    ) -> Result<(Vec<i64>, bool), sqlx::Error> {
        sqlx::query_as(include_str!("sql/behind.sql"))
            .bind(self.webhook.get())
            .bind(jobs)
            .bind(MOST_RETRIES)
            .fetch_one(pool)
            .await
    }

    /// Ends the turn.
    pub(super) async fn give_back(
        &self,
        pool: &PgPool,
        session: SessionId,
        report: &Report,
        give_up_after: Duration,
    ) -> Result<Given, sqlx::Error> {
        let (over_xids, over_events): (Vec<i64>, Vec<i64>) =
            report.over.iter().map(|place| (place.xid, place.event)).unzip();
        let again = &report.again;
        let (written, disabled_by): (bool, Option<String>) =
            sqlx::query_as(include_str!("sql/give_back.sql"))
                .bind(self.webhook.get())
                .bind(session.get())
                .bind(self.hold)
                .bind(report.at.xid)
                .bind(report.at.event)
                .bind(report.mood.as_str())
                .bind(report.wait.as_secs_f64() * 1_000.0)
                .bind(report.error.as_deref())
                .bind(report.gone)
                .bind(give_up_after.as_secs_f64())
                .bind(over_xids)
                .bind(over_events)
                .bind(again.iter().map(|one| one.place.xid).collect::<Vec<_>>())
                .bind(again.iter().map(|one| one.place.event).collect::<Vec<_>>())
                .bind(again.iter().map(|one| one.job).collect::<Vec<_>>())
                .bind(again.iter().map(|one| one.wait.as_millis() as i64).collect::<Vec<_>>())
                .fetch_one(pool)
                .await?;
        Ok(match (written, disabled_by) {
            (false, _) => Given::Lost,
            (true, None) => Given::Back,
            (true, Some(by)) => Given::Disabled(by),
        })
    }
}

#[cfg(test)]
impl Lease {
    pub(super) fn for_testing(webhook: WebhookId, tenant: TenantId, failures: u32) -> Self {
        Self {
            webhook,
            tenant,
            hold: 1,
            url: String::new(),
            kinds: None,
            batch: 1,
            in_flight: 8,
            per_second: None,
            at: Place::START,
            failures,
            secrets: Vec::new(),
        }
    }
}

impl Mood {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Same => "same",
        }
    }
}
