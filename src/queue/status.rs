//! What a tenant is told of its messages and deliveries, in the form it is sent.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::domain::ids::{DeliveryId, MessageId};

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// Waits for its turn.
    Queued,
    /// Waits for the message's `send_at`.
    Scheduled,
    /// In the hands of a worker.
    Sending,
    /// Was refused for now; waits for the next try.
    Deferred,
    /// A peer took it.
    Delivered,
    /// Refused for good.
    Bounced,
    /// Its time was over before anyone took it.
    Expired,
    /// The recipient must not be written to.
    Suppressed,
    /// Called back.
    Cancelled,
    /// Cannot be processed; an operator must look.
    DeadLettered,
}

impl DeliveryState {
    /// Every state.
    pub const ALL: [Self; 10] = [
        Self::Queued,
        Self::Scheduled,
        Self::Sending,
        Self::Deferred,
        Self::Delivered,
        Self::Bounced,
        Self::Expired,
        Self::Suppressed,
        Self::Cancelled,
        Self::DeadLettered,
    ];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Scheduled => "scheduled",
            Self::Sending => "sending",
            Self::Deferred => "deferred",
            Self::Delivered => "delivered",
            Self::Bounced => "bounced",
            Self::Expired => "expired",
            Self::Suppressed => "suppressed",
            Self::Cancelled => "cancelled",
            Self::DeadLettered => "dead_lettered",
        }
    }

    /// The state of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// How the history calls an end.
    pub(super) const fn kind_of_end(self) -> Option<i16> {
        match self {
            Self::Delivered => Some(1),
            Self::Bounced => Some(2),
            Self::Expired => Some(3),
            Self::Suppressed => Some(4),
            Self::Cancelled => Some(5),
            _ => None,
        }
    }
}

/// A message and how far it has come.
#[derive(Debug, Clone, Serialize)]
pub struct MessageStatus {
    /// The message.
    pub id: MessageId,
    /// Its stream.
    pub stream: String,
    /// The author, as submitted.
    pub from: Option<String>,
    /// The subject, as submitted (a template).
    pub subject: Option<String>,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// Not sent before.
    pub send_at: Option<DateTime<Utc>>,
    /// Given up at.
    pub expires_at: DateTime<Utc>,
    /// When it was called back.
    pub cancelled_at: Option<DateTime<Utc>>,
    /// Deliveries ever queued; the sum of `deliveries`.
    pub accepted: u64,
    /// Recipients left out at submission because they must not be written to.
    pub suppressed: u64,
    /// Deliveries by state.
    pub deliveries: Counts,
    /// What the tenant attached for itself.
    pub metadata: Option<Box<RawValue>>,
}

/// Deliveries by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the fields are the states")]
pub struct Counts {
    pub queued: u64,
    pub scheduled: u64,
    pub sending: u64,
    pub deferred: u64,
    pub delivered: u64,
    pub bounced: u64,
    pub expired: u64,
    pub suppressed: u64,
    pub cancelled: u64,
    pub dead_lettered: u64,
}

/// One line of a page of deliveries.
#[derive(Debug, Clone, Serialize)]
pub struct DeliverySummary {
    /// The delivery.
    pub id: DeliveryId,
    /// The recipient.
    pub to: String,
    /// Where it stands.
    pub state: DeliveryState,
    /// Attempts that counted.
    pub attempts: u32,
    /// The reply code of its end, where there was one.
    pub code: Option<i16>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// When it is tried again.
    pub next_at: Option<DateTime<Utc>>,
}

/// A page of deliveries.
#[derive(Debug, Clone, Serialize)]
pub struct Page {
    /// Its lines, oldest delivery first.
    pub deliveries: Vec<DeliverySummary>,
    /// Where the next page begins; `None`: this was the last. A page may be
    /// short, even empty, and still have a next one.
    pub next_cursor: Option<DeliveryId>,
}

/// A delivery and its history.
#[derive(Debug, Clone, Serialize)]
pub struct Delivery {
    /// The delivery.
    pub id: DeliveryId,
    /// Its message.
    pub message_id: MessageId,
    /// The recipient.
    pub to: String,
    /// Where it stands.
    pub state: DeliveryState,
    /// Attempts that counted.
    pub attempts: u32,
    /// Given up at.
    pub expires_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// When it is tried again.
    pub next_at: Option<DateTime<Utc>>,
    /// Why it cannot be processed, when it is a dead letter.
    pub dead_letter: Option<DeadReason>,
    /// What was tried and how it ended, oldest first.
    pub history: Vec<Attempt>,
}

/// Why a delivery is a dead letter.
#[derive(Debug, Clone, Serialize)]
pub struct DeadReason {
    /// In a word.
    pub reason: String,
    /// In a sentence.
    pub detail: Option<String>,
}

/// One line of a delivery's history.
#[derive(Debug, Clone, Serialize)]
pub struct Attempt {
    /// When it ended.
    pub at: DateTime<Utc>,
    /// Its number, from 1; 0 when nothing was tried.
    pub attempt: u32,
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// The mail may have been taken although this was not its last attempt.
    pub in_doubt: bool,
    /// The peer's reply code.
    pub code: Option<i16>,
    /// When it is tried again.
    pub next_at: Option<DateTime<Utc>>,
    /// Route, source, host, ip, tls, provider, stage, class, reach, enhanced, reply, cause, took_ms.
    #[serde(flatten)]
    pub detail: serde_json::Map<String, serde_json::Value>,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "as DeliveryState, and some of its own")]
pub enum AttemptOutcome {
    Delivered,
    Bounced,
    Expired,
    Suppressed,
    Cancelled,
    DeadLettered,
    Deferred,
    /// Its worker died.
    Interrupted,
    /// No attempt: a report about the mail came back.
    Reported,
}

impl AttemptOutcome {
    /// As the history numbers it.
    pub(super) const fn of_kind(kind: i16) -> Self {
        match kind {
            1 => Self::Delivered,
            2 => Self::Bounced,
            3 => Self::Expired,
            4 => Self::Suppressed,
            5 => Self::Cancelled,
            6 => Self::DeadLettered,
            7 => Self::Deferred,
            9 => Self::Reported,
            _ => Self::Interrupted,
        }
    }
}

impl Counts {
    /// All of them.
    pub const fn sum(&self) -> u64 {
        self.queued
            + self.scheduled
            + self.sending
            + self.deferred
            + self.delivered
            + self.bounced
            + self.expired
            + self.suppressed
            + self.cancelled
            + self.dead_lettered
    }
}
