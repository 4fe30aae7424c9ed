//! What providers tell by HTTP about mail that they took.
//!
//! In two steps, like the mail that comes back. [`verify`] holds a request against the keys of
//! the provider and takes it apart into events; the API stores them ([`store`]) and says 200 only
//! then. What an event means is found out later, by a daemon ([`said`]), and goes the way of
//! reports (`maintenance/reports.rs`). Nothing here changes a delivery.
//!
//! [`sns`] has the signatures of SES's messenger and [`certificates`] their keys; what each
//! provider writes is in a file of its own.

mod certificates;
mod event;
mod fields;
mod mailgun;
mod refusal;
pub mod said;
mod sendgrid;
mod ses;
mod sns;
pub mod store;
pub mod verify;

pub use self::event::{Event, Opened, Token};
pub use self::refusal::Refusal;

/// Who tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// Amazon SES, through SNS.
    Ses,
    /// Twilio SendGrid.
    SendGrid,
    /// Sinch Mailgun.
    Mailgun,
}

impl Origin {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Ses, Self::SendGrid, Self::Mailgun];

    /// The name in paths, metrics, the database and the history.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ses => "ses",
            Self::SendGrid => "sendgrid",
            Self::Mailgun => "mailgun",
        }
    }

    /// The one of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|origin| origin.as_str() == name)
    }
}
