//! The proof that nothing is lost and nothing ends twice.
//!
//! One statement on one snapshot adds up, for every message that is kept, where its
//! deliveries are. It reads everything, so it is for operators and tests; a million
//! deliveries take seconds. It may run beside a working daemon: a delivery moves
//! from place to place in one transaction, so every snapshot adds up.

use serde::{Deserialize, Serialize};
use sqlx::{PgPool, Row};

use crate::domain::ids::{DeliveryId, MessageId, TenantId};

/// What an audit looks at.
#[derive(Debug, Clone, Copy, Default)]
pub struct Extent {
    /// One tenant's messages only.
    pub tenant: Option<TenantId>,
    /// One message only.
    pub message: Option<MessageId>,
    /// Most offenders to name; all are counted.
    pub most: i64,
}

/// The sums over everything looked at, and what does not add up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// Messages looked at.
    pub messages: i64,
    /// Deliveries that were accepted.
    pub accepted: i64,
    /// Deliveries that have ended.
    pub ended: i64,
    /// Deliveries that are dead letters.
    pub dead: i64,
    /// Deliveries in ready, lease and deferred.
    pub waiting: i64,
    /// Messages that do not add up.
    pub offenders: i64,
    /// The first of them.
    pub detail: Vec<Offender>,
}

/// A message whose deliveries do not add up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offender {
    /// Which; absent where waiting rows have no job row that would tell.
    pub message: Option<MessageId>,
    /// Whose; absent where that tenant is gone.
    pub tenant: Option<String>,
    /// False: there are deliveries, but no message row.
    pub known: bool,
    /// Deliveries that were accepted.
    pub accepted: i64,
    /// Job rows.
    pub jobs: i64,
    /// Ends in the history.
    pub ended: i64,
    /// Dead letters.
    pub dead: i64,
    /// Waiting to be claimed.
    pub ready: i64,
    /// In a worker's hands.
    pub leased: i64,
    /// Waiting for their time.
    pub deferred: i64,
    /// Deliveries with more than one end.
    pub ended_twice: i64,
    /// Deliveries in more than one place.
    pub doubled: i64,
    /// Deliveries in no place.
    pub lost: i64,
    /// Deliveries that wait without their job row.
    pub homeless: i64,
    /// One delivery that shows it.
    pub example: Option<DeliveryId>,
}

impl Audit {
    /// Whether everything adds up.
    pub const fn adds_up(&self) -> bool {
        self.offenders == 0
    }

    /// Together with another cell's; at most `most` offenders are named.
    #[must_use]
    pub fn plus(mut self, other: Self, most: i64) -> Self {
        self.messages += other.messages;
        self.accepted += other.accepted;
        self.ended += other.ended;
        self.dead += other.dead;
        self.waiting += other.waiting;
        self.offenders += other.offenders;
        self.detail.extend(other.detail);
        self.detail.truncate(usize::try_from(most).unwrap_or(usize::MAX));
        self
    }
}

impl Offender {
    /// What is wrong, in words.
    pub fn faults(&self) -> Vec<String> {
        let held = self.ended + self.dead + self.ready + self.leased + self.deferred;
        let mut faults = Vec::new();
        let mut say = |count: i64, what: &str| {
            if count > 0 {
                faults.push(format!("{count} {what}"));
            }
        };
        say(self.ended_twice, "ended twice");
        say(self.doubled - self.ended_twice, "in two places");
        say(self.lost, "in no place");
        say(self.homeless, "waiting without a job row");
        if !self.known {
            faults.push("the message row is missing".into());
        } else if self.accepted != held {
            faults.push(format!("accepted {}, found {held}", self.accepted));
        } else if self.accepted != self.jobs {
            faults.push(format!("accepted {}, job rows {}", self.accepted, self.jobs));
        }
        faults
    }
}

/// Adds up. `pool` acts as the operator's role.
pub async fn audit(pool: &PgPool, extent: Extent) -> Result<Audit, sqlx::Error> {
    let pool = pool.clone();
    // In a task of its own, so that a caller that goes away cannot leave the
    // connection inside the transaction (docs/adr/0005).
    tokio::spawn(async move {
        // The hot tables are locked before the snapshot is taken: a truncation between
        // the two would hide rows whose move the snapshot does not show yet.
        let mut tx = pool.begin_with("begin isolation level repeatable read read only").await?;
        sqlx::raw_sql(
            "set local statement_timeout = 0;
             set local work_mem = '128MB';
             lock table postrider.ready, postrider.lease in access share mode",
        )
        .execute(&mut *tx)
        .await?;
        let row = sqlx::query(include_str!("sql/audit.sql"))
            .bind(extent.tenant.map(TenantId::get))
            .bind(extent.message.map(MessageId::get))
            .bind(extent.most)
            .fetch_one(&mut *tx)
            .await?;
        tx.commit().await?;
        let detail: String = row.try_get("detail")?;
        Ok(Audit {
            messages: row.try_get("messages")?,
            accepted: row.try_get("accepted")?,
            ended: row.try_get("ended")?,
            dead: row.try_get("dead")?,
            waiting: row.try_get("waiting")?,
            offenders: row.try_get("offenders")?,
            detail: serde_json::from_str(&detail)
                .map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
        })
    })
    .await
    .map_err(|error| sqlx::Error::Protocol(error.to_string()))?
}
