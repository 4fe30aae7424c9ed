//! Events of Amazon SES, as published by a configuration set (`eventType`) or as notifications
//! of an identity (`notificationType`).

use serde_json::Value;

use super::fields::{address, list, text, word};
use super::said::{self, MOST_RECIPIENTS, NAME, News, Said, View};
use super::{Event, Origin};
use crate::domain::bounce_class::Class;
use crate::feedback::report::{Action, Finding};

/// Where the parts of each kind lie: the object, its list of recipients, and where an address
/// is in an entry of that list.
const KINDS: [(&str, &str, &str, &str); 7] = [
    ("bounce", "/bounce", "/bounce/bouncedRecipients", "/emailAddress"),
    ("complaint", "/complaint", "/complaint/complainedRecipients", "/emailAddress"),
    ("delivery", "/delivery", "/delivery/recipients", ""),
    ("deliverydelay", "/deliveryDelay", "/deliveryDelay/delayedRecipients", "/emailAddress"),
    ("send", "/send", "/mail/destination", ""),
    ("reject", "/reject", "/mail/destination", ""),
    ("rendering failure", "/failure", "/mail/destination", ""),
];

fn kind_of(event: &Value) -> String {
    let kind = word(event, "/eventType");
    if kind.is_empty() { word(event, "/notificationType") } else { kind }
}

/// The event in the message of a notification; `None` if it is of no concern.
pub(super) fn event(message: &str) -> Option<Event> {
    let event: Value = serde_json::from_str(message).ok()?;
    let kind = kind_of(&event);
    let (_, object, recipients, to) = KINDS.iter().find(|(name, ..)| *name == kind)?;
    let of = |name: &str| text(&event, &format!("{object}/{name}")).unwrap_or_default();
    let mail = text(&event, "/mail/messageId").unwrap_or_default();
    let who: String = list(&event, recipients, MOST_RECIPIENTS)
        .filter_map(|one| address(one, to))
        .collect::<Vec<_>>()
        .join(" ");
    // A bounce has the same feedback id however often and by whichever way it is published.
    let parts = match of("feedbackId") {
        id if id.is_empty() => {
            [kind.as_str(), mail.as_str(), &of("timestamp"), &who].map(str::to_owned)
        }
        id => [kind.clone(), mail, id, String::new()],
    };
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    Some(Event::new(Origin::Ses, &parts, message.as_bytes()))
}

/// What it says.
pub(super) fn said(event: &Value) -> Said {
    let kind = kind_of(event);
    let tag = format!("/mail/tags/{NAME}/0");
    let mut said = Said {
        origin: Origin::Ses,
        delivery: text(event, &tag).and_then(|id| id.parse().ok()),
        provider_ids: text(event, "/mail/messageId").into_iter().collect(),
        news: Vec::new(),
    };
    let Some((_, _, recipients, to)) = KINDS.iter().find(|(name, ..)| *name == kind) else {
        return said;
    };
    let finding = |one: &Value| finding(&kind, event, one, address(one, to));
    said.news =
        list(event, recipients, MOST_RECIPIENTS).filter_map(finding).map(News::Finding).collect();
    said
}

fn finding(kind: &str, event: &Value, one: &Value, to: Option<String>) -> Option<Finding> {
    let words = |path: &str| text(event, path).unwrap_or_default();
    Some(match kind {
        "bounce" => bounce(event, one, to),
        "complaint" => return complaint(event, to),
        "delivery" => {
            said::progress(Action::Delivered, to, &words("/delivery/smtpResponse"), "ses-delivery")
        }
        "deliverydelay" => delay(event, one, to),
        "send" => said::progress(Action::Relayed, to, "", "ses-send"),
        "reject" => own(to, &words("/reject/reason"), Class::Content, "ses-reject"),
        _ => own(to, &words("/failure/errorMessage"), Class::Content, "ses-rendering-failure"),
    })
}

/// SES refused it by itself.
fn own(to: Option<String>, words: &str, class: Class, rule: &'static str) -> Finding {
    said::refusal(Action::Failed, to, words, None, Some(View::own(class, rule)), true)
}

fn bounce(event: &Value, one: &Value, to: Option<String>) -> Finding {
    let lasting = word(event, "/bounce/bounceType") == "permanent";
    let view = match &*word(event, "/bounce/bounceSubType") {
        "noemail" => Some(View::new(Class::AddressBad, "ses-no-email")),
        // What SES keeps is what somebody else's mail met: nobody asked the receiver this time.
        "suppressed" | "onaccountsuppressionlist" => {
            Some(View::own(Class::Policy, "ses-suppression-list"))
        }
        "unsubscribedrecipient" => Some(View::own(Class::Policy, "ses-unsubscribed-list")),
        "mailboxfull" => Some(View::new(Class::MailboxFull, "ses-mailbox-full")),
        "messagetoolarge" => Some(View::new(Class::Size, "ses-message-too-large")),
        "contentrejected" | "attachmentrejected" => {
            Some(View::new(Class::Content, "ses-content-rejected"))
        }
        "customtimeoutexceeded" => Some(View::new(Class::Transient, "ses-timeout")),
        "general" if !lasting => Some(View::new(Class::Transient, "ses-transient")),
        _ => None,
    };
    let words = text(one, "/diagnosticCode").unwrap_or_default();
    let status = text(one, "/status");
    said::refusal(Action::Failed, to, &words, status.as_deref(), view, lasting)
}

