//! A job as claimed: what the worker has in hand.

use std::time::{Duration, Instant};

use super::Generation;
use crate::domain::ids::{DeliveryId, Hold, LaneId, MessageId, TenantId};
use crate::domain::outcome::Learned;

/// A claimed delivery. Whoever holds it must settle it.
#[derive(Debug, Clone)]
pub struct Job {
    /// The delivery.
    pub id: DeliveryId,
    /// Its message.
    pub message: MessageId,
    /// Whose it is.
    pub tenant: TenantId,
    /// Where it waited.
    pub lane: LaneId,
    /// The hot table that holds its lease.
    pub generation: Generation,
    /// The fence, with the session.
    pub hold: Hold,
    /// This attempt's number, from 1.
    pub attempt: u16,
    /// Its last worker died or its last attempt ended in doubt: it may have been delivered.
    pub suspect: bool,
    /// What is recorded of the attempt that left it in doubt.
    pub doubt: Option<InDoubt>,
    /// Why it must not be sent at all, as the database saw it at the claim.
    pub bar: Option<Bar>,
    /// Envelope recipient.
    pub recipient: String,
    /// Under which text the list of suppressions would have the recipient.
    pub listed: String,
    /// Personal part (JSON), if there is one.
    pub payload: Option<String>,
    /// How long it had been ready when it was claimed.
    pub waited: Duration,
    /// When it was claimed (this process's monotonic clock).
    pub claimed_at: Instant,
}

/// The attempt that left a delivery in doubt.
#[derive(Debug, Clone, PartialEq)]
pub struct InDoubt {
    /// The route that may have taken it; of a worker that died it is not known.
    pub route: Option<String>,
    /// How long ago it was.
    pub age: Duration,
}

/// Why a claimed delivery must not be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bar {
    /// It was in doubt, and an earlier worker's outcome has come to light.
    Learned(Learned),
    /// Its time is over.
    Expired,
    /// The recipient must not be written to.
    Suppressed,
    /// The tenant called the message back.
    Cancelled,
}
