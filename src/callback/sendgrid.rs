//! Twilio SendGrid's event webhook: a list of events under one signature (ECDSA on P-256 with
//! SHA-256) over the timestamp in a header and the body.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use serde_json::value::RawValue;

use super::fields::{address, text, word};
use super::said::{self, NAME, News, Said, View};
use super::{Event, Opened, Origin, Refusal};
use crate::config::SendGridCallbacks;
use crate::domain::bounce_class::Class;
use crate::feedback::report::{Action, Finding};

/// Headers of the signature and of when it was made, in seconds since 1970.
pub(super) const SIGNATURE: &str = "x-twilio-email-event-webhook-signature";
pub(super) const TIMESTAMP: &str = "x-twilio-email-event-webhook-timestamp";

/// What is of concern.
const KINDS: [&str; 8] = [
    "processed",
    "delivered",
    "deferred",
    "bounce",
    "dropped",
    "spamreport",
    "unsubscribe",
    "group_unsubscribe",
];

/// Whether one of the accounts signed this.
pub(super) fn verify(
    settings: &SendGridCallbacks,
    timestamp: &str,
    signature: &str,
    body: &[u8],
) -> Result<(), Refusal> {
    let signature = STANDARD.decode(signature).map_err(|_| Refusal::Forged)?;
    let signed = [timestamp.as_bytes(), body].concat();
    let ours = |key: &Vec<u8>| {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key).verify(&signed, &signature).is_ok()
    };
    settings.public_keys.iter().any(ours).then_some(()).ok_or(Refusal::Forged)
}

/// The events of a body, `most` at most.
pub(super) fn open(body: &[u8], most: usize) -> Result<Opened, Refusal> {
    let list: Vec<&RawValue> = serde_json::from_slice(body).map_err(|_| Refusal::Malformed)?;
    if list.len() > most {
        return Err(Refusal::TooMany);
    }
    let mut opened = Opened::default();
    for raw in list {
        let event: Value = serde_json::from_str(raw.get()).map_err(|_| Refusal::Malformed)?;
        if KINDS.contains(&&*word(&event, "/event")) {
            opened.events.push(one(&event, raw));
        } else {
            opened.idle += 1;
        }
    }
    Ok(opened)
}

fn one(event: &Value, raw: &RawValue) -> Event {
    let of = |path: &str| text(event, path).unwrap_or_default();
    let id = of("/sg_event_id");
    let parts = if id.is_empty() {
        ["/event", "/sg_message_id", "/email", "/timestamp"].map(of)
    } else {
        [id, String::new(), String::new(), String::new()]
    };
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    Event::new(Origin::SendGrid, &parts, raw.get().as_bytes())
}

/// What it says.
pub(super) fn said(event: &Value) -> Said {
    let to = address(event, "/email");
    let news = match &*word(event, "/event") {
        "unsubscribe" | "group_unsubscribe" => Some(News::Unsubscribed { recipient: to }),
        kind => finding(kind, event, to).map(News::Finding),
    };
    Said {
        origin: Origin::SendGrid,
        delivery: text(event, &format!("/{NAME}")).and_then(|id| id.parse().ok()),
        provider_ids: text(event, "/sg_message_id").map(|id| beginnings(&id)).unwrap_or_default(),
        news: news.into_iter().collect(),
    }
}

/// `14c5d75ce93.dfd.64b469.filter0001.16648.5515E0B88.0`: the id that SendGrid gave when it took
/// the mail, and then the machines that it went through. Where none of those is known by its
/// name, the id may end at any dot.
fn beginnings(id: &str) -> Vec<String> {
    let known = [".filter", ".recvd"].iter().find_map(|machine| id.split_once(machine));
    if let Some((beginning, _)) = known.filter(|(beginning, _)| !beginning.is_empty()) {
        return vec![beginning.to_owned()];
    }
    let dots = id.match_indices('.').map(|(at, _)| at);
    let mut all: Vec<String> = std::iter::once(id.len())
        .chain(dots.collect::<Vec<_>>().into_iter().rev())
        .filter_map(|end| id.get(..end))
        .filter(|beginning| !beginning.is_empty())
        .map(ToOwned::to_owned)
        .collect();
    // Ids with more dots than any of theirs are somebody's play.
    all.truncate(8);
    all
}

