//! Peers that misbehave after a letter's end (fault case 18). Promise: whoever may have taken
//! the letter is the only one who got it; what is not known is said to be in doubt.

use std::sync::Arc;
use std::time::Duration;

use crate::support::letters::{hop, letter, letter_of, plan};
use crate::support::smtp_peer::{Act, Peer, Script};
use postrider::config;
use postrider::domain::outcome::Outcome;
use postrider::domain::verdict::{Cause, Finality, Stage};
use postrider::smtp::deliver::{Delivery, Smtp};
use tokio::sync::Notify;

fn smtp() -> Smtp {
    Smtp::new(&config::Smtp::default()).expect("TLS can be had")
}

async fn deliver(smtp: &Smtp, peers: &[&Peer]) -> Delivery {
    let hops = peers.iter().map(|peer| hop(peer.address)).collect();
    smtp.deliver(&letter(), &plan(hops)).await
}

#[tokio::test]
async fn a_peer_that_leaves_after_the_dot_is_in_doubt_and_the_next_exchanger_is_not_tried() {
    let (first, second) =
        (Script::pipelining().on(".", Act::Drop).start().await, Script::pipelining().start().await);
    let delivery = deliver(&smtp(), &[&first, &second]).await;
    let Err(Outcome::Doubtful(verdict)) = delivery.result else { panic!("in doubt") };
    assert_eq!((verdict.stage, verdict.finality), (Stage::Dot, Finality::Passing));
    assert_eq!(delivery.trail.peer, Some(first.address.ip()), "it is known who may have it");
    assert_eq!((first.record().bodies.len(), second.record().connections), (1, 0));
}

#[tokio::test]
async fn a_chunk_that_is_not_answered_is_in_doubt_as_well() {
    let peer = Script::offering(&["PIPELINING", "CHUNKING"]).on(".", Act::Drop).start().await;
    let large = letter_of(&b"a line of a large letter\r\n".repeat(4_000));
    let ended = smtp().deliver(&large, &plan(vec![hop(peer.address)])).await.result;
    assert!(matches!(ended, Err(Outcome::Doubtful(_))), "{ended:?}");
    assert_eq!(peer.record().bodies.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_after_eleven_minutes_comes_too_late_and_nothing_is_sent_meanwhile() {
    let never = Arc::new(Notify::new());
    let late = Act::After(Arc::clone(&never), Box::new(Act::reply("250 taken")));
    let (first, second) =
        (Script::pipelining().once(".", late).start().await, Script::pipelining().start().await);
    let smtp = smtp();
    let delivery = deliver(&smtp, &[&first, &second]).await;
    let Err(Outcome::Doubtful(verdict)) = delivery.result else { panic!("in doubt") };
    assert_eq!(verdict.cause, Cause::Timeout);
    let ten = Duration::from_secs(600);
    assert!(delivery.trail.took >= ten && delivery.trail.took < ten + Duration::from_secs(1));
    assert_eq!(second.record().connections, 0);
    // The answer finds nobody, and the next letter does not take it for its own.
    never.notify_one();
    deliver(&smtp, &[&first]).await.result.expect("delivered");
    assert_eq!(first.record().connections, 2);
}
