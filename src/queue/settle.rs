//! One settlement per meaning, written in batches, fenced by session and hold.

use std::sync::LazyLock;
use std::time::Duration;

use serde::Serialize;
use sqlx::PgPool;

use super::job::Job;
use super::{Generation, PerGeneration};
use crate::domain::ids::{DeliveryId, Hold, MessageId, SessionId};
use crate::domain::outcome::{Learned, Outcome};
use crate::domain::receipt::Trail;
use crate::domain::verdict::{Cause, Class, PeerReply, Reach};

static SETTLE: LazyLock<PerGeneration> =
    LazyLock::new(|| PerGeneration::new(include_str!("sql/settle.sql")));

/// What is written about one attempt.
#[derive(Debug, Clone)]
pub struct Settlement {
    /// The delivery.
    pub job: DeliveryId,
    /// The fence.
    pub hold: Hold,
    /// Where the lease is.
    pub generation: Generation,
    message: MessageId,
    /// The meaning.
    pub ending: Ending,
    code: Option<i16>,
    detail: Option<String>,
    provider_id: Option<String>,
    /// Under which text the list of suppressions has the recipient.
    listed: String,
    /// Class of a failure that counts towards a suppression.
    soft: Option<&'static str>,
}

/// Everything that can be written, one variant per meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// A peer took it.
    Delivered,
    /// Refused for good; `condemned`: the address is dead and is suppressed.
    Bounced {
        /// Suppress the address.
        condemned: bool,
    },
    /// An earlier attempt had this end, which nobody could write then: no longer in doubt.
    Learned {
        /// A peer took it; else it was refused for good.
        delivered: bool,
    },
    /// Its time is over.
    Expired,
    /// The recipient must not be written to.
    Suppressed,
    /// Called back.
    Cancelled,
    /// Cannot go on without someone.
    Dead(DeadReason),
    /// To be tried again; `in_doubt`: it may have been taken already.
    Deferred {
        /// From now, by the database's clock; never past the expiry.
        delay: Duration,
        /// The next attempt may make a duplicate.
        in_doubt: bool,
    },
    /// Given back unspent.
    Released {
        /// Zero: ready at once.
        delay: Duration,
    },
}

/// Why a delivery is a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadReason {
    /// It cannot be rendered.
    Malformed,
    /// The code that carried it panicked time and again.
    Crashed,
    /// It may have been taken, and its stream says to hold such.
    Doubt,
}

impl DeadReason {
    /// As stored in `dead_letter.reason`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Crashed => "crashed",
            Self::Doubt => "doubt",
        }
    }
}

/// The numbers of `attempt.kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i16)]
pub enum Kind {
    /// Taken by a peer.
    Delivered = 1,
    /// Refused for good.
    Bounced = 2,
    /// Given up for age.
    Expired = 3,
    /// Not to be written to.
    Suppressed = 4,
    /// Called back.
    Cancelled = 5,
    /// Made a dead letter.
    Dead = 6,
    /// To be tried again.
    Deferred = 7,
    /// Its worker died.
    Interrupted = 8,
    /// Given back (never stored).
    Released = 9,
}

impl Kind {
    /// The name used in metrics and shown to people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Bounced => "bounced",
            Self::Expired => "expired",
            Self::Suppressed => "suppressed",
            Self::Cancelled => "cancelled",
            Self::Dead => "dead_lettered",
            Self::Deferred => "deferred",
            Self::Interrupted => "interrupted",
            Self::Released => "released",
        }
    }

    /// Whether nothing more is to be done, unless an operator replays it.
    pub const fn is_end(self) -> bool {
        !matches!(self, Self::Deferred | Self::Interrupted | Self::Released)
    }
}

impl Ending {
    /// What is stored of it.
    pub const fn kind(self) -> Kind {
        match self {
            Self::Delivered | Self::Learned { delivered: true } => Kind::Delivered,
            Self::Bounced { .. } | Self::Learned { delivered: false } => Kind::Bounced,
            Self::Expired => Kind::Expired,
            Self::Suppressed => Kind::Suppressed,
            Self::Cancelled => Kind::Cancelled,
            Self::Dead(_) => Kind::Dead,
            Self::Deferred { .. } => Kind::Deferred,
            Self::Released { .. } => Kind::Released,
        }
    }

