//! Promises about SES's callbacks through SNS: only messages of configured topics whose signature
//! is right are taken; certificates come from the pinned host alone, over TLS, once; and only the
//! subscription of a configured topic is confirmed.

use crate::support::api::Answer;
use crate::support::callbacks::{Room, callback, counted};
use crate::support::sns::{Sns, TOPIC};
use crate::support::sns_version_1;
use axum::http::StatusCode;
use postrider::config::SesCallbacks;
use serde_json::{Value, json};
use tower::ServiceExt;

const PATH: &str = "/v1/callbacks/ses";
const REFUSED: &str = "postrider_callbacks_refused_total";

async fn tells(sns: &Sns, room: &Room, event: &Value) -> Answer {
    let message = sns.message(room, "Notification", &event.to_string(), &json!({}));
    post(room, &message).await
}

async fn post(room: &Room, message: &Value) -> Answer {
    // As SNS sends it: JSON called text.
    room.post(PATH, &[("x-amz-sns-message-type", "Notification")], message.to_string()).await
}

fn bounce(to: &str, id: &str) -> Value {
    json!({
        "eventType": "Bounce", "mail": {"messageId": id, "destination": [to]},
        "bounce": {"bounceType": "Permanent", "bounceSubType": "General", "feedbackId": format!("f-{id}"),
            "timestamp": "2026-03-01T10:00:00.000Z",
            "bouncedRecipients": [{"emailAddress": to, "status": "5.1.1", "diagnosticCode": "smtp; 550 5.1.1 user unknown"}]},
    })
}

#[tokio::test]
async fn each_event_is_understood_in_both_forms() {
    let sns = Sns::start().await;
    let room = Room::open(sns.settings()).await;
    let cases = [
        (
            "Bounce",
            "bounce",
            json!({"bounceType": "Permanent", "bounceSubType": "NoEmail"}),
            "failed",
            true,
        ),
        (
            "Bounce",
            "bounce",
            json!({"bounceType": "Permanent", "bounceSubType": "OnAccountSuppressionList"}),
            "failed",
            false,
        ),
        (
            "Bounce",
            "bounce",
            json!({"bounceType": "Transient", "bounceSubType": "MailboxFull"}),
            "failed",
            false,
        ),
        ("Complaint", "complaint", json!({"complaintFeedbackType": "abuse"}), "complained", true),
        ("Delivery", "delivery", json!({}), "delivered", false),
        ("DeliveryDelay", "deliveryDelay", json!({"delayType": "MailboxFull"}), "delayed", false),
        ("Send", "send", json!({}), "relayed", false),
        ("Reject", "reject", json!({"reason": "Bad content"}), "failed", false),
        ("Rendering Failure", "failure", json!({"errorMessage": "x"}), "failed", false),
    ];
    let forms = ["eventType", "notificationType"];
    let both = cases.iter().flat_map(|case| forms.map(|form| (form, case)));
    for (n, (form, (kind, part, fields, action, suppressed))) in both.enumerate() {
        let (to, id) = (format!("r{n}@b.example"), format!("0102-{n}"));
        let delivery = room.taken(&to, &id).await;
        let mut object = fields.clone();
        for (list, named) in [
            ("bouncedRecipients", "bounce"),
            ("complainedRecipients", "complaint"),
            ("delayedRecipients", "deliveryDelay"),
        ] {
            if named == *part {
                object[list] = json!([{"emailAddress": to}]);
            }
        }
        if *part == "delivery" {
            object["recipients"] = json!([to]);
        }
        object["timestamp"] = json!("2026-03-01T10:00:00.000Z");
        let event =
            json!({form: kind, "mail": {"messageId": id, "destination": [to]}, *part: object});
        assert_eq!(tells(&sns, &room, &event).await.status, StatusCode::OK, "{event}");
        room.read().await;
        let evidence = room.evidence(delivery).await;
        assert_eq!(evidence.iter().map(|one| &*one[0]).collect::<Vec<_>>(), [*action], "{event}");
        let listed = room.suppressed().await.iter().any(|(who, ..)| *who == to);
        assert_eq!(listed, *suppressed, "{event}");
        assert_eq!(room.ends(delivery).await, [1]);
    }
    assert_eq!(sns.host.asked(&sns.page("0a1b")), 1, "the certificate was fetched once");
}

