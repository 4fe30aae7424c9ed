//! What a provider's event calls for (pure).

use serde_json::{Value, json};

use super::effect::{Effect, Read, facts, reason, soft};
use crate::callback::Origin;
use crate::callback::said::{self, News, Said};
use crate::domain::ids::DeliveryId;
use crate::inbound::store::Taken;

/// What kind of report it is.
const KIND: &str = "callback";

/// No delivery has this number.
const NOBODY: DeliveryId = DeliveryId::new(0);

/// Reads an event that the API verified and stored.
pub(super) fn read(taken: &Taken) -> Read {
    let said =
        Origin::from_name(&taken.sender).and_then(|origin| said::understand(origin, &taken.raw));
    let Some(said) = said else { return Read { kind: KIND, ..Read::failed(taken.report_id) } };
    let key = key(taken, &said);
    let effects: Vec<Effect> =
        said.news.iter().enumerate().map(|(n, news)| effect(taken, &said, &key, n, news)).collect();
    let classes = said.news.iter().filter_map(|news| match news {
        News::Finding(finding) => Some((finding.class, finding.hardness)),
        News::Unsubscribed { .. } => None,
    });
    Read {
        report: taken.report_id,
        classes: classes.collect(),
        may_come_later: said.delivery.is_none()
            && !said.provider_ids.is_empty()
            && taken.tries == 1,
        kind: KIND,
        findings: json!({
            "findings": said.news.iter().map(told).collect::<Vec<_>>(),
            "delivery": said.delivery,
            "provider_ids": said.provider_ids,
        })
        .to_string(),
        idle: if effects.is_empty() { "ignored" } else { "unmatched" },
        provider_ids: said.provider_ids,
        effects,
    }
}

/// By what the history knows the event, also once the report itself is deleted.
fn key(taken: &Taken, said: &Said) -> String {
    taken
        .event_key
        .clone()
        .unwrap_or_else(|| format!("{}:{}", said.origin.as_str(), taken.report_id))
}

fn effect(taken: &Taken, said: &Said, key: &str, n: usize, news: &News) -> Effect {
    let mut detail = told(news);
    if let Some(detail) = detail.as_object_mut() {
        detail.insert("report".into(), json!(taken.report_id.to_string()));
        detail.insert("event".into(), json!(key));
        detail.insert("finding".into(), json!(n));
        detail.insert("proven".into(), json!(true));
        detail.insert("by".into(), json!(said.origin.as_str()));
    }
    let (recipient, suppress, code) = match news {
        News::Finding(finding) => (finding.recipient.clone(), reason(finding), finding.code),
        News::Unsubscribed { recipient } => (recipient.clone(), Some("unsubscribed"), None),
    };
    let soft = match news {
        News::Finding(finding) if suppress.is_none() => soft(finding),
        _ => None,
    };
    Effect {
        report: taken.report_id,
        delivery: said.delivery.unwrap_or(NOBODY),
        code: code.and_then(|code| i16::try_from(code).ok()),
        detail: detail.to_string(),
        recipient,
        original: None,
        suppress,
        soft,
        source: "callback",
        origin: Some(said.origin),
        // Whatever a provider says of a mail: it has it.
        proves_acceptance: true,
    }
}

fn told(news: &News) -> Value {
    match news {
        News::Finding(finding) => facts(finding),
        News::Unsubscribed { recipient } => {
            json!({"recipient": recipient, "action": "unsubscribed"})
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(sender: &str, raw: &str) -> Taken {
        Taken {
            report_id: 7,
            purpose: "callback".into(),
            job_id: None,
            sender: sender.into(),
            raw: raw.as_bytes().to_vec(),
            tries: 1,
            event_key: Some("k".into()),
        }
    }

    #[test]
    fn an_event_names_its_delivery_or_is_looked_for() {
        let named = read(&taken(
            "sendgrid",
            r#"{"event":"spamreport","email":"ann@b.example","sg_message_id":"a.b","postrider_delivery":"dlv_000000000001A"}"#,
        ));
        assert_eq!(named.delivery().map(|id| id.to_string()).as_deref(), Some("dlv_000000000001A"));
        assert_eq!(named.effects[0].suppress, Some("complaint"));
        assert!(!named.may_come_later);
        let unnamed = read(&taken(
            "sendgrid",
            r#"{"event":"unsubscribe","email":"ann@b.example","sg_message_id":"a.b"}"#,
        ));
        assert_eq!((unnamed.delivery(), unnamed.may_come_later), (Some(NOBODY), true));
        assert_eq!(unnamed.effects[0].suppress, Some("unsubscribed"));
    }

    #[test]
    fn what_cannot_be_read_is_failed_alone() {
        for (sender, raw) in [("sendgrid", "nonsense"), ("nobody", "{}")] {
            assert_eq!(read(&taken(sender, raw)).done(&[]).outcome, "failed");
        }
        assert_eq!(read(&taken("mailgun", "{}")).done(&[]).outcome, "ignored");
    }
}
