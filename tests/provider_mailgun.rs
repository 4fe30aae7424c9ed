//! The carrier to Mailgun against a scripted API.

use std::sync::Arc;

use crate::support::http_peer::{Act, HttpPeer};
use crate::support::letters::letter_of;
use crate::support::providers::{DELIVERY, deliver, endpoint, letter, provider};
use postrider::config::secret::Secret;
use postrider::config::{Provider, Service};
use postrider::domain::outcome::Outcome;
use postrider::domain::verdict::{Cause, Class, Finality, Reach};
use postrider::provider::deliver::{Delivery, Providers};

const QUEUED: &str = r#"{"id":"<2011.1.abc@mg.shop.example>","message":"Queued. Thank you."}"#;

fn mailgun(peer: &HttpPeer, domain: Option<&str>) -> Arc<Provider> {
    let domain = domain.map(ToOwned::to_owned);
    provider(Service::Mailgun { key: Secret::new("the-key"), domain }, endpoint(peer))
}

async fn sent_to(peer: &HttpPeer) -> Delivery {
    deliver(&Providers::default(), &mailgun(peer, None), &letter()).await
}

/// The parts of a form by name.
fn part<'a>(body: &'a [u8], boundary: &str, name: &str) -> Option<&'a [u8]> {
    let text = format!("name=\"{name}\"");
    let find = |hay: &[u8], needle: &[u8]| hay.windows(needle.len()).position(|w| w == needle);
    let from = find(body, text.as_bytes())?;
    let rest = &body[from..];
    let start = find(rest, b"\r\n\r\n")? + 4;
    let end = find(rest, format!("\r\n--{boundary}").as_bytes())?;
    Some(&rest[start..end])
}

#[tokio::test]
async fn a_letter_is_submitted_whole_and_nothing_is_tracked() {
    let peer = HttpPeer::always(Act::json(200, QUEUED)).await;
    let delivery = sent_to(&peer).await;
    delivery.result.expect("delivered");
    assert_eq!(delivery.trail.provider_id.as_deref(), Some("2011.1.abc@mg.shop.example"));
    let request = peer.request();
    assert_eq!((&*request.method, &*request.path), ("POST", "/v3/shop.example/messages.mime"));
    // api:the-key
    assert_eq!(request.header("authorization"), "Basic YXBpOnRoZS1rZXk=");
    let kind = request.header("content-type");
    let boundary = kind.strip_prefix("multipart/form-data; boundary=").expect(kind);
    let part = |name| part(&request.body, boundary, name).expect(name);
    assert_eq!(part("to"), b"ann@example.org");
    assert_eq!(part("o:tracking"), b"no");
    assert_eq!(part("v:postrider_delivery"), DELIVERY.to_string().as_bytes());
    assert_eq!(part("message"), letter().bytes(), "byte for byte, so that our signature holds");
}

#[tokio::test]
async fn the_accounts_domain_may_be_another_than_the_senders() {
    let peer = HttpPeer::always(Act::json(200, QUEUED)).await;
    let mailgun = mailgun(&peer, Some("mg.shop.example"));
    deliver(&Providers::default(), &mailgun, &letter()).await.result.expect("delivered");
    assert_eq!(peer.request().path, "/v3/mg.shop.example/messages.mime");
}

#[tokio::test]
async fn each_refusal_blames_whom_it_concerns() {
    use Class::{AddressBad, Configuration, Content, Quota, Size, Throttled};
    use Finality::{Final, Passing};
    for (status, body, class, finality, reach) in [
        (401, "Forbidden", Configuration, Passing, Reach::Route),
        (402, r#"{"message":"Payment required"}"#, Quota, Passing, Reach::Route),
        (
            404,
            r#"{"message":"Domain not found: shop.example"}"#,
            Configuration,
            Passing,
            Reach::Source,
        ),
        (429, r#"{"message":"Too Many Requests"}"#, Throttled, Passing, Reach::Route),
        (
            400,
            r#"{"message":"to parameter is not a valid address"}"#,
            AddressBad,
            Final,
            Reach::Recipient,
        ),
        (400, r#"{"message":"'message' parameter is missing"}"#, Content, Final, Reach::Message),
        (413, "Request Entity Too Large", Size, Final, Reach::Message),
    ] {
        let peer = HttpPeer::always(Act::json(status, body)).await;
        let Err(Outcome::Refused(verdict)) = sent_to(&peer).await.result else {
            panic!("{status} {body}")
        };
        let found = (verdict.class, verdict.finality, verdict.reach);
        assert_eq!(found, (class, finality, reach), "{status} {body}");
    }
}

#[tokio::test]
async fn a_mail_that_is_too_large_is_not_sent() {
    let peer = HttpPeer::always(Act::json(200, QUEUED)).await;
    let large = letter_of(&vec![b'a'; 25_000_001]);
    let delivery = deliver(&Providers::default(), &mailgun(&peer, None), &large).await;
    let Err(Outcome::Refused(verdict)) = delivery.result else { panic!("refused") };
    assert_eq!((verdict.class, verdict.reach), (Class::Size, Reach::Message));
    assert!(matches!(verdict.cause, Cause::Capability(_)));
    assert!(peer.requests().is_empty());
}

#[tokio::test]
async fn silence_after_the_request_is_in_doubt() {
    for act in [Act::CutAfterRequest, Act::Silence, Act::json(502, "<html>Bad Gateway</html>")] {
        let peer = HttpPeer::always(act.clone()).await;
        let result = sent_to(&peer).await.result;
        assert!(matches!(result, Err(Outcome::Doubtful(_))), "{act:?}: {result:?}");
    }
}