#[tokio::test]
async fn version_1_is_verified_too() {
    let sns = Sns::start().await;
    sns.publish("01", sns_version_1::CERTIFICATE);
    let room = Room::open(sns.settings()).await;
    let delivery = room.taken("gone@b.example", "0102-version-1").await;
    room.set_clock(sns_version_1::PUBLISHED_AT + 60);
    let message = json!({
        "Type": "Notification", "MessageId": sns_version_1::MESSAGE_ID, "TopicArn": TOPIC,
        "Subject": "Amazon SES Email Event Notification", "Message": sns_version_1::MESSAGE,
        "Timestamp": "2026-03-01T10:00:00.000Z", "SignatureVersion": "1",
        "Signature": sns_version_1::SIGNATURE,
        "SigningCertURL": format!("https://{}", sns.page("01")),
    });
    for (field, value) in [
        ("SignatureVersion", "2"),
        ("Message", &*sns_version_1::MESSAGE.replace("gone", "here")),
        ("Subject", "Another"),
    ] {
        let mut bent = message.clone();
        bent[field] = json!(value);
        assert_eq!(post(&room, &bent).await.status, StatusCode::FORBIDDEN, "{field}");
    }
    assert!(room.is_untouched().await);
    assert_eq!(post(&room, &message).await.status, StatusCode::OK);
    room.read().await;
    assert_eq!(room.evidence(delivery).await.len(), 1);
    assert_eq!(room.suppressed().await.len(), 1);
    // Replayed it is known; much later it is refused.
    assert_eq!(post(&room, &message).await.status, StatusCode::OK);
    assert_eq!(room.stored().await, 1);
    room.set_clock(sns_version_1::PUBLISHED_AT + 3 * 86_400);
    assert_eq!(post(&room, &message).await.status, StatusCode::FORBIDDEN);
    assert!(counted(REFUSED, &["stale", "ses"]));
}

