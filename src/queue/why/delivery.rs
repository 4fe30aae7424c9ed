//! Why one delivery is where it is.

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::FutureExt;
use serde::Serialize;
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::facts::Place;
use super::{Constraint, Expected, Explain, Eyes, MOST_BEFORE};
use crate::domain::ids::{DeliveryId, MessageId};
use crate::queue::backlog::Depth;
use crate::queue::breaker;
use crate::queue::lookup::{Attempt, AttemptOutcome, Delivery, DeliveryState, Lookup};
use crate::tenant::isolation::TenantScope;
use crate::tenant::store;

/// How long what is called back, or past its time, waits for the maintenance.
const SWEPT_WITHIN: TimeDelta = TimeDelta::seconds(30);

/// Why a delivery is where it is.
#[derive(Debug, Clone, Serialize)]
pub struct WhyDelivery {
    /// The delivery.
    pub delivery: DeliveryId,
    /// Its message.
    pub message: MessageId,
    /// The recipient.
    pub to: String,
    /// Of which stream.
    pub stream: String,
    /// For whom.
    pub mailbox_provider: String,
    /// Where it stands.
    pub state: DeliveryState,
    /// Attempts that counted.
    pub attempts: u32,
    /// What it waits for, what binds first at the head; or how it ended.
    pub waits_for: Vec<Constraint>,
    /// Deliveries before it in its lane.
    pub before: Option<Depth>,
    /// Of the lanes that wait for capacity: its place by waiting time, and how many there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank: Option<(u64, u64)>,
    /// Deliveries of its lane that go a second at present.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lane_per_second: Option<f64>,
    /// When it is expected to go; absent where it has ended.
    pub expected: Option<Expected>,
    /// Given up at.
    pub expires_at: DateTime<Utc>,
    /// What can be done about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// All of it in plain words, line by line.
    pub words: Vec<String>,
}

/// Where a delivery belongs, and in whose hands it is.
struct Belongs {
    now: DateTime<Utc>,
    place: Place,
    send_at: Option<DateTime<Utc>>,
    cancelled_at: Option<DateTime<Utc>>,
    claimed: Option<(DateTime<Utc>, String)>,
}

impl Explain {
    /// Why a delivery is where it is; `None` when this tenant has no such delivery.
    pub async fn delivery(
        &self,
        scope: TenantScope,
        id: DeliveryId,
    ) -> Result<Option<WhyDelivery>, sqlx::Error> {
        let Some(known) = Lookup::new(self.pool.clone()).delivery(&scope, id).await? else {
            return Ok(None);
        };
        let row = scope
            .run(&self.pool, move |conn| {
                sqlx::query(include_str!("sql/lane_of.sql"))
                    .bind(id.get())
                    .fetch_optional(conn)
                    .boxed()
            })
            .await?;
        let Some(row) = row else { return Ok(None) };
        let belongs = Belongs::read(&row, scope, &self.pool, self.eyes).await?;
        let mut why = WhyDelivery {
            delivery: id,
            message: known.message_id,
            to: known.to.clone(),
            stream: belongs.place.stream.clone(),
            mailbox_provider: belongs.place.mailbox_provider.clone(),
            state: known.state,
            attempts: known.attempts,
            waits_for: Vec::new(),
            before: None,
            rank: None,
            lane_per_second: None,
            expected: None,
            expires_at: known.expires_at,
            advice: None,
            words: Vec::new(),
        };
        match known.state {
            DeliveryState::Sending => self.in_hand(&mut why, &belongs),
            DeliveryState::Scheduled => scheduled(&mut why, &belongs, &known),
            DeliveryState::Deferred => {
                deferred(&mut why, &belongs, &known);
                self.broken(&mut why).await?;
            }
            DeliveryState::Queued => self.queued(&mut why, scope, &belongs, &known).await?,
            DeliveryState::DeadLettered => self.dead(&mut why, &known),
            DeliveryState::Delivered
            | DeliveryState::Bounced
            | DeliveryState::Expired
            | DeliveryState::Suppressed
            | DeliveryState::Cancelled => self.ended(&mut why, &known),
        }
        why.words = super::words::delivery(&why);
        Ok(Some(why))
    }

