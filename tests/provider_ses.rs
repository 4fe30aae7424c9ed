//! The carrier to Amazon SES against a scripted API.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::support::http_peer::{Act, HttpPeer, Recorded};
use crate::support::letters::letter_of;
use crate::support::providers::{DELIVERY, deliver, endpoint, letter, provider};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use postrider::config::secret::Secret;
use postrider::config::{AwsCredentials, Endpoint, Provider, Service};
use postrider::domain::outcome::Outcome;
use postrider::domain::verdict::{Cause, Class, Finality, Reach, Stage, Verdict};
use postrider::provider::deliver::{Delivery, Providers};
use postrider::provider::sigv4::{self, Key, Request, Scope};
use serde_json::json;

const TAKEN: &str = r#"{"MessageId":"0100018f-aaaa-bbbb"}"#;

fn key() -> AwsCredentials {
    AwsCredentials::Key {
        id: "AKIDEXAMPLE0000000".into(),
        secret: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
        session_token: Some(Secret::new("a-session-token")),
    }
}

fn ses(endpoint: Endpoint, credentials: AwsCredentials) -> Arc<Provider> {
    let region = "eu-west-1".to_owned();
    let configuration_set = Some("bulk".to_owned());
    provider(Service::Ses { region, credentials, configuration_set }, endpoint)
}

async fn sent_to(peer: &HttpPeer) -> Delivery {
    deliver(&Providers::default(), &ses(endpoint(peer), key()), &letter()).await
}

fn verdict(delivery: Delivery) -> Verdict {
    match delivery.result {
        Err(Outcome::Refused(verdict) | Outcome::Unreached(verdict)) => verdict,
        other => panic!("expected a refusal, found {other:?}"),
    }
}

#[tokio::test]
async fn a_letter_is_submitted_whole_and_signed() {
    let peer = HttpPeer::always(Act::json(200, TAKEN)).await;
    let delivery = sent_to(&peer).await;
    let receipt = delivery.result.expect("delivered");
    assert_eq!(receipt.reply.to_string(), "200 0100018f-aaaa-bbbb");
    assert_eq!(delivery.trail.provider_id.as_deref(), Some("0100018f-aaaa-bbbb"));
    assert_eq!(delivery.trail.route.as_deref(), Some("provider"));
    assert_eq!(delivery.trail.source, None);
    let request = peer.request();
    assert_eq!((&*request.method, &*request.path), ("POST", "/v2/email/outbound-emails"));
    assert_eq!(
        request.json(),
        json!({
            "ConfigurationSetName": "bulk",
            "Destination": {"ToAddresses": ["ann@example.org"]},
            "Content": {"Raw": {"Data": STANDARD.encode(letter().bytes())}},
            "EmailTags": [{"Name": "postrider_delivery", "Value": DELIVERY.to_string()}],
        })
    );
    assert_signed(&peer, &request);
}

/// As the service would check it: by signing again what came in, at the time it names.
fn assert_signed(peer: &HttpPeer, request: &Recorded) {
    let date = request.header("x-amz-date");
    let at = chrono::NaiveDateTime::parse_from_str(date, "%Y%m%dT%H%M%SZ").expect("a date");
    let host = peer.address.to_string();
    let key = Key {
        id: "AKIDEXAMPLE0000000".into(),
        secret: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
        token: Some(Secret::new("a-session-token")),
    };
    let again = sigv4::sign(
        &key,
        Scope { region: "eu-west-1", service: "ses" },
        &Request {
            method: "POST",
            path: &request.path,
            headers: &[("content-type", "application/json"), ("host", &host)],
            body: &request.body,
        },
        SystemTime::from(at.and_utc()),
    );
    assert_eq!(request.header("authorization"), again.authorization);
    assert_eq!(request.header("x-amz-security-token"), "a-session-token");
    assert_eq!(request.header("host"), host);
}

