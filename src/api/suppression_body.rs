//! What is said and asked about entries of a list.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::error::Problem;
use crate::tenant::suppression::{Entry, Keeper, Listed, Past, Subject, is_stream, plain};

/// Longest reason in characters.
const MAX_REASON: usize = 200;

/// A new entry.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewEntry {
    address: String,
    stream: Option<String>,
    reason: Option<String>,
    expires_at: Option<DateTime<Utc>>,
}

/// What became of it.
#[derive(Debug, Serialize)]
pub struct Added {
    /// As it is compared.
    address: String,
    /// False: it was there already, and lasts as long.
    added: bool,
}

/// A page.
#[derive(Debug, Serialize)]
pub struct ListPage {
    suppressions: Vec<Listed>,
    /// Where the next page begins; `null`: this is the last one.
    next_cursor: Option<String>,
}

/// What is known of an address or a domain.
#[derive(Debug, Serialize)]
pub struct Known {
    /// As it is compared.
    pub address: String,
    /// Whether any mail of any stream would be held back.
    pub suppressed: bool,
    /// The tenant's own entries about it, and about its domain.
    pub entries: Vec<Listed>,
    /// Whether the operator holds it back for all tenants.
    pub everywhere: bool,
    /// Entries that are no more.
    pub past: Vec<Past>,
    /// Days on which its mailbox took no mail.
    pub soft_failures: i32,
}

/// What was taken off.
#[derive(Debug, Serialize)]
pub struct Removed {
    pub(super) removed: Vec<Past>,
}

impl NewEntry {
    pub(super) fn checked(
        self,
        keeper: &Keeper,
        now: DateTime<Utc>,
    ) -> Result<(Subject, Entry), Problem> {
        let subject = subject(&self.address)?;
        if let Some(at) = self.expires_at.filter(|at| *at <= now) {
            return Err(Problem::field(
                "expires_at",
                format_args!("expected a time to come, found {at}"),
            ));
        }
        let entry = Entry {
            address: keeper.entry(&subject),
            stream: self.stream.map(stream).transpose()?,
            reason: reason(self.reason, "added by the API")?,
            source: "api",
            expires_at: self.expires_at,
        };
        Ok((subject, entry))
    }
}

impl Added {
    pub(super) fn new(subject: &Subject, new: u64) -> Self {
        Self { address: subject.to_string(), added: new > 0 }
    }
}

impl ListPage {
    pub(super) fn new(suppressions: Vec<Listed>, limit: i64) -> Self {
        let full = suppressions.len() as i64 == limit;
        let next_cursor = suppressions.last().filter(|_| full).map(|last| {
            let stream = last.stream.as_deref().unwrap_or_default();
            URL_SAFE_NO_PAD.encode(format!("{}\n{stream}", last.address))
        });
        Self { suppressions, next_cursor }
    }
}

/// Address and stream of the last entry before a page.
pub(super) fn cursor(text: &str) -> Result<(String, String), Problem> {
    let read = || {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let (address, stream) = text.split_once('\n')?;
        (!text.contains('\0')).then(|| (address.to_owned(), stream.to_owned()))
    };
    read().ok_or_else(|| Problem::parameter("cursor", "expected next_cursor of the page before"))
}

/// An address, or a domain as `@example.org`.
pub(super) fn subject(text: &str) -> Result<Subject, Problem> {
    Subject::try_new(text).map_err(|error| Problem::field("address", error))
}

pub(super) fn stream(name: String) -> Result<String, Problem> {
    if is_stream(&name) {
        return Ok(name);
    }
    Err(Problem::field("stream", "expected the name of a stream"))
}

pub(super) fn reason(given: Option<String>, default: &str) -> Result<String, Problem> {
    let Some(text) = given.filter(|text| !text.is_empty()) else { return Ok(default.to_owned()) };
    if text.chars().count() > MAX_REASON || text.chars().any(char::is_control) {
        let expected = format!("expected 1 to {MAX_REASON} characters without line breaks");
        return Err(Problem::field("reason", expected));
    }
    Ok(plain(&text))
}
