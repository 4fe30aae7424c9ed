//! The carrier to SendGrid against a scripted API.

use std::sync::Arc;
use std::time::Duration;

use crate::support::http_peer::{Act, HttpPeer};
use crate::support::letters::address;
use crate::support::providers::{DELIVERY, deliver, endpoint, letter, letter_with, provider};
use postrider::config::secret::Secret;
use postrider::config::{Provider, Service};
use postrider::domain::clock::Clock;
use postrider::domain::outcome::Outcome;
use postrider::domain::verdict::{Cause, Class, Finality, Reach, Verdict};
use postrider::message::letter::Letter;
use postrider::provider::deliver::{Delivery, Providers};
use serde_json::json;

fn sendgrid(peer: &HttpPeer) -> Arc<Provider> {
    provider(Service::SendGrid { key: Secret::new("SG.the-key") }, endpoint(peer))
}

async fn sent_to(peer: &HttpPeer, letter: &Letter) -> Delivery {
    deliver(&Providers::default(), &sendgrid(peer), letter).await
}

fn refused(delivery: Delivery) -> Verdict {
    match delivery.result {
        Err(Outcome::Refused(verdict)) => verdict,
        other => panic!("expected a refusal, found {other:?}"),
    }
}

fn taken() -> Act {
    Act::Answer(202, vec![("x-message-id", "14c5d75ce93.dfd.64b469".into())], String::new())
}

#[tokio::test]
async fn a_letter_is_taken_apart_and_submitted() {
    let peer = HttpPeer::always(taken()).await;
    let letter = letter_with(
        "To: Ann <ann@example.org>\r\nMessage-ID: <dlv_42@shop.example>\r\n\
         List-Unsubscribe: <https://shop.example/u/1>\r\n",
    );
    let delivery = sent_to(&peer, &letter).await;
    delivery.result.expect("delivered");
    assert_eq!(delivery.trail.provider_id.as_deref(), Some("14c5d75ce93.dfd.64b469"));
    let request = peer.request();
    assert_eq!((&*request.method, &*request.path), ("POST", "/v3/mail/send"));
    assert_eq!(request.header("authorization"), "Bearer SG.the-key");
    let off = json!({"enable": false});
    let mut sent = request.json();
    let text = sent["content"][0]["value"].take();
    assert_eq!(text.as_str().expect("a text").trim_end(), "Hello Ann");
    assert_eq!(
        sent,
        json!({
            "personalizations": [{"to": [{"email": "ann@example.org", "name": "Ann"}]}],
            "from": {"email": "me@shop.example", "name": "Shop"},
            "subject": "Hello",
            "content": [{"type": "text/plain", "value": null}],
            "headers": {
                "Message-ID": "<dlv_42@shop.example>",
                "List-Unsubscribe": "<https://shop.example/u/1>",
            },
            "custom_args": {"postrider_delivery": DELIVERY.to_string()},
            "tracking_settings":
                {"click_tracking": off, "open_tracking": off, "subscription_tracking": off},
        })
    );
}

#[tokio::test]
async fn what_would_be_lost_on_the_way_is_not_sent() {
    let peer = HttpPeer::always(taken()).await;
    let utf8 = Letter::seal(
        Some(address("me@shop.example")),
        address("ann@example.org"),
        letter().bytes().to_vec(),
        true,
    );
    for (letter, word) in [
        (letter_with("To: list@example.org\r\n"), "address in To"),
        (letter_with("To: ann@example.org\r\nCc: bob@example.org\r\n"), "in Cc"),
        (utf8, "ASCII"),
    ] {
        let verdict = refused(sent_to(&peer, &letter).await);
        let Cause::Capability(why) = &verdict.cause else { panic!("{:?}", verdict.cause) };
        assert!(why.contains(word), "{why}");
        assert_eq!((verdict.finality, verdict.reach), (Finality::Final, Reach::Message));
    }
    assert!(peer.requests().is_empty());
}

#[tokio::test]
async fn each_refusal_blames_whom_it_concerns() {
    use Class::{AddressBad, Configuration, Content, Quota, Size};
    use Finality::{Final, Passing};
    for (status, field, text, class, finality, reach) in [
        (
            401,
            None,
            "The provided authorization grant is invalid, expired, or revoked",
            Configuration,
            Passing,
            Reach::Route,
        ),
        (401, None, "Maximum credits exceeded", Quota, Passing, Reach::Route),
        (
            403,
            Some("from"),
            "The from address does not match a verified Sender Identity.",
            Configuration,
            Passing,
            Reach::Source,
        ),
        (
            400,
            Some("personalizations.0.to.0.email"),
            "Does not contain a valid address.",
            AddressBad,
            Final,
            Reach::Recipient,
        ),
        (
            400,
            Some("content.0.value"),
            "The content value must be a string at least one character in length.",
            Content,
            Final,
            Reach::Message,
        ),
        (413, None, "Payload too large", Size, Final, Reach::Message),
    ] {
        let error = json!({"message": text, "field": field, "help": null});
        let act = Act::json(status, &json!({"errors": [error]}).to_string());
        let peer = HttpPeer::always(act).await;
        let verdict = refused(sent_to(&peer, &letter()).await);
        let found = (verdict.class, verdict.finality, verdict.reach);
        assert_eq!(found, (class, finality, reach), "{status} {text}");
    }
}

#[tokio::test]
async fn a_limit_is_waited_for_until_it_is_renewed() {
    let reset = Clock::System.unix_seconds() + 1_000;
    let act = Act::json(429, r#"{"errors":[{"field":null,"message":"too many requests"}]}"#)
        .with("x-ratelimit-limit", "600")
        .with("x-ratelimit-remaining", "0")
        .with("x-ratelimit-reset", &reset.to_string());
    let peer = HttpPeer::always(act).await;
    let verdict = refused(sent_to(&peer, &letter()).await);
    assert_eq!((verdict.class, verdict.reach), (Class::Throttled, Reach::Route));
    let wait = verdict.retry_after.expect("a wait");
    assert!(wait <= Duration::from_secs(1_000) && wait > Duration::from_secs(500), "{wait:?}");
}

#[tokio::test]
async fn silence_after_the_request_is_in_doubt() {
    for act in [Act::CutAfterRequest, Act::Silence, Act::json(500, "{}")] {
        let peer = HttpPeer::always(act.clone()).await;
        let result = sent_to(&peer, &letter()).await.result;
        assert!(matches!(result, Err(Outcome::Doubtful(_))), "{act:?}: {result:?}");
    }
}