#[tokio::test]
async fn each_refusal_blames_whom_it_concerns() {
    use Class::{AddressBad, Configuration, Content, Quota, Throttled};
    use Finality::{Final, Passing};
    for (status, kind, text, class, finality, reach) in [
        (
            429,
            "TooManyRequestsException",
            "Maximum sending rate exceeded.",
            Throttled,
            Passing,
            Reach::Route,
        ),
        (
            429,
            "TooManyRequestsException",
            "Daily message quota exceeded.",
            Quota,
            Passing,
            Reach::Route,
        ),
        (
            403,
            "InvalidSignatureException",
            "The request signature",
            Configuration,
            Passing,
            Reach::Route,
        ),
        (400, "SendingPausedException", "paused", Configuration, Passing, Reach::Route),
        (
            400,
            "MessageRejected",
            "Email address is not verified.",
            Configuration,
            Passing,
            Reach::Source,
        ),
        (400, "MessageRejected", "Contains a virus", Content, Final, Reach::Message),
        (
            400,
            "BadRequestException",
            "Missing final '@domain'",
            AddressBad,
            Final,
            Reach::Recipient,
        ),
    ] {
        let act = Act::json(status, &json!({"message": text}).to_string());
        let peer = HttpPeer::always(act.with("x-amzn-errortype", kind)).await;
        let verdict = verdict(sent_to(&peer).await);
        let found = (verdict.class, verdict.finality, verdict.reach);
        assert_eq!(found, (class, finality, reach), "{kind}: {text}");
        let Cause::Reply(reply) = &verdict.cause else { panic!("{:?}", verdict.cause) };
        assert_eq!((reply.code, &*reply.text), (status, &*format!("{kind}: {text}")));
    }
}

#[tokio::test]
async fn a_wait_that_is_asked_for_is_kept() {
    let act = Act::json(429, "{}").with("retry-after", "7");
    let peer = HttpPeer::always(act).await;
    let verdict = verdict(sent_to(&peer).await);
    assert_eq!(verdict.retry_after, Some(Duration::from_secs(7)));
}

