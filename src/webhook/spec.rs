//! What an endpoint is to be: as asked for, checked.

use crate::event::kind::{EventKind, UnknownKind};

/// Longest description in characters.
const LONGEST_DESCRIPTION: usize = 200;

/// Most events of one request.
pub const MOST_BATCH: u16 = 1_000;

/// Most requests at once.
pub const MOST_IN_FLIGHT: u16 = 64;

/// Most requests a second.
pub const MOST_PER_SECOND: u16 = 10_000;

/// A new endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spec {
    /// Where.
    pub url: String,
    /// For people.
    pub description: String,
    /// Which events; `None`: all.
    pub kinds: Option<Vec<EventKind>>,
    /// Events of one request; above 1 the body is an array.
    pub batch: u16,
    /// Requests at once.
    pub in_flight: u16,
    /// Requests a second; `None`: as fast as it answers.
    pub per_second: Option<u16>,
}

/// What is to be other from now on; `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub url: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// Which events; `Some(None)`: all.
    pub kinds: Option<Option<Vec<EventKind>>>,
    /// Events of one request.
    pub batch: Option<u16>,
    /// Requests at once.
    pub in_flight: Option<u16>,
    /// Requests a second; `Some(None)`: as fast as it answers.
    pub per_second: Option<Option<u16>>,
    /// Told (again, from where it was) or not.
    pub enabled: Option<bool>,
}

/// A field that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct SpecFault {
    /// Its name.
    pub field: &'static str,
    /// What was expected.
    pub reason: String,
}

impl SpecFault {
    /// A fault of `field`.
    pub fn new(field: &'static str, reason: impl std::fmt::Display) -> Self {
        Self { field, reason: reason.to_string() }
    }
}

/// The kinds of these names; an empty list or none: all.
pub fn kinds(names: Option<&[String]>) -> Result<Option<Vec<EventKind>>, SpecFault> {
    let names = names.filter(|names| !names.is_empty());
    let read = |names: &[String]| EventKind::read_all(names.iter().map(String::as_str));
    names.map(read).transpose().map_err(|error: UnknownKind| SpecFault::new("types", error))
}

/// A number within its bounds.
pub fn bounded(field: &'static str, number: u64, most: u16) -> Result<u16, SpecFault> {
    u16::try_from(number)
        .ok()
        .filter(|number| (1..=most).contains(number))
        .ok_or_else(|| SpecFault::new(field, format!("expected 1 to {most}, found {number}")))
}

/// A text for people.
pub fn description(text: &str) -> Result<String, SpecFault> {
    if text.chars().count() > LONGEST_DESCRIPTION || text.chars().any(char::is_control) {
        let reason =
            format!("expected {LONGEST_DESCRIPTION} characters without line breaks at most");
        return Err(SpecFault::new("description", reason));
    }
    Ok(text.to_owned())
}
