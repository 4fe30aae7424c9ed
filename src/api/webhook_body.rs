//! What the bodies of `/v1/webhooks` may say.

use serde::{Deserialize, Deserializer};

use super::error::Problem;
use crate::config::Webhook;
use crate::webhook::sender::Sender;
use crate::webhook::spec::{self, MOST_BATCH, MOST_IN_FLIGHT, MOST_PER_SECOND, SpecFault};
use crate::webhook::{Change, Spec};

/// A new endpoint.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewEndpoint {
    url: String,
    #[serde(default)]
    description: String,
    types: Option<Vec<String>>,
    batch: Option<u64>,
    in_flight: Option<u64>,
    per_second: Option<u64>,
}

/// What is to be other.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::option_option, reason = "left out, null, or a value: three things")]
pub(super) struct ChangedEndpoint {
    url: Option<String>,
    description: Option<String>,
    #[serde(default, deserialize_with = "given")]
    types: Option<Option<Vec<String>>>,
    batch: Option<u64>,
    in_flight: Option<u64>,
    #[serde(default, deserialize_with = "given")]
    per_second: Option<Option<u64>>,
    enabled: Option<bool>,
}

/// From when on.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Replayed {
    pub(super) since: chrono::DateTime<chrono::Utc>,
}

/// Tells `null` from a field that is left out.
fn given<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    T::deserialize(deserializer).map(Some)
}

impl NewEndpoint {
    pub(super) fn checked(self, sender: &Sender, settings: &Webhook) -> Result<Spec, Problem> {
        let number = |field, value: Option<u64>, default, most| match value {
            None => Ok(default),
            Some(value) => spec::bounded(field, value, most),
        };
        Ok(Spec {
            url: url(&self.url, sender)?,
            description: spec::description(&self.description)?,
            kinds: spec::kinds(self.types.as_deref())?,
            batch: number("batch", self.batch, 1, MOST_BATCH)?,
            in_flight: number("in_flight", self.in_flight, settings.in_flight, MOST_IN_FLIGHT)?,
            per_second: rate(self.per_second)?,
        })
    }
}

impl ChangedEndpoint {
    pub(super) fn checked(self, sender: &Sender) -> Result<Change, Problem> {
        let number = |field, value: Option<u64>, most| {
            value.map(|value| spec::bounded(field, value, most)).transpose()
        };
        Ok(Change {
            url: self.url.map(|text| url(&text, sender)).transpose()?,
            description: self.description.map(|text| spec::description(&text)).transpose()?,
            kinds: self.types.map(|names| spec::kinds(names.as_deref())).transpose()?,
            batch: number("batch", self.batch, MOST_BATCH)?,
            in_flight: number("in_flight", self.in_flight, MOST_IN_FLIGHT)?,
            per_second: self.per_second.map(rate).transpose()?,
            enabled: self.enabled,
        })
    }
}

fn url(text: &str, sender: &Sender) -> Result<String, Problem> {
    let url = sender.check(text).map_err(|error| Problem::field("url", error))?;
    Ok(url.to_string())
}

fn rate(value: Option<u64>) -> Result<Option<u16>, SpecFault> {
    value.map(|value| spec::bounded("per_second", value, MOST_PER_SECOND)).transpose()
}

impl From<SpecFault> for Problem {
    fn from(fault: SpecFault) -> Self {
        Self::field(fault.field, fault.reason)
    }
}