#[tokio::test]
async fn what_may_have_been_taken_is_in_doubt() {
    for act in [
        Act::json(500, r#"{"message":"InternalFailure"}"#),
        Act::json(503, "upstream gone"),
        Act::CutAfterRequest,
        Act::Silence,
    ] {
        let peer = HttpPeer::always(act.clone()).await;
        let delivery = sent_to(&peer).await;
        let Err(Outcome::Doubtful(verdict)) = delivery.result else {
            panic!("{act:?}: {:?}", delivery.result)
        };
        assert_eq!((verdict.stage, verdict.reach), (Stage::Dot, Reach::Route), "{act:?}");
        assert_eq!(peer.requests().len(), 1, "{act:?}: nothing is repeated");
    }
}

#[tokio::test]
async fn what_was_not_wholly_written_was_not_taken() {
    let peer = HttpPeer::always(Act::CutEarly).await;
    let large = letter_of(&[b"Subject: large\r\n\r\n".to_vec(), vec![b'a'; 20 << 20]].concat());
    let delivery = deliver(&Providers::default(), &ses(endpoint(&peer), key()), &large).await;
    let verdict = verdict(delivery);
    assert_eq!((verdict.stage, verdict.reach), (Stage::Data, Reach::Route));
    assert_eq!(verdict.finality, Finality::Passing);
}

#[tokio::test]
async fn the_status_decides_however_slowly_the_rest_comes() {
    let peer = HttpPeer::always(Act::HeadOnly(200, "{\"Mess".into())).await;
    let delivery = sent_to(&peer).await;
    delivery.result.expect("taken");
    assert_eq!(delivery.trail.provider_id, None);
    let peer = HttpPeer::always(Act::HeadOnly(400, "{".into())).await;
    assert_eq!(verdict(sent_to(&peer).await).finality, Finality::Final);
}

#[tokio::test]
async fn an_answer_is_read_up_to_a_bound() {
    let body = "x".repeat(10 << 20);
    let peer = HttpPeer::always(Act::Answer(429, Vec::new(), body)).await;
    let Cause::Reply(reply) = verdict(sent_to(&peer).await).cause else { panic!("a reply") };
    assert_eq!(reply.text.len(), 500);
}

#[tokio::test]
async fn nobody_there_blames_the_route() {
    let dead = crate::support::letters::dead_address().await;
    let endpoint = Endpoint { tls: false, host: "127.0.0.1".into(), port: dead.port() };
    let delivery = deliver(&Providers::default(), &ses(endpoint, key()), &letter()).await;
    let verdict = verdict(delivery);
    assert_eq!((verdict.stage, verdict.reach), (Stage::Connect, Reach::Route));
    assert_eq!((verdict.class, verdict.finality), (Class::Transient, Finality::Passing));
}

#[tokio::test]
async fn many_requests_share_one_connection_under_tls() {
    let (peer, pem) = HttpPeer::start_http2(TAKEN).await;
    let endpoint = Endpoint { tls: true, host: "localhost".into(), port: peer.address.port() };
    let trusting =
        Arc::new(Provider { authority: Some(pem), ..(*ses(endpoint.clone(), key())).clone() });
    let providers = Providers::default();
    deliver(&providers, &trusting, &letter()).await.result.expect("the first");
    let letter = letter();
    let many = (0..40).map(|_| deliver(&providers, &trusting, &letter));
    for delivery in futures_util::future::join_all(many).await {
        delivery.result.expect("delivered");
    }
    assert_eq!((peer.requests().len(), peer.connections()), (41, 1));
    assert_eq!(peer.requests()[0].path, "HTTP/2.0 /v2/email/outbound-emails");

    // Without that authority nothing is sent.
    let delivery = deliver(&Providers::default(), &ses(endpoint, key()), &letter).await;
    let verdict = verdict(delivery);
    assert!(matches!(verdict.cause, Cause::Tls(_)), "{verdict:?}");
    assert_eq!((verdict.stage, peer.requests().len()), (Stage::StartTls, 41));
}

#[tokio::test]
async fn no_more_requests_are_under_way_than_may_be() {
    let peer = HttpPeer::always(Act::json(200, TAKEN)).await;
    let few = Arc::new(Provider { max_requests: 2, ..(*ses(endpoint(&peer), key())).clone() });
    let (providers, letter) = (Providers::default(), letter());
    let many = (0..60).map(|_| deliver(&providers, &few, &letter));
    for delivery in futures_util::future::join_all(many).await {
        delivery.result.expect("delivered");
    }
    // One that is just done may not be back in the pool yet.
    assert!(peer.connections() <= 10, "{} connections", peer.connections());
}

#[tokio::test]
async fn the_instances_role_signs_and_is_asked_once() {
    let metadata = HttpPeer::start(|_, request| match &*request.path {
        "/latest/api/token" if request.method == "PUT" => {
            Act::Answer(200, Vec::new(), "the-token".into())
        }
        _ if request.header("x-aws-ec2-metadata-token") != "the-token" => Act::json(401, ""),
        "/latest/meta-data/iam/security-credentials/" => {
            Act::Answer(200, Vec::new(), "mailer".into())
        }
        "/latest/meta-data/iam/security-credentials/mailer" => Act::json(
            200,
            r#"{"AccessKeyId":"ASIAROLE","SecretAccessKey":"s","Token":"role-token",
                "Expiration":"2099-01-01T00:00:00Z"}"#,
        ),
        _ => Act::json(404, ""),
    })
    .await;
    let peer = HttpPeer::always(Act::json(200, TAKEN)).await;
    let role = AwsCredentials::InstanceRole { metadata: endpoint(&metadata) };
    let (providers, ses) = (Providers::default(), ses(endpoint(&peer), role));
    for _ in 0..3 {
        deliver(&providers, &ses, &letter()).await.result.expect("delivered");
    }
    assert_eq!(metadata.requests().len(), 3, "token, role, key: once");
    let request = &peer.requests()[2];
    assert_eq!(request.header("x-amz-security-token"), "role-token");
    assert!(request.header("authorization").contains("Credential=ASIAROLE/"));
}

#[tokio::test]
async fn without_a_key_nothing_is_sent_and_the_route_is_blamed() {
    let metadata = HttpPeer::always(Act::json(404, "")).await;
    let peer = HttpPeer::always(Act::json(200, TAKEN)).await;
    let role = AwsCredentials::InstanceRole { metadata: endpoint(&metadata) };
    let delivery = deliver(&Providers::default(), &ses(endpoint(&peer), role), &letter()).await;
    let verdict = verdict(delivery);
    assert_eq!((verdict.stage, verdict.reach), (Stage::Auth, Reach::Route));
    assert!(peer.requests().is_empty());
}
