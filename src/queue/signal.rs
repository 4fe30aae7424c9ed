//! What each daemon tells the others of itself: how fast it goes, what it could, and why
//! lanes wait.
//!
//! One statement for each session and second, and none while nothing changes. Only changes
//! of lanes travel, a bounded number at a time. The tables are unlogged: after a crash of
//! the database they are empty, which the next statement notices ([`Told::Anew`]).
//! Rows of sessions that no longer live mean nothing and are swept now and then.

use std::time::Duration;

use sqlx::PgPool;

use crate::domain::ids::{LaneId, SessionId, TenantId};
use crate::domain::outcome::WaitReason;

/// The two kinds of streams, as configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// One mail for one event.
    Transactional,
    /// Campaigns.
    Bulk,
}

impl Class {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Transactional, Self::Bulk];

    /// Of a stream that is bulk, or is not.
    pub const fn of(bulk: bool) -> Self {
        if bulk { Self::Bulk } else { Self::Transactional }
    }

    /// The name in metrics and answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Transactional => "transactional",
            Self::Bulk => "bulk",
        }
    }

    /// Its place in [`Self::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// For what a lane waits that holds work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// An operator holds it back.
    Paused,
    /// A limit.
    Limit(WaitReason),
    /// The tenant has as much in hand as it may in this process.
    TenantRoom,
    /// All places are taken, and other tenants want some too.
    Fairness,
    /// All places are taken.
    NoRoom,
    /// For nothing but the mail before it: it is being worked off.
    Turn,
}

/// What a reason means for whoever adds or removes capacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldKind {
    /// Somebody must let it go.
    Pause,
    /// A limit; more capacity would change nothing.
    Limit,
    /// More capacity would help.
    Capacity,
}

impl Hold {
    /// As stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Paused => "paused",
            Self::Limit(reason) => reason.as_str(),
            Self::TenantRoom => "tenant_room",
            Self::Fairness => "fairness",
            Self::NoRoom => "no_room",
            Self::Turn => "turn",
        }
    }

    /// Whether only capacity is missing.
    pub fn is_for_capacity(self) -> bool {
        HoldKind::of(self.as_str()) == HoldKind::Capacity
    }
}

impl HoldKind {
    /// What a stored reason means. One that this version does not know was given by a limit
    /// of a newer one: that it be sent at once is the one thing that is not so.
    pub fn of(reason: &str) -> Self {
        match reason {
            "paused" => Self::Pause,
            "tenant_room" | "fairness" | "no_room" | "turn" => Self::Capacity,
            _ => Self::Limit,
        }
    }
}

/// What a session tells of itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Signal {
    /// Deliveries that came to an end by it, by [`Class::index`].
    pub ended: [u64; 2],
    /// The same per second, over the last half minute.
    pub rate: [f64; 2],
    /// Deliveries in hand.
    pub in_hand: u32,
    /// Deliveries it may have in hand.
    pub slots: u32,
    /// Ends per second when work waited for nothing but this process; `None`: not seen yet.
    pub capacity: Option<f64>,
}

/// Why a lane waits, as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct LaneWait {
    /// Which lane.
    pub lane: LaneId,
    /// Whose.
    pub tenant: TenantId,
    /// For what.
    pub hold: Hold,
    /// The limit that binds, in words.
    pub limit_key: Option<String>,
    /// What it allows, in words.
    pub limit_text: Option<String>,
    /// What it allows a second.
    pub limit_rate: Option<f64>,
    /// Deliveries of the lane that this session takes on a second.
    pub lane_rate: f64,
    /// How long it has waited.
    pub waited: Duration,
    /// How long until it is asked again, where that is known.
    pub left: Option<Duration>,
}

/// What changed since the last time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changes {
    /// The rows of this session hold nothing that we know of: all others go.
    pub anew: bool,
    /// Lanes that wait no longer.
    pub gone: Vec<LaneId>,
    /// Lanes that wait, or wait for something else.
    pub waits: Vec<LaneWait>,
}

/// What telling met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// What was told before is there.
    Further,
    /// Nothing was there: everything must be told again.
    Anew,
    /// The session is fenced; nobody listens.
    Fenced,
}

/// Tells what `session` has to say.
pub async fn tell(
    pool: &PgPool,
    session: SessionId,
    signal: &Signal,
    changes: &Changes,
) -> Result<Told, sqlx::Error> {
    let waits = &changes.waits;
    let gone: Vec<i32> = changes.gone.iter().map(|lane| lane.get()).collect();
    let lanes: Vec<i32> = waits.iter().map(|wait| wait.lane.get()).collect();
    let tenants: Vec<i64> = waits.iter().map(|wait| wait.tenant.get()).collect();
    let reasons: Vec<&str> = waits.iter().map(|wait| wait.hold.as_str()).collect();
    let keys: Vec<Option<&str>> = waits.iter().map(|wait| wait.limit_key.as_deref()).collect();
    let texts: Vec<Option<&str>> = waits.iter().map(|wait| wait.limit_text.as_deref()).collect();
    let limits: Vec<Option<f64>> = waits.iter().map(|wait| wait.limit_rate).collect();
    let rates: Vec<f64> = waits.iter().map(|wait| wait.lane_rate).collect();
    let waited: Vec<f64> = waits.iter().map(|wait| wait.waited.as_secs_f64()).collect();
    let left: Vec<Option<f64>> =
        waits.iter().map(|wait| wait.left.map(|left| left.as_secs_f64())).collect();
    let fresh: Option<bool> = sqlx::query_scalar(include_str!("sql/tell_signal.sql"))
        .bind(session.get())
        .bind(signal.ended[0] as i64)
        .bind(signal.ended[1] as i64)
        .bind(signal.rate[0])
        .bind(signal.rate[1])
        .bind(i32::try_from(signal.in_hand).unwrap_or(i32::MAX))
        .bind(i32::try_from(signal.slots).unwrap_or(i32::MAX))
        .bind(signal.capacity)
        .bind(changes.anew)
        .bind(gone)
        .bind(lanes)
        .bind(tenants)
        .bind(reasons)
        .bind(keys)
        .bind(texts)
        .bind(limits)
        .bind(rates)
        .bind(waited)
        .bind(left)
        .fetch_optional(pool)
        .await?;
    Ok(match fresh {
        None => Told::Fenced,
        Some(true) => Told::Anew,
        Some(false) => Told::Further,
    })
}

/// Drops what sessions told that no longer live.
pub async fn sweep(pool: &PgPool) -> Result<(), sqlx::Error> {
    sqlx::query(include_str!("sql/sweep_signals.sql")).execute(pool).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_capacity_counts_as_capacity() {
        for hold in [Hold::TenantRoom, Hold::Fairness, Hold::NoRoom, Hold::Turn] {
            assert!(hold.is_for_capacity(), "{hold:?}");
        }
        for reason in [WaitReason::Rate, WaitReason::Concurrency, WaitReason::NotReady] {
            assert!(!Hold::Limit(reason).is_for_capacity(), "{reason:?}");
        }
        assert_eq!(HoldKind::of("paused"), HoldKind::Pause);
        assert_eq!(HoldKind::of("of a newer version"), HoldKind::Limit);
    }
}
