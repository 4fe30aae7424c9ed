//! Which recipients are let in.

use std::time::Duration;

use crate::config::Settings;
use crate::domain::clock::Clock;
use crate::domain::ids::DeliveryId;
use crate::message::return_path::{NotOurs, Purpose, ReturnKey};

/// Knows the addresses that mail is taken for.
#[derive(Debug, Clone)]
pub struct Door {
    key: ReturnKey,
    honour: Duration,
    complaint_address: Option<String>,
    clock: Clock,
}

/// What a recipient address stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// The return path of a delivery.
    Return(DeliveryId),
    /// Unsubscribing the recipient of a delivery.
    Unsubscribe(DeliveryId),
    /// Complaints of providers.
    Complaint,
}

impl Destination {
    /// The name in the database and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Return(_) => "return",
            Self::Unsubscribe(_) => "unsubscribe",
            Self::Complaint => "complaint",
        }
    }

    /// The delivery that it is for.
    pub const fn delivery(self) -> Option<DeliveryId> {
        match self {
            Self::Return(delivery) | Self::Unsubscribe(delivery) => Some(delivery),
            Self::Complaint => None,
        }
    }
}

/// Why a recipient is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// No address of ours.
    Unknown,
    /// One of ours that is no longer honoured.
    TooOld,
}

impl Refused {
    /// The name in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::TooOld => "too_old",
        }
    }

    /// The reply.
    pub(super) const fn reply(self) -> &'static [u8] {
        match self {
            Self::Unknown => b"550 5.1.1 no such address here\r\n",
            Self::TooOld => b"550 5.1.6 this address is no longer in use\r\n",
        }
    }
}

impl Door {
    /// The door of an installation; `None` without its key.
    pub fn new(settings: &Settings, clock: Clock) -> Option<Self> {
        Some(Self {
            key: ReturnKey::of(&settings.secrets)?,
            honour: settings.feedback.honour,
            complaint_address: settings.inbound.complaint_address.clone(),
            clock,
        })
    }

    /// What an address stands for. The HMAC is the proof, so the domain is not asked: a tenant
    /// may use its own.
    pub fn admit(&self, address: &str) -> Result<Destination, Refused> {
        let folded = address.to_ascii_lowercase();
        if self.complaint_address.as_deref() == Some(folded.as_str()) {
            return Ok(Destination::Complaint);
        }
        let local = folded.rsplit_once('@').map_or(folded.as_str(), |(local, _)| local);
        match self.key.read(local, self.clock.unix_seconds(), self.honour) {
            Ok((Purpose::Return, delivery)) => Ok(Destination::Return(delivery)),
            Ok((Purpose::Unsubscribe, delivery)) => Ok(Destination::Unsubscribe(delivery)),
            Err(NotOurs::Forged) => Err(Refused::Unknown),
            Err(NotOurs::TooOld) => Err(Refused::TooOld),
        }
    }

    /// The delivery whose return path this is, wherever it was read.
    pub fn delivery_of(&self, address: &str) -> Option<DeliveryId> {
        self.admit(address).ok().and_then(Destination::delivery)
    }
}