fn finding(kind: &str, event: &Value, to: Option<String>) -> Option<Finding> {
    let of = |path: &str| text(event, path).unwrap_or_default();
    let status = text(event, "/status");
    let status = status.as_deref();
    Some(match kind {
        "processed" => said::progress(Action::Relayed, to, "", "sendgrid-processed"),
        "delivered" => {
            said::progress(Action::Delivered, to, &of("/response"), "sendgrid-delivered")
        }
        "deferred" => {
            let words = [of("/response"), of("/reason")].join(" ");
            let view = Some(View::new(Class::Transient, "sendgrid-deferred"));
            said::refusal(Action::Delayed, to, words.trim(), status, view, false)
        }
        "bounce" => {
            // Blocks are what SendGrid itself takes back after a while.
            let lasting = word(event, "/type") == "bounce";
            said::refusal(Action::Failed, to, &of("/reason"), status, view(event, lasting), lasting)
        }
        "dropped" => {
            // What SendGrid keeps is what other mail met: nobody asked the receiver this time.
            let view = match &*word(event, "/reason") {
                "invalid" => View::own(Class::AddressBad, "sendgrid-dropped-invalid"),
                "spam content" => View::own(Class::Content, "sendgrid-dropped-content"),
                reason if reason.contains("quota") => {
                    View::own(Class::Quota, "sendgrid-dropped-quota")
                }
                _ => View::own(Class::Policy, "sendgrid-dropped"),
            };
            said::refusal(Action::Failed, to, &of("/reason"), status, Some(view), false)
        }
        "spamreport" => said::complaint(to, "", "sendgrid-spamreport"),
        _ => return None,
    })
}

/// SendGrid's own classification.
fn view(event: &Value, lasting: bool) -> Option<View> {
    Some(match &*word(event, "/bounce_classification") {
        "invalid address" => View::new(Class::AddressBad, "sendgrid-invalid-address"),
        "technical" => View::new(Class::Transient, "sendgrid-technical"),
        "content" => View::new(Class::Content, "sendgrid-content"),
        "reputation" => View::new(Class::Policy, "sendgrid-reputation"),
        "frequency/volume" | "frequency or volume too high" => {
            View::new(Class::Throttled, "sendgrid-frequency")
        }
        "mailbox unavailable" => View::new(Class::MailboxDisabled, "sendgrid-mailbox-unavailable"),
        _ if !lasting => View::new(Class::Policy, "sendgrid-blocked"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn first(event: &Value) -> Finding {
        match said(event).news.remove(0) {
            News::Finding(finding) => finding,
            other @ News::Unsubscribed { .. } => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_bounce_has_its_class() {
        for (kind, words, status, group, class, condemned) in [
            (
                "bounce",
                "550 5.1.1 The email account that you tried to reach does not exist",
                "5.1.1",
                "",
                Class::AddressBad,
                true,
            ),
            ("bounce", "unknown", "", "Invalid Address", Class::AddressBad, true),
            (
                "bounce",
                "550 5.7.1 blocked using zen.spamhaus.org",
                "5.7.1",
                "Invalid Address",
                Class::Policy,
                false,
            ),
            ("blocked", "550 5.1.1 user unknown", "5.1.1", "", Class::AddressBad, false),
            ("blocked", "error dialing remote address", "", "Technical", Class::Transient, false),
            ("blocked", "", "", "Reputation", Class::Policy, false),
            ("blocked", "", "", "", Class::Policy, false),
            ("bounce", "", "", "Mailbox Unavailable", Class::MailboxDisabled, false),
        ] {
            let event = json!({"event": "bounce", "type": kind, "reason": words, "status": status,
                "bounce_classification": group, "email": "ann@b.example"});
            let found = first(&event);
            assert_eq!((found.class, found.condemns_address()), (class, condemned), "{event}");
        }
        for reason in
            ["Bounced Address", "Invalid", "Spam Reporting Address", "Unsubscribed Address"]
        {
            let found =
                first(&json!({"event": "dropped", "reason": reason, "email": "ann@b.example"}));
            assert!(found.action == Action::Failed && !found.condemns_address(), "{reason}");
        }
    }

    #[test]
    fn an_id_is_looked_for_by_its_beginnings() {
        let ids = beginnings("14c5d75ce93.dfd.64b469.filter0001.16648.5515E0B88.0");
        assert_eq!(ids, ["14c5d75ce93.dfd.64b469"]);
        assert_eq!(beginnings("Mcj8O2.recvd-canary-54dfb4b5f8-1-5B.0"), ["Mcj8O2"]);
        assert_eq!(beginnings("a.b.c"), ["a.b.c", "a.b", "a"], "the longest first");
        assert_eq!(beginnings("plain"), ["plain"]);
        assert_eq!(beginnings(&".x".repeat(1_000)).len(), 8);
    }

    #[test]
    fn a_body_is_a_list_of_some_events() {
        let body = br#"[{"event":"processed","sg_event_id":"a"},{"event":"open"},{"event":"delivered","email":"a@b.c"}]"#;
        let opened = open(body, 3).expect("a list");
        assert_eq!((opened.events.len(), opened.idle), (2, 1));
        assert_eq!(open(body, 2), Err(Refusal::TooMany));
        for bad in [&b"{}"[..], b"[", b"[1", b"\"x\"", b""] {
            assert_eq!(open(bad, 9), Err(Refusal::Malformed));
        }
    }
}