#[tokio::test]
async fn what_is_not_signed_by_sns_for_our_topic_changes_nothing() {
    let (sns, other) = (Sns::start().await, Sns::start().await);
    let room = Room::open(sns.settings()).await;
    room.taken("gone@b.example", "a").await;
    let text = bounce("gone@b.example", "a").to_string();
    let none = json!({});
    let good = sns.message(&room, "Notification", &text, &none);
    let with = |field: &str, value: &str| {
        let mut message = good.clone();
        message[field] = json!(value);
        message
    };
    let without = |field: &str| {
        let mut message = good.clone();
        message.as_object_mut().expect("an object").remove(field);
        message
    };
    let mut by_another = good.clone();
    by_another["Signature"] = json!(other.sign(&good));
    let elsewhere = format!("https://{}", other.page("0a1b"));
    let hosts = "SigningCertURL";
    let base = sns.base();
    let (forbidden, bad) = (StatusCode::FORBIDDEN, StatusCode::BAD_REQUEST);
    for (what, message, status, reason) in [
        ("no signature", without("Signature"), forbidden, "unsigned"),
        ("no certificate", without(hosts), forbidden, "unsigned"),
        ("another message", with("Message", &text.replace("gone", "here")), forbidden, "forged"),
        ("another key", by_another, forbidden, "forged"),
        (
            "a certificate elsewhere",
            other.message(&room, "Notification", &text, &none),
            forbidden,
            "forged",
        ),
        ("one elsewhere, ours signed", with(hosts, &elsewhere), forbidden, "forged"),
        ("in clear", with(hosts, &format!("http://{}", sns.page("0a1b"))), forbidden, "forged"),
        (
            "a login",
            with(hosts, &format!("https://{base}@evil.example/SimpleNotificationService-0a1b.pem")),
            forbidden,
            "forged",
        ),
        ("another path", with(hosts, &format!("https://{base}/other.pem")), forbidden, "forged"),
        ("version 3", with("SignatureVersion", "3"), forbidden, "forged"),
        (
            "another topic",
            sns.message(
                &room,
                "Notification",
                &text,
                &json!({"TopicArn": "arn:aws:sns:eu-west-1:123456789012:other"}),
            ),
            forbidden,
            "unknown_topic",
        ),
        (
            "too old",
            sns.message_at(room.now() - 3 * 86_400, "Notification", &text, &none),
            forbidden,
            "stale",
        ),
        (
            "from the future",
            sns.message_at(room.now() + 3_600, "Notification", &text, &none),
            forbidden,
            "stale",
        ),
        ("another type", with("Type", "Other"), bad, "malformed"),
        ("raw delivery", bounce("gone@b.example", "a"), bad, "malformed"),
    ] {
        let answer = post(&room, &message).await;
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        assert!(counted(REFUSED, &[reason, "ses"]), "{what}");
    }
    let huge = room.post(PATH, &[], vec![b' '; (1 << 20) + 1]).await;
    assert_eq!(huge.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(room.is_untouched().await);
    assert_eq!(other.host.asked(&other.page("0a1b")), 0, "nobody else was asked for a key");
    assert_eq!(post(&room, &good).await.status, StatusCode::OK, "and the good one is good");
}

#[tokio::test]
async fn only_a_host_that_proves_its_name_gives_keys_and_only_so_many_are_asked_for() {
    let sns = Sns::start().await;
    let stranger = Sns::start().await;
    // The right host, under an authority that is not trusted.
    let mut settings = sns.settings();
    let authority = Some(stranger.authority.clone());
    settings.ses = settings.ses.map(|ses| SesCallbacks { authority, ..ses });
    let room = Room::open(settings).await;
    let event = bounce("gone@b.example", "a");
    let answer = tells(&sns, &room, &event).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
    assert!(counted(REFUSED, &["no_key", "ses"]));
    assert!(room.is_untouched().await);

    let room = Room::open(sns.settings()).await;
    for n in 0..50 {
        let url = format!("https://{}", sns.page(&format!("{n:04x}")));
        let message =
            sns.message(&room, "Notification", &event.to_string(), &json!({"SigningCertURL": url}));
        assert_eq!(post(&room, &message).await.status, StatusCode::SERVICE_UNAVAILABLE);
    }
    let asked: usize = (0..50).map(|n| sns.host.asked(&sns.page(&format!("{n:04x}")))).sum();
    assert!((1..50).contains(&asked), "{asked} questions for 50 made-up certificates");
    assert!(room.is_untouched().await);
}

#[tokio::test]
async fn a_subscription_is_confirmed_for_a_configured_topic_at_its_own_host() {
    let sns = Sns::start().await;
    let room = Room::open(sns.settings()).await;
    let asked = |topic: &str| {
        format!("{}/?Action=ConfirmSubscription&TopicArn={topic}&Token=t", sns.base())
    };
    sns.host.put(&asked(TOPIC), "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let wanted = |topic: &str, url: &str| {
        let more = json!({"TopicArn": topic, "SubscribeURL": url, "Token": "t"});
        sns.message(&room, "SubscriptionConfirmation", "You have chosen to subscribe", &more)
    };
    let url = format!("https://{}", asked(TOPIC));
    let other = TOPIC.replace("ses-events", "other");
    let evil = format!("https://evil.example/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=t");
    for (what, message) in [
        ("another topic", wanted(&other, &format!("https://{}", asked(&other)))),
        ("another host", wanted(TOPIC, &evil)),
        ("a url of another topic", wanted(TOPIC, &format!("https://{}", asked(&other)))),
        ("another action", wanted(TOPIC, &url.replace("ConfirmSubscription", "DeleteTopic"))),
    ] {
        assert_eq!(post(&room, &message).await.status, StatusCode::FORBIDDEN, "{what}");
    }
    let mut unsigned = wanted(TOPIC, &url);
    unsigned["Token"] = json!("other");
    assert_eq!(post(&room, &unsigned).await.status, StatusCode::FORBIDDEN);
    assert_eq!((sns.host.asked(&asked(TOPIC)), sns.host.asked(&asked(&other))), (0, 0));
    assert_eq!(post(&room, &wanted(TOPIC, &url)).await.status, StatusCode::OK);
    assert_eq!(sns.host.asked(&asked(TOPIC)), 1, "confirmed");
    // The end of a subscription is taken note of, and nothing is asked for.
    let more = json!({"SubscribeURL": url, "Token": "t"});
    let end = sns.message(&room, "UnsubscribeConfirmation", "You have chosen to deactivate", &more);
    assert_eq!(post(&room, &end).await.status, StatusCode::OK);
    assert_eq!(sns.host.asked(&asked(TOPIC)), 1);
    assert!(room.is_untouched().await);
}

#[tokio::test]
async fn a_bounce_acts_once_and_waits_for_the_database() {
    let sns = Sns::start().await;
    let room = Room::open(sns.settings()).await;
    let delivery = room.taken("gone@b.example", "a").await;
    let event = bounce("gone@b.example", "a");
    let message = sns.message(&room, "Notification", &event.to_string(), &json!({}));
    let away = room.without_database().await;
    let answer = away.oneshot(callback(PATH, &[], message.to_string())).await.expect("infallible");
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(room.is_untouched().await);
    // Published for an identity and for a configuration set, it is the same bounce.
    let mut twin = event.clone();
    twin["notificationType"] = twin["eventType"].take();
    twin.as_object_mut().expect("an object").remove("eventType");
    for message in [event.clone(), twin, event] {
        assert_eq!(tells(&sns, &room, &message).await.status, StatusCode::OK);
        room.read().await;
    }
    assert_eq!((room.stored().await, room.evidence(delivery).await.len()), (1, 1));
    assert_eq!(room.told(delivery).await, [1, 2]);
    // What SNS says of itself is no event.
    let note = sns.message(&room, "Notification", "Successfully validated SNS topic", &json!({}));
    assert_eq!(post(&room, &note).await.status, StatusCode::OK);
    assert_eq!(room.stored().await, 1);
}

#[tokio::test]
async fn a_tag_leads_to_a_delivery_in_doubt() {
    let sns = Sns::start().await;
    let room = Room::open(sns.settings()).await;
    let delivery = room.doubtful("ann@b.example").await;
    let event = json!({"eventType": "Delivery", "delivery": {"recipients": ["ann@b.example"]}, "mail":
        {"messageId": "never-heard", "tags": {"postrider_delivery": [delivery.to_string()]}}});
    assert_eq!(tells(&sns, &room, &event).await.status, StatusCode::OK);
    room.read().await;
    assert_eq!(room.ends(delivery).await, [1]);
}