    fn delay_ms(self) -> i64 {
        match self {
            Self::Deferred { delay, .. } | Self::Released { delay } => {
                i64::try_from(delay.as_millis()).unwrap_or(i64::MAX)
            }
            _ => 0,
        }
    }
}

impl Settlement {
    /// Whether it says for certain what a peer did with the letter.
    pub fn is_telling(&self) -> bool {
        matches!(self.ending, Ending::Delivered | Ending::Bounced { .. })
    }

    /// The peer's reply code.
    pub fn code(&self) -> Option<i16> {
        self.code
    }

    /// The evidence (JSON).
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }

    /// `None`: as its earlier attempts left it.
    fn in_doubt(&self) -> Option<bool> {
        match self.ending {
            Ending::Deferred { in_doubt: true, .. } | Ending::Dead(DeadReason::Doubt) => Some(true),
            Ending::Learned { .. } => Some(false),
            _ => None,
        }
    }

    /// What `ending` means for `job`, with the evidence.
    pub fn new(job: &Job, ending: Ending, outcome: &Outcome, trail: &Trail) -> Self {
        if let Outcome::Learned(learned) = outcome {
            return Self::learned(job, ending, learned);
        }
        let detail = Detail::of(outcome, trail);
        Self {
            job: job.id,
            hold: job.hold,
            generation: job.generation,
            message: job.message,
            ending,
            code: detail.code,
            provider_id: trail.provider_id.as_deref().map(ToOwned::to_owned),
            listed: job.listed.clone(),
            soft: soft_failure(ending, outcome),
            detail: match ending {
                Ending::Released { .. } => None,
                _ => serde_json::to_string(&detail).ok(),
            },
        }
    }

    /// The evidence is that of the attempt which made it, and says that it came late.
    fn learned(job: &Job, ending: Ending, learned: &Learned) -> Self {
        let evidence = learned.detail.as_deref().and_then(|json| serde_json::from_str(json).ok());
        let mut detail: serde_json::Map<String, serde_json::Value> = evidence.unwrap_or_default();
        detail.insert("learned_late".into(), true.into());
        Self {
            job: job.id,
            hold: job.hold,
            generation: job.generation,
            message: job.message,
            ending,
            code: learned.code,
            provider_id: detail.get("provider_id").and_then(|id| id.as_str()).map(Into::into),
            listed: job.listed.clone(),
            soft: None,
            detail: serde_json::to_string(&detail).ok(),
        }
    }
}

/// The class of a failure that says that this mailbox cannot take mail for now: it was full, also
/// where the mail is tried again; or it is switched off, or something that passes by itself ended
/// the mail for good. Policy, reputation and content say nothing of the mailbox.
fn soft_failure(ending: Ending, outcome: &Outcome) -> Option<&'static str> {
    let Outcome::Refused(verdict) = outcome else { return None };
    let counts = match ending {
        Ending::Bounced { condemned: false } => verdict.class.is_soft_of_mailbox(),
        Ending::Deferred { .. } => verdict.class == Class::MailboxFull,
        _ => false,
    };
    (counts && verdict.reach == Reach::Recipient).then(|| verdict.class.as_str())
}

/// The evidence of an attempt, as stored in `attempt.detail` (JSON).
#[derive(Debug, Default, Serialize)]
struct Detail<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<std::net::IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<&'a str>,
    /// Under which a provider took it.
    #[serde(skip_serializing_if = "Option::is_none")]
    provider_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stage: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reach: Option<&'static str>,
    /// What the peer said, and nothing else.
    #[serde(skip_serializing_if = "Option::is_none")]
    reply: Option<String>,
    /// What we found ourselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
    took_ms: u64,
    /// Its span (W3C Trace Context), where its trace is kept: what is told of it belongs there.
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<String>,
    #[serde(skip)]
    code: Option<i16>,
}