    async fn queued(
        &self,
        why: &mut WhyDelivery,
        scope: TenantScope,
        belongs: &Belongs,
        known: &Delivery,
    ) -> Result<(), sqlx::Error> {
        let now = belongs.now;
        let over = belongs.cancelled_at.map(|at| ("cancelled", at));
        let over = over.or((known.expires_at <= now).then_some(("expired", known.expires_at)));
        if let Some((kind, since)) = over {
            why.waits_for = vec![Constraint::of(kind, Some(since))];
            let latest = Some(now + SWEPT_WITHIN);
            why.expected = Some(Expected { earliest: Some(now), latest, unknown: None });
            return Ok(());
        }
        let (lane, job) = (belongs.place.lane, why.delivery.get());
        let row = scope
            .run(&self.pool, move |conn| {
                sqlx::query(include_str!("sql/place.sql"))
                    .bind(lane)
                    .bind(job)
                    .bind(MOST_BEFORE)
                    .fetch_one(conn)
                    .boxed()
            })
            .await?;
        let place: Option<i64> = row.try_get("place")?;
        let (seen, run_at): (i64, Option<DateTime<Utc>>) =
            (row.try_get("seen")?, row.try_get("run_at")?);
        let later = run_at.filter(|at| *at > now);
        if let Some(at) = later.or(belongs.send_at.filter(|at| *at > now && known.attempts == 0)) {
            why.state = DeliveryState::Scheduled;
            wait_until(why, "scheduled", None, at);
            return Ok(());
        }
        let before = match place {
            Some(place) => Depth::exact(place.max(0) as u64),
            None if seen >= MOST_BEFORE => {
                Depth { at_least: true, ..Depth::exact(seen.max(0) as u64) }
            }
            // It moved while we looked: it has just been claimed.
            None => Depth::exact(0),
        };
        let blocks = self.blocks().await?;
        let pauses = self.pauses(scope, &belongs.place, &blocks, now).await?;
        let waits = self.waits(scope, vec![lane]).await?;
        let standing = self.standing(&belongs.place, pauses, &waits);
        why.expected = Some(standing.expected(before, now));
        why.lane_per_second = (standing.lane_rate() > 0.0).then(|| standing.lane_rate());
        why.before = Some(before);
        why.waits_for = standing.constraints;
        if why.waits_for[0].since.is_none() {
            // Nothing binds its lane: it waits since it was due.
            why.waits_for[0].since = run_at;
        }
        let kind = why.waits_for[0].kind.as_str();
        if self.eyes == Eyes::Operator && matches!(kind, "fairness" | "no_room" | "tenant_room") {
            why.rank = Some(self.rank(lane).await?);
        }
        why.advice = self.advice(&why.waits_for[0], belongs);
        Ok(())
    }

    /// Place by waiting time among the lanes that wait for capacity, from 1, and their number.
    async fn rank(&self, lane: i32) -> Result<(u64, u64), sqlx::Error> {
        let row = sqlx::query(include_str!("sql/rank.sql"))
            .bind(lane)
            .bind(self.ttl.as_secs_f64())
            .fetch_one(&self.pool)
            .await?;
        let (longer, lanes): (i64, i64) = (row.try_get("longer")?, row.try_get("lanes")?);
        Ok((longer.max(0) as u64 + 1, lanes.max(1) as u64))
    }

    /// What it was put back for because it does not answer, if that is so.
    async fn broken(&self, why: &mut WhyDelivery) -> Result<(), sqlx::Error> {
        let domain = why.to.rsplit_once('@').map(|(_, domain)| domain.to_ascii_lowercase());
        let (Eyes::Operator, Some(domain)) = (self.eyes, domain) else { return Ok(()) };
        for one in breaker::all(&self.pool, Some(&domain)).await? {
            let what = if one.host.is_empty() {
                one.spot
            } else {
                format!("{} ({}), {}", one.spot, one.host, one.state)
            };
            let broken = Constraint {
                what: Some(what),
                reason: Some(one.why),
                by: Some(one.worker),
                until: one.until,
                ..Constraint::of("breaker", Some(one.since))
            };
            why.waits_for.insert(0, broken);
        }
        Ok(())
    }

    fn in_hand(&self, why: &mut WhyDelivery, belongs: &Belongs) {
        let (since, worker) = belongs.claimed.clone().unzip();
        let by = worker.filter(|_| self.eyes == Eyes::Operator);
        why.waits_for = vec![Constraint { by, ..Constraint::of("in_hand", since) }];
        why.expected = Some(Expected {
            earliest: Some(belongs.now),
            latest: None,
            unknown: Some("it is being sent; how long the receiver takes cannot be said".into()),
        });
    }

    fn dead(&self, why: &mut WhyDelivery, known: &Delivery) {
        let dead = known.dead_letter.clone();
        why.waits_for = vec![Constraint {
            what: dead.as_ref().map(|dead| dead.reason.clone()),
            reason: dead.and_then(|dead| dead.detail),
            ..Constraint::of("dead_letter", known.ended_at)
        }];
        why.expected = Some(Expected {
            unknown: Some("it goes only if an operator replays it".into()),
            ..Expected::default()
        });
        why.advice = Some(match self.eyes {
            Eyes::Operator => format!(
                "mend what made it fail, then: postrider dead-letter replay {0}; or give it up: \
                 postrider dead-letter discard {0}",
                known.id
            ),
            Eyes::Tenant => {
                "mend the content and submit it anew, or ask the operator to replay it".into()
            }
        });
    }