fn complaint(event: &Value, to: Option<String>) -> Option<Finding> {
    if word(event, "/complaint/complaintSubType") == "onaccountsuppressionlist" {
        return Some(own(
            to,
            "on the suppression list of SES",
            Class::Policy,
            "ses-suppression-list",
        ));
    }
    let kind = word(event, "/complaint/complaintFeedbackType");
    // As with reports: these are no complaints of a recipient.
    let none = ["not-spam", "auth-failure"].contains(&kind.as_str());
    let words = format!("feedback type {kind}");
    (!none).then(|| said::complaint(to, &words, "ses-complaint"))
}

fn delay(event: &Value, one: &Value, to: Option<String>) -> Finding {
    let class = match &*word(event, "/deliveryDelay/delayType") {
        "mailboxfull" => Class::MailboxFull,
        "spamdetected" => Class::Policy,
        _ => Class::Transient,
    };
    let words = text(one, "/diagnosticCode").unwrap_or_default();
    let status = text(one, "/status");
    let view = Some(View::new(class, "ses-delivery-delay"));
    said::refusal(Action::Delayed, to, &words, status.as_deref(), view, false)
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
    fn each_kind_of_bounce_has_its_class() {
        for (kind, sub, words, class, condemned, rule) in [
            ("Permanent", "NoEmail", "", Class::AddressBad, true, "ses-no-email"),
            ("Permanent", "General", "smtp; 550 5.1.1 user unknown", Class::AddressBad, true, ""),
            ("Permanent", "General", "", Class::Unknown, false, "no rule"),
            (
                "Permanent",
                "General",
                "smtp; 550 5.7.1 blocked using zen.spamhaus.org",
                Class::Policy,
                false,
                "",
            ),
            (
                "Permanent",
                "NoEmail",
                "smtp; 550 5.7.1 blocked using zen.spamhaus.org",
                Class::Policy,
                false,
                "",
            ),
            (
                "Permanent",
                "OnAccountSuppressionList",
                "550 5.1.1 user unknown",
                Class::Policy,
                false,
                "ses-suppression-list",
            ),
            ("Permanent", "Suppressed", "", Class::Policy, false, "ses-suppression-list"),
            ("Transient", "MailboxFull", "", Class::MailboxFull, false, "ses-mailbox-full"),
            ("Transient", "MessageTooLarge", "", Class::Size, false, "ses-message-too-large"),
            ("Transient", "ContentRejected", "", Class::Content, false, "ses-content-rejected"),
            ("Transient", "General", "550 5.1.1 user unknown", Class::AddressBad, false, ""),
            ("Undetermined", "Undetermined", "", Class::Unknown, false, "no rule"),
        ] {
            for name in ["eventType", "notificationType"] {
                let found = first(&json!({
                    name: "Bounce", "mail": {"messageId": "m"},
                    "bounce": {"bounceType": kind, "bounceSubType": sub, "feedbackId": "f",
                        "bouncedRecipients": [{"emailAddress": "Ann@B.example", "diagnosticCode": words}]},
                }));
                assert_eq!(
                    (found.class, found.condemns_address()),
                    (class, condemned),
                    "{kind} {sub} {words}"
                );
                assert!(rule.is_empty() || found.rule == rule, "{sub}: {}", found.rule);
                assert_eq!(found.recipient.as_deref(), Some("ann@b.example"));
            }
        }
    }

    #[test]
    fn the_rest_has_actions() {
        let mail = json!({"messageId": "m", "destination": ["ann@b.example"],
            "tags": {"postrider_delivery": ["dlv_000000000001A"]}});
        for (kind, object, body, action) in [
            ("Delivery", "delivery", json!({"recipients": ["ann@b.example"]}), Action::Delivered),
            ("Send", "send", json!({}), Action::Relayed),
            ("Reject", "reject", json!({"reason": "Bad content"}), Action::Failed),
            ("Rendering Failure", "failure", json!({"errorMessage": "x"}), Action::Failed),
            (
                "DeliveryDelay",
                "deliveryDelay",
                json!({"delayType": "MailboxFull",
                "delayedRecipients": [{"emailAddress": "ann@b.example"}]}),
                Action::Delayed,
            ),
            (
                "Complaint",
                "complaint",
                json!({"complaintFeedbackType": "abuse",
                "complainedRecipients": [{"emailAddress": "ann@b.example"}]}),
                Action::Complained,
            ),
        ] {
            let event = json!({"eventType": kind, "mail": mail, object: body});
            assert_eq!(first(&event).action, action, "{kind}");
            let whole = said(&event);
            assert_eq!(
                whole.delivery.map(|id| id.to_string()).as_deref(),
                Some("dlv_000000000001A")
            );
            assert_eq!(whole.provider_ids, ["m"]);
        }
        let happy = json!({"eventType": "Complaint", "mail": mail, "complaint":
            {"complaintFeedbackType": "not-spam", "complainedRecipients": [{"emailAddress": "a@b.c"}]}});
        assert_eq!(said(&happy).news, []);
    }

    #[test]
    fn a_bounce_that_is_published_twice_is_the_same_event() {
        let text = |name: &str, at: &str| {
            json!({name: "Bounce", "mail": {"messageId": "m"}, "bounce": {"feedbackId": "f", "timestamp": at}}).to_string()
        };
        let key = |text: &str| event(text).expect("of concern").key;
        assert_eq!(key(&text("eventType", "1")), key(&text("notificationType", "2")));
        assert_eq!(event(r#"{"eventType":"Open"}"#), None);
        assert_eq!(event("Successfully validated SNS topic"), None);
    }
}