impl<'a> Detail<'a> {
    fn of(outcome: &'a Outcome, trail: &'a Trail) -> Self {
        let mut detail = Self {
            route: trail.route.as_deref(),
            source: trail.source.as_deref(),
            host: trail.host.as_deref(),
            ip: trail.peer,
            tls: trail.tls.as_deref(),
            provider_id: trail.provider_id.as_deref(),
            took_ms: trail.took.as_millis() as u64,
            trace: trail.notes.kept.map(|kept| kept.to_string()),
            ..Self::default()
        };
        match outcome {
            Outcome::Delivered(receipt) => detail.quote(&receipt.reply),
            Outcome::Refused(verdict)
            | Outcome::Unreached(verdict)
            | Outcome::Doubtful(verdict) => {
                detail.stage = Some(verdict.stage.as_str());
                detail.class = Some(verdict.class.as_str());
                detail.reach = Some(verdict.reach.as_str());
                match &verdict.cause {
                    Cause::Reply(reply) => detail.quote(reply),
                    ours => detail.cause = Some(ours.to_string()),
                }
            }
            Outcome::Malformed { reason } | Outcome::Crashed { reason } => {
                detail.cause = Some(reason.chars().take(LONGEST_REASON).collect());
            }
            Outcome::Postponed { .. }
            | Outcome::Learned(_)
            | Outcome::Suppressed
            | Outcome::Expired
            | Outcome::Cancelled => {}
        }
        detail
    }

    fn quote(&mut self, reply: &PeerReply) {
        self.code = i16::try_from(reply.code).ok();
        self.reply = Some(reply.to_string());
    }
}

/// Characters of an error of ours that are kept.
const LONGEST_REASON: usize = 500;

/// Writes settlements of one generation in one statement. Gives back the deliveries
/// that were settled; the others' leases were not `session`'s any more (fenced).
/// On an error nothing was written, or it is unknown whether it was: repeating is safe,
/// because the leases are gone if it was.
pub async fn settle(
    pool: &PgPool,
    session: SessionId,
    generation: Generation,
    batch: &[&Settlement],
) -> Result<Vec<DeliveryId>, sqlx::Error> {
    let column = |take: fn(&Settlement) -> i64| batch.iter().map(|s| take(s)).collect::<Vec<_>>();
    let kinds: Vec<i16> = batch.iter().map(|s| s.ending.kind() as i16).collect();
    let holds: Vec<i32> = batch.iter().map(|s| s.hold.get()).collect();
    let codes: Vec<Option<i16>> = batch.iter().map(|s| s.code).collect();
    let details: Vec<Option<&str>> = batch.iter().map(|s| s.detail.as_deref()).collect();
    let provider_ids: Vec<Option<&str>> = batch.iter().map(|s| s.provider_id.as_deref()).collect();
    let doubts: Vec<Option<bool>> = batch.iter().map(|s| s.in_doubt()).collect();
    let condemned: Vec<bool> =
        batch.iter().map(|s| matches!(s.ending, Ending::Bounced { condemned: true })).collect();
    let reasons: Vec<Option<&str>> = batch
        .iter()
        .map(|s| match s.ending {
            Ending::Dead(reason) => Some(reason.as_str()),
            _ => None,
        })
        .collect();
    let settled: Vec<i64> = sqlx::query_scalar(SETTLE.of(generation))
        .bind(session.get())
        .bind(column(|s| s.job.get()))
        .bind(holds)
        .bind(kinds)
        .bind(column(|s| s.message.get()))
        .bind(codes)
        .bind(column(|s| s.ending.delay_ms()))
        .bind(details)
        .bind(doubts)
        .bind(condemned)
        .bind(reasons)
        .bind(provider_ids)
        .bind(batch.iter().map(|s| s.listed.as_str()).collect::<Vec<_>>())
        .bind(batch.iter().map(|s| s.soft).collect::<Vec<_>>())
        .fetch_all(pool)
        .await?;
    Ok(settled.into_iter().map(DeliveryId::new).collect())
}
