//! A replica without a network: it claims and settles by the statements of the daemon, and
//! what it claims is delivered at once, by nobody.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use postrider::domain::ids::LaneId;
use postrider::domain::outcome::Outcome;
use postrider::domain::receipt::{Receipt, Trail};
use postrider::domain::verdict::PeerReply;
use postrider::queue::Generation;
use postrider::queue::claim::{Want, claim};
use postrider::queue::session::Session;
use postrider::queue::settle::{Ending, Settlement, settle};
use postrider::tenant::suppression::Keeper;
use sqlx::PgPool;
use tokio::task::JoinSet;

/// How far behind the latest claimed `run_at` a lane is looked at again, as the daemon does.
const LOOK_BACK: Duration = Duration::from_secs(5);

/// Silence after which a session would be fenced: longer than any run.
const TTL: Duration = Duration::from_hours(1);

/// One session and what it remembers of the lanes.
pub(crate) struct Replica {
    pool: PgPool,
    session: Session,
    generation: Generation,
    after: HashMap<LaneId, DateTime<Utc>>,
    outcome: Outcome,
    trail: Trail,
}

impl Replica {
    /// Opens a session that claims from `generation`.
    pub(crate) async fn open(pool: &PgPool, generation: Generation) -> Result<Self, sqlx::Error> {
        Ok(Self {
            pool: pool.clone(),
            session: Session::open(pool, "bench", TTL).await?,
            generation,
            after: HashMap::new(),
            outcome: Outcome::Delivered(Receipt {
                reply: PeerReply { code: 250, enhanced: None, text: "2.0.0 Ok".into() },
            }),
            trail: Trail { route: Some("bench".into()), ..Trail::default() },
        })
    }

    /// Claims up to `per_lane` from each of `lanes`, hands each to a task that does nothing,
    /// and settles all as delivered; how many there were.
    pub(crate) async fn turn(
        &mut self,
        lanes: &[LaneId],
        per_lane: u32,
    ) -> Result<usize, sqlx::Error> {
        let wants: Vec<Want> = lanes
            .iter()
            .map(|lane| Want { lane: *lane, after: self.after.get(lane).copied(), take: per_lane })
            .collect();
        let claimed =
            claim(&self.pool, &Keeper::default(), self.session.id(), self.generation, &wants)
                .await?;
        for (lane, latest) in claimed.latest {
            self.after.insert(lane, latest - LOOK_BACK);
        }
        let mut handlers = JoinSet::new();
        for job in claimed.jobs {
            handlers.spawn(async move { job });
        }
        let settlements: Vec<Settlement> = handlers
            .join_all()
            .await
            .iter()
            .map(|job| Settlement::new(job, Ending::Delivered, &self.outcome, &self.trail))
            .collect();
        let Some(first) = settlements.first() else { return Ok(0) };
        let batch: Vec<&Settlement> = settlements.iter().collect();
        let settled = settle(&self.pool, self.session.id(), first.generation, &batch).await?;
        Ok(settled.len())
    }

    /// Ends the session.
    pub(crate) async fn close(self) -> Result<(), sqlx::Error> {
        self.session.close(&self.pool).await
    }
}