    fn ended(&self, why: &mut WhyDelivery, known: &Delivery) {
        // What was reported later changed nothing.
        let last = known.history.iter().rfind(|one| one.outcome != AttemptOutcome::Reported);
        why.waits_for = vec![Constraint {
            what: Some(known.state.as_str().to_owned()),
            reason: last.and_then(said),
            by: last.and_then(|last| text(last, "host")),
            ..Constraint::of("ended", known.ended_at)
        }];
        if known.state == DeliveryState::Suppressed {
            why.advice = Some(match self.eyes {
                Eyes::Operator => {
                    format!("see: postrider suppression show --tenant NAME {}", known.to)
                }
                Eyes::Tenant => "the address is on your suppression list".into(),
            });
        }
    }

    fn advice(&self, binding: &Constraint, belongs: &Belongs) -> Option<String> {
        if self.eyes == Eyes::Tenant {
            return None;
        }
        let place = &belongs.place;
        match &*binding.kind {
            "paused" if binding.reason.as_deref() == Some("suspended") => {
                Some(format!("to let it go: postrider tenant activate {}", place.tenant))
            }
            "paused" => Some("to let it go: postrider queue resume, see its --help".into()),
            "no_worker" => Some("start postriderd".into()),
            "fairness" | "no_room" | "tenant_room" => {
                Some("more replicas would help: see /scale of any daemon".into())
            }
            _ => None,
        }
    }
}

fn scheduled(why: &mut WhyDelivery, belongs: &Belongs, known: &Delivery) {
    match known.next_at.or(belongs.send_at) {
        Some(at) => wait_until(why, "scheduled", None, at),
        None => why.waits_for = vec![Constraint::of("scheduled", None)],
    }
}

fn deferred(why: &mut WhyDelivery, belongs: &Belongs, known: &Delivery) {
    let last = known.history.iter().rev().find(|attempt| {
        matches!(attempt.outcome, AttemptOutcome::Deferred | AttemptOutcome::Interrupted)
    });
    let due = known.next_at.unwrap_or(belongs.now);
    // What nobody has tried was put back by us.
    let kind = if last.is_some() { "retry" } else { "put_back" };
    wait_until(why, kind, last, due);
}

/// It waits for a time, and joins its lane then.
fn wait_until(why: &mut WhyDelivery, kind: &str, last: Option<&Attempt>, at: DateTime<Utc>) {
    let mut constraint = Constraint::of(kind, last.map(|last| last.at));
    constraint.until = Some(at);
    constraint.reason = last.and_then(said);
    constraint.by = last.and_then(|last| text(last, "host"));
    why.waits_for = vec![constraint];
    why.expected = Some(Expected {
        earliest: Some(at),
        latest: None,
        unknown: Some("it joins its lane then; how long the lane is by then cannot be said".into()),
    });
}

/// What the peer said at an attempt, or what we found.
fn said(attempt: &Attempt) -> Option<String> {
    if attempt.outcome == AttemptOutcome::Interrupted {
        return Some("its worker died; it may have been delivered".into());
    }
    text(attempt, "reply").or_else(|| text(attempt, "cause"))
}

fn text(attempt: &Attempt, key: &str) -> Option<String> {
    attempt.detail.get(key).and_then(|value| value.as_str()).map(ToOwned::to_owned)
}

impl Belongs {
    async fn read(
        row: &PgRow,
        scope: TenantScope,
        pool: &sqlx::PgPool,
        eyes: Eyes,
    ) -> Result<Self, sqlx::Error> {
        // A tenant knows its own name; blocks, which are told by it, are the operator's to see.
        let tenant = match eyes {
            Eyes::Operator => store::name_of(pool, scope).await?.unwrap_or_default(),
            Eyes::Tenant => String::new(),
        };
        let claimed_at: Option<DateTime<Utc>> = row.try_get("claimed_at")?;
        let worker: Option<String> = row.try_get("worker")?;
        Ok(Self {
            now: row.try_get("now")?,
            place: Place {
                lane: row.try_get("lane_id")?,
                pool: row.try_get("pool_id")?,
                stream_id: row.try_get("stream_id")?,
                tenant,
                mailbox_provider: row.try_get("mailbox_provider")?,
                stream: row.try_get("stream")?,
            },
            send_at: row.try_get("send_at")?,
            cancelled_at: row.try_get("cancelled_at")?,
            claimed: claimed_at.zip(worker),
        })
    }
}
