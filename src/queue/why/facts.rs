//! What is known of lanes: who holds them back, and what daemons told of them.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::FutureExt;
use sqlx::FromRow;

use super::estimate::{self, Way};
use super::{Constraint, Expected, Explain, Eyes};
use crate::queue::admin::pause::{self, Block};
use crate::queue::backlog::Depth;
use crate::queue::signal::HoldKind;
use crate::tenant::isolation::TenantScope;

/// How long a delivery that is due now takes to be begun when nothing is in its way.
const AT_ONCE: TimeDelta = TimeDelta::seconds(10);

/// Which lane, by everything that can be blocked.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) lane: i32,
    pub(super) pool: i32,
    pub(super) stream_id: i32,
    pub(super) tenant: String,
    pub(super) mailbox_provider: String,
    pub(super) stream: String,
}

/// A row that a daemon told.
#[derive(Debug, Clone, FromRow)]
pub(super) struct Told {
    lane_id: i32,
    reason: String,
    limit_key: Option<String>,
    limit_text: Option<String>,
    limit_rate: Option<f64>,
    lane_rate: f64,
    since: DateTime<Utc>,
    until: Option<DateTime<Utc>>,
}

/// What daemons told of some lanes.
#[derive(Debug, Clone, Default)]
pub(super) struct Waits {
    /// Daemons that live.
    pub(super) living: u32,
    lanes: HashMap<i32, Vec<Told>>,
}

/// What a lane waits for, and what that means for whoever stands in it.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    /// The one that binds first.
    pub(super) constraints: Vec<Constraint>,
    way: Way,
    obstacle: Option<String>,
    until: Option<DateTime<Utc>>,
}

impl Explain {
    /// What living daemons told of `lanes`.
    pub(super) async fn waits(
        &self,
        scope: TenantScope,
        lanes: Vec<i32>,
    ) -> Result<Waits, sqlx::Error> {
        let ttl = self.ttl.as_secs_f64();
        let rows: Vec<Told> = scope
            .run(&self.pool, move |conn| {
                sqlx::query_as(include_str!("sql/waits.sql"))
                    .bind(lanes)
                    .bind(ttl)
                    .fetch_all(conn)
                    .boxed()
            })
            .await?;
        let mut waits = Waits::default();
        for told in rows {
            if told.lane_id == 0 {
                waits.living = told.lane_rate as u32;
            } else {
                waits.lanes.entry(told.lane_id).or_default().push(told);
            }
        }
        Ok(waits)
    }

    /// What operators hold back of a lane.
    pub(super) async fn pauses(
        &self,
        scope: TenantScope,
        place: &Place,
        blocks: &[Block],
        now: DateTime<Utc>,
    ) -> Result<Vec<Constraint>, sqlx::Error> {
        if self.eyes == Eyes::Operator {
            return Ok(recorded_pauses(place, blocks, now));
        }
        let (pool, stream, lane) = (place.pool, place.stream_id, place.lane);
        let rows: Vec<Pause> = scope
            .run(&self.pool, move |conn| {
                sqlx::query_as(include_str!("sql/blocks.sql"))
                    .bind(scope.tenant().get())
                    .bind(pool)
                    .bind(stream)
                    .bind(lane)
                    .fetch_all(conn)
                    .boxed()
            })
            .await?;
        Ok(rows
            .into_iter()
            .map(|(kind, reason, since, until)| Constraint {
                what: Some(place.name_of(&kind)),
                reason,
                until,
                ..Constraint::of("paused", Some(since))
            })
            .collect())
    }

    /// All blocks, where they may be seen.
    pub(super) async fn blocks(&self) -> Result<Vec<Block>, sqlx::Error> {
        match self.eyes {
            Eyes::Operator => pause::blocks(&self.pool).await,
            Eyes::Tenant => Ok(Vec::new()),
        }
    }

