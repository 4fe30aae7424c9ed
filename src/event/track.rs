//! What a tenant is told when a mail is opened or a link in it is followed.

use sqlx::PgExecutor;

use crate::domain::ids::DeliveryId;

/// Most clicks that are told of one delivery in a day: whoever has a mail can follow its links
/// as often as he likes.
pub const CLICKS_A_DAY: i32 = 100;

/// Somebody, or something, asked for an address of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// In which mail it stands.
    pub delivery: DeliveryId,
    /// Where the link leads; `None`: the mail was opened.
    pub url: Option<String>,
    /// What asked, by its own words; short and clean.
    pub agent: Option<String>,
    /// Whether these words are a machine's.
    pub machine: bool,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// There is an event.
    Told,
    /// There was one in this hour.
    Repeated,
    /// There are [`CLICKS_A_DAY`].
    TooMany,
    /// The tenant listens to no events.
    Unheard,
    /// The tenant is on its way to another cell: nothing is written now.
    Moving,
    /// The delivery is not kept here: not any more, or in another cell.
    Unknown,
}

impl Told {
    /// The name in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Told => "told",
            Self::Repeated => "repeated",
            Self::TooMany => "too_many",
            Self::Unheard => "unheard",
            Self::Moving => "moving",
            Self::Unknown => "unknown",
        }
    }
}

/// Writes the event, in one statement: once an hour for each link of a delivery. Needs no scope:
/// the caller has verified an address that this installation signed for this delivery, and the
/// statement acts for its tenant. The connection acts as the API's role.
pub async fn tell<'e>(executor: impl PgExecutor<'e>, seen: &Seen) -> Result<Told, sqlx::Error> {
    let told: String = sqlx::query_scalar("select postrider.track($1, $2, $3, $4, $5)")
        .bind(seen.delivery.get())
        .bind(seen.url.as_deref())
        .bind(seen.agent.as_deref())
        .bind(seen.machine)
        .bind(CLICKS_A_DAY)
        .fetch_one(executor)
        .await?;
    match told.as_str() {
        "told" => Ok(Told::Told),
        "repeated" => Ok(Told::Repeated),
        "too_many" => Ok(Told::TooMany),
        "unheard" => Ok(Told::Unheard),
        "moving" => Ok(Told::Moving),
        "unknown" => Ok(Told::Unknown),
        other => Err(sqlx::Error::Decode(format!("track answered {other}").into())),
    }
}

/// Forgets what was told more than a day ago, at most `limit` rows; how many.
pub async fn forget<'e>(executor: impl PgExecutor<'e>, limit: i32) -> Result<u64, sqlx::Error> {
    let gone: i64 = sqlx::query_scalar("select postrider.forget_tracked($1)")
        .bind(limit)
        .fetch_one(executor)
        .await?;
    Ok(gone.unsigned_abs())
}
