//! Promise: a provider that breaks off over HTTP/2 leaves a mail in doubt if it may have had the
//! whole request, and nothing in doubt if it cannot have or says that it has not begun.

use std::sync::Arc;
use std::time::Duration;

use h2::Reason;
use postrider::config::secret::Secret;
use postrider::config::{Endpoint, Provider, Service};
use postrider::domain::outcome::Outcome;
use postrider::domain::verdict::{Finality, Reach, Stage};
use postrider::message::letter::Letter;
use postrider::provider::deliver::{Delivery, Providers};

use crate::support::http2_peer::{End, Http2Peer, Read};
use crate::support::letters::letter_of;
use crate::support::providers::{deliver, letter, provider};

const QUEUED: &str = r#"{"id":"<1@mg.example>","message":"Queued. Thank you."}"#;

fn mailgun(peer: &Http2Peer) -> Arc<Provider> {
    let endpoint = Endpoint { tls: true, host: "localhost".into(), port: peer.address.port() };
    let service = Service::Mailgun { key: Secret::new("k"), domain: Some("mg.example".into()) };
    let plain = (*provider(service, endpoint)).clone();
    let request_timeout = Duration::from_secs(30);
    Arc::new(Provider { authority: Some(peer.pem.clone()), request_timeout, ..plain })
}

/// More than fits into any buffer on the way.
fn large() -> Letter {
    letter_of(&[b"Subject: large\r\n\r\n".to_vec(), vec![b'a'; 20 << 20]].concat())
}

async fn sent(peer: &Http2Peer, letter: &Letter) -> Delivery {
    deliver(&Providers::default(), &mailgun(peer), letter).await
}

#[tokio::test]
async fn what_breaks_off_after_the_whole_request_is_in_doubt() {
    for end in [
        End::GoAway(Reason::NO_ERROR),
        End::GoAway(Reason::INTERNAL_ERROR),
        End::Reset(Reason::INTERNAL_ERROR),
        End::Reset(Reason::CANCEL),
        End::Close,
    ] {
        let peer = Http2Peer::start(move |_| (Read::Whole, end)).await;
        let delivery = sent(&peer, &letter()).await;
        let Err(Outcome::Doubtful(verdict)) = delivery.result else {
            panic!("{end:?}: {:?}", delivery.result)
        };
        assert_eq!((verdict.stage, verdict.reach), (Stage::Dot, Reach::Route), "{end:?}");
        assert_eq!(peer.requests(), 1, "{end:?}: nothing is repeated");
    }
}

#[tokio::test]
async fn what_breaks_off_before_it_was_not_taken() {
    for end in [
        End::GoAway(Reason::NO_ERROR),
        End::GoAway(Reason::ENHANCE_YOUR_CALM),
        End::Reset(Reason::REFUSED_STREAM),
        End::Reset(Reason::INTERNAL_ERROR),
        End::Close,
    ] {
        let peer = Http2Peer::start(move |_| (Read::Head, end)).await;
        let delivery = sent(&peer, &large()).await;
        let Err(Outcome::Unreached(verdict)) = delivery.result else {
            panic!("{end:?}: {:?}", delivery.result)
        };
        assert_eq!((verdict.stage, verdict.reach), (Stage::Data, Reach::Route), "{end:?}");
        assert_eq!(verdict.finality, Finality::Passing, "{end:?}");
        assert_eq!(peer.requests(), 1, "{end:?}: nothing is repeated");
    }
}

#[tokio::test]
async fn a_request_that_the_server_has_not_begun_was_not_taken() {
    let refuse = End::Reset(Reason::REFUSED_STREAM);
    let peer = Http2Peer::start(move |_| (Read::Whole, refuse)).await;
    let delivery = sent(&peer, &letter()).await;
    let Err(Outcome::Unreached(verdict)) = delivery.result else { panic!("{:?}", delivery.result) };
    assert_eq!((verdict.stage, verdict.finality), (Stage::Data, Finality::Passing));
}

#[tokio::test]
async fn a_connection_that_takes_no_more_is_replaced_and_loses_nothing() {
    let peer = Http2Peer::start(|n| {
        let end = if n % 2 == 0 { End::AnswerAndLeave(QUEUED) } else { End::Answer(QUEUED) };
        (Read::Whole, end)
    })
    .await;
    let (providers, mailgun) = (Providers::default(), mailgun(&peer));
    for n in 0..12 {
        let delivery = deliver(&providers, &mailgun, &letter()).await;
        let receipt = delivery.result.unwrap_or_else(|outcome| panic!("{n}: {outcome:?}"));
        assert_eq!(receipt.reply.code, 200);
    }
    assert_eq!(peer.requests(), 12, "each once");
    assert!(peer.connections() >= 6, "{} connections", peer.connections());
}
