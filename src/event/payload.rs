//! [`Event`]: what a tenant reads, the same by a webhook and by the API.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value};
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::kind::EventKind;
use crate::domain::ids::{DeliveryId, EventId, MessageId, WebhookId};
use crate::domain::trace::Traceparent;

/// Milliseconds from 1970 to the epoch of ids.
const EPOCH_MS: i64 = 1_577_836_800_000;

/// What of an attempt's evidence a tenant is told: how the receiver answered, and how that was
/// understood. Our own addresses and routes stay ours.
const TOLD: [&str; 14] = [
    "stage",
    "class",
    "reach",
    "enhanced",
    "reply",
    "cause",
    "host",
    "tls",
    "took_ms",
    "learned_late",
    "hardness",
    "rule",
    "action",
    "by",
];

/// One event.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event {
    /// The same however often it is told.
    pub id: EventId,
    /// What happened: a name of [`EventKind`].
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// When.
    pub timestamp: DateTime<Utc>,
    /// To what.
    pub data: Data,
    /// The delivery whose events are told in order.
    #[serde(skip)]
    pub delivery: Option<DeliveryId>,
    /// The attempt that it tells of, in its trace, where that is kept.
    #[serde(skip)]
    pub trace: Option<Traceparent>,
}

/// What an event is about. What is not known is left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Data {
    /// The message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<MessageId>,
    /// The delivery.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery_id: Option<DeliveryId>,
    /// Its stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// The recipient's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The attempt's number, from 1; 0 when nothing was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<i16>,
    /// The receiver's reply code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<i16>,
    /// The mail may have been taken although this says otherwise, or be taken twice.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub in_doubt: bool,
    /// When it is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_at: Option<DateTime<Utc>>,
    /// The rest: the receiver's answer, why an address is suppressed, how many were accepted.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

impl Event {
    /// The event of a row as `sql/read.sql` has it.
    pub(super) fn of(row: &PgRow) -> Result<Self, sqlx::Error> {
        let number: i64 = row.try_get("event_id")?;
        let kind: i16 = row.try_get("kind")?;
        let kind = EventKind::from_number(kind)
            .ok_or_else(|| sqlx::Error::Decode(format!("no event is of kind {kind}").into()))?;
        let delivery = row.try_get::<Option<i64>, _>("job_id")?.map(DeliveryId::new);
        let detail: Option<String> = row.try_get("detail")?;
        let mut detail: Map<String, Value> =
            detail.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        let trace = detail.remove("trace");
        let trace = trace.as_ref().and_then(Value::as_str).and_then(|text| text.parse().ok());
        let attempt: Option<i16> = row.try_get("attempt")?;
        let data = Data {
            message_id: row.try_get::<Option<i64>, _>("message_id")?.map(MessageId::new),
            delivery_id: delivery,
            stream: row.try_get("stream")?,
            to: row.try_get("recipient")?,
            attempt,
            code: row.try_get("code")?,
            in_doubt: row.try_get("in_doubt")?,
            next_at: row.try_get("next_at")?,
            // Without an attempt it is about an entry of the list, or a message.
            more: match (delivery, attempt) {
                (Some(_), Some(_)) => only(detail, &TOLD),
                _ => detail,
            },
        };
        let id = EventId::new(number);
        Ok(Self { id, kind: kind.as_str(), timestamp: minted_at(number), data, delivery, trace })
    }

    /// An event that never happened, to try an endpoint with. `now` is in milliseconds since 1970.
    pub fn test(webhook: WebhookId, now: i64) -> Self {
        let id = EventId::new((now - EPOCH_MS).max(0) << 22);
        let data = Map::from_iter([("endpoint".to_owned(), Value::from(webhook.to_string()))]);
        let data = Data { more: data, ..Data::default() };
        Self { id, kind: "test", timestamp: minted_at(id.get()), data, delivery: None, trace: None }
    }
}

fn only(mut detail: Map<String, Value>, names: &[&str]) -> Map<String, Value> {
    detail.retain(|name, _| names.contains(&name.as_str()));
    detail
}

/// Ids are milliseconds since 2020 above 22 bits.
fn minted_at(id: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis((id >> 22) + EPOCH_MS).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_left_out() {
        let event = Event::test(WebhookId::new(7), EPOCH_MS + 86_400_000);
        let told = serde_json::to_value(&event).expect("JSON");
        assert_eq!(told["type"], "test");
        assert_eq!(told["timestamp"], "2020-01-02T00:00:00Z");
        assert_eq!(told["data"], serde_json::json!({"endpoint": WebhookId::new(7).to_string()}));
    }
}