    /// Puts together what a lane waits for.
    pub(super) fn standing(
        &self,
        place: &Place,
        pauses: Vec<Constraint>,
        waits: &Waits,
    ) -> Standing {
        let told = waits.lanes.get(&place.lane).map_or(&[][..], Vec::as_slice);
        let mut way =
            Way { lane_rate: told.iter().map(|told| told.lane_rate).sum(), ..Way::default() };
        if !pauses.is_empty() {
            let ends = pauses.iter().map(|pause| pause.until).collect::<Option<Vec<_>>>();
            let until = ends.and_then(|ends| ends.into_iter().max());
            let obstacle = match until {
                Some(_) => "what has gathered by the end of the pause goes first",
                None => "it is held back until somebody lets it go",
            };
            return Standing { constraints: pauses, way, obstacle: Some(obstacle.into()), until };
        }
        if waits.living == 0 {
            return Standing {
                constraints: vec![Constraint::of("no_worker", None)],
                way,
                obstacle: Some("no daemon is running".into()),
                until: None,
            };
        }
        // A replica that could go on at once decides; else the limit, else the daemon's pause.
        let kind = |kind| told.iter().find(|told| HoldKind::of(&told.reason) == kind);
        let limit = kind(HoldKind::Limit);
        let Some(binding) = kind(HoldKind::Capacity).or(limit).or(kind(HoldKind::Pause)) else {
            return Standing {
                constraints: vec![Constraint::of("turn", None)],
                way,
                obstacle: None,
                until: None,
            };
        };
        let since = told.iter().map(|told| told.since).min();
        let mut constraint = Constraint {
            what: binding.limit_key.clone(),
            allows: binding.limit_text.clone(),
            rate_per_second: binding.limit_rate,
            until: binding.until,
            ..Constraint::of(&binding.reason, since)
        };
        let shared = !binding.limit_key.as_deref().is_some_and(|key| key.starts_with("tenant "));
        if self.eyes == Eyes::Tenant && shared && binding.limit_key.is_some() {
            // What others share is said without its numbers.
            let key = binding.limit_key.as_deref().unwrap_or_default();
            let all = if key.starts_with("mailbox provider ") {
                format!("all mail to {}", place.mailbox_provider)
            } else {
                "mail that leaves by the same way".to_owned()
            };
            constraint =
                Constraint { what: Some(all), allows: None, rate_per_second: None, ..constraint };
        }
        way.limit_rate = constraint.rate_per_second;
        let obstacle = (HoldKind::of(&binding.reason) == HoldKind::Pause)
            .then(|| "it is held back until somebody lets it go".to_owned());
        Standing { constraints: vec![constraint], way, obstacle, until: binding.until }
    }
}

impl Place {
    /// A block's scope with the name it has here.
    fn name_of(&self, scope: &str) -> String {
        let parts = scope.split('+').map(|part| match part {
            "tenant" => format!("tenant {}", self.tenant),
            "stream" => format!("stream {}", self.stream),
            "mailbox-provider" => format!("all mail to {}", self.mailbox_provider),
            "lane" => format!("lane {}", self.lane),
            other => other.to_owned(),
        });
        parts.collect::<Vec<_>>().join(", ")
    }
}

/// Scope in words, reason, since when, until when.
type Pause = (String, Option<String>, DateTime<Utc>, Option<DateTime<Utc>>);

/// What holds a lane back, with who did it, for an operator's eyes.
fn recorded_pauses(place: &Place, blocks: &[Block], now: DateTime<Utc>) -> Vec<Constraint> {
    let holds = |block: &&Block| {
        block.holds(&place.tenant, &place.stream, &place.mailbox_provider, place.lane)
    };
    let left = |block: &Block| {
        block.seconds_left.map(|left| now + TimeDelta::milliseconds((left * 1e3) as i64))
    };
    let pause = |block: &Block| Constraint {
        what: Some(place.name_of(&block.scope)),
        reason: Some(block.reason.clone()),
        by: block.actor.clone(),
        until: left(block),
        ..Constraint::of("paused", Some(block.since))
    };
    blocks.iter().filter(holds).map(pause).collect()
}

impl Standing {
    /// Deliveries of the lane a second, lately.
    pub(super) const fn lane_rate(&self) -> f64 {
        self.way.lane_rate
    }

    /// When the delivery is expected to go that has `before` before it.
    pub(super) fn expected(&self, before: Depth, now: DateTime<Utc>) -> Expected {
        if let Some(obstacle) = &self.obstacle {
            return Expected {
                earliest: self.until,
                latest: None,
                unknown: Some(obstacle.clone()),
            };
        }
        let pause = self.until.map_or(0.0, |at| seconds(at - now).max(0.0));
        let span = estimate::span(before, Way { pause, ..self.way });
        let nothing_told = self.way.lane_rate <= 0.0 && self.constraints[0].since.is_none();
        if nothing_told && before.count == 0 {
            return Expected { earliest: Some(now), latest: Some(now + AT_ONCE), unknown: None };
        }
        let unknown = span.latest.is_none().then(|| {
            if before.at_least {
                format!("more than {} are before it in its lane", before.count)
            } else {
                "nothing of its lane has gone in the last half minute".to_owned()
            }
        });
        let at = |span: f64| {
            (span.is_finite() && span < 1e10)
                .then(|| now + TimeDelta::milliseconds((span * 1e3) as i64))
        };
        Expected { earliest: at(span.earliest), latest: span.latest.and_then(at), unknown }
    }
}

fn seconds(delta: TimeDelta) -> f64 {
    delta.num_milliseconds() as f64 / 1e3
}
