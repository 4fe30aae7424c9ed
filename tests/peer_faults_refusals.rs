//! Peers that refuse (fault cases 19, 20, 28, 30, 31). Promise: each recipient has the outcome
//! that its own replies give; what may pass is tried later, and not at once.

use std::sync::Arc;

use crate::support::letters::{address, hop, letter, letter_of, plan};
use crate::support::smtp_peer::{Act, Peer, Script};
use postrider::config;
use postrider::domain::outcome::Outcome;
use postrider::domain::verdict::{Class, Finality, Stage, Verdict};
use postrider::message::letter::Letter;
use postrider::smtp::deliver::Smtp;

fn smtp() -> Arc<Smtp> {
    Arc::new(Smtp::new(&config::Smtp::default()).expect("TLS can be had"))
}

async fn deliver(smtp: &Smtp, letter: &Letter, peer: &Peer) -> Result<(), Outcome> {
    smtp.deliver(letter, &plan(vec![hop(peer.address)])).await.result.map(drop)
}

fn verdict(result: Result<(), Outcome>) -> Verdict {
    match result {
        Err(Outcome::Refused(verdict) | Outcome::Unreached(verdict)) => verdict,
        other => panic!("expected a verdict, found {other:?}"),
    }
}

// --- 19: 421 anywhere -----------------------------------------------------------

#[tokio::test]
async fn a_421_at_any_stage_passes_ends_the_session_and_is_not_hammered() {
    for (stage, at) in [
        ("connect", Stage::Banner),
        ("EHLO", Stage::Ehlo),
        ("MAIL", Stage::Mail),
        ("RCPT", Stage::Rcpt),
        ("DATA", Stage::Data),
        (".", Stage::Dot),
    ] {
        for offers in [&["PIPELINING"][..], &[]] {
            let busy = Act::reply("421 4.3.2 closing for maintenance");
            let peer = Script::offering(offers).on(stage, busy).start().await;
            let found = verdict(deliver(&smtp(), &letter(), &peer).await);
            assert_eq!((found.stage, found.finality), (at, Finality::Passing), "{stage}");
            assert!(!found.condemns_address());
            let record = peer.until(|record| record.open == 0).await;
            assert_eq!(record.connections, 1, "{stage}: one try, no more");
            assert!(peer.accepted().is_empty());
        }
    }
}

// --- 20: a mix of recipients ----------------------------------------------------

#[tokio::test]
async fn each_recipient_has_its_own_outcome_over_one_connection() {
    for offers in [&["PIPELINING"][..], &[]] {
        let mut script = Script::offering(offers);
        for reply in ["250 ok", "450 4.2.1 busy", "550 5.1.1 unknown", "250 ok", "250 ok", "250 ok"]
        {
            script = script.once("RCPT", Act::reply(reply));
        }
        // After a refusal a pipelining client's DATA is refused or gets a 354; both happen.
        let data: &[&str] = if offers.is_empty() {
            &["354 go", "354 go", "354 go", "451 4.3.0 not now"]
        } else {
            &["354 go", "503 no recipient", "354 go", "354 go", "354 go", "451 4.3.0 not now"]
        };
        for reply in data {
            script = script.once("DATA", Act::reply(reply));
        }
        // In turn: the lone dot after the second 354 (pipelined only), then the others'.
        let dots: &[&str] = if offers.is_empty() {
            &["250 taken", "554 5.7.1 content", "451 4.7.1 later"]
        } else {
            &["250 taken", "554 no valid recipients", "554 5.7.1 content", "451 4.7.1 later"]
        };
        for reply in dots {
            script = script.once(".", Act::reply(reply));
        }
        let (peer, smtp) = (script.start().await, smtp());
        let mut found = Vec::new();
        for n in 0..6 {
            let to = address(&format!("r{n}@example.net"));
            let mail = Letter::seal(None, to, b"Subject: x\r\n\r\nx\r\n".to_vec(), false);
            found.push(match deliver(&smtp, &mail, &peer).await {
                Ok(()) => "taken".to_owned(),
                other => {
                    let verdict = verdict(other);
                    format!("{} {:?}", verdict.stage, verdict.finality)
                }
            });
        }
        let expected =
            ["taken", "rcpt Passing", "rcpt Final", "dot Final", "dot Passing", "data Passing"];
        assert_eq!(found, expected, "{offers:?}");
        assert_eq!((peer.record().connections, peer.accepted().len()), (1, 1), "{offers:?}");
        let empty = peer.record().bodies.iter().filter(|body| body.raw.is_empty()).count();
        assert_eq!(
            empty,
            usize::from(!offers.is_empty()),
            "a lone dot for a 354 without recipient"
        );
    }
}

// --- 28: greylisting, and limits on recipients ----------------------------------

#[tokio::test]
async fn greylisting_asks_for_its_time_and_the_same_way_is_taken_then() {
    let peer = Script::pipelining()
        .once("RCPT", Act::reply("451 4.7.1 Greylisted, try again in 5 minutes"))
        .start()
        .await;
    let smtp = smtp();
    let first = verdict(deliver(&smtp, &letter(), &peer).await);
    assert_eq!(first.finality, Finality::Passing);
    assert_eq!(first.retry_after, Some(std::time::Duration::from_secs(300)));
    deliver(&smtp, &letter(), &peer).await.expect("accepted the second time");
    let record = peer.record();
    let ehlo = record.commands.iter().filter(|(_, line)| line.starts_with("EHLO"));
    assert_eq!((record.connections, ehlo.count()), (1, 1), "from the same address and name");
}

#[tokio::test]
async fn too_many_recipients_concern_one_letter_and_condemn_nobody() {
    let peer = Script::pipelining()
        .once("RCPT", Act::reply("250 ok"))
        .once("RCPT", Act::reply("452 4.5.3 too many recipients"))
        .start()
        .await;
    let smtp = smtp();
    deliver(&smtp, &letter(), &peer).await.expect("accepted");
    let refused = verdict(deliver(&smtp, &letter(), &peer).await);
    assert_eq!((refused.finality, refused.condemns_address()), (Finality::Passing, false));
    deliver(&smtp, &letter(), &peer).await.expect("accepted");
}

// --- 30: no SMTPUTF8 ------------------------------------------------------------

#[tokio::test]
async fn a_unicode_recipient_without_smtputf8_fails_alone_and_before_anything_is_said() {
    let (peer, smtp) = (Script::pipelining().start().await, smtp());
    let unicode = Letter::seal(None, address("grüße@example.net"), b"x\r\n".to_vec(), false);
    let refused = verdict(deliver(&smtp, &unicode, &peer).await);
    assert_eq!((refused.finality, refused.condemns_address()), (Finality::Final, false));
    deliver(&smtp, &letter(), &peer).await.expect("others are delivered");
    assert_eq!(peer.verbs(0), ["EHLO", "MAIL", "RCPT", "DATA"]);
}

// --- 31: larger than the peer takes ---------------------------------------------

#[tokio::test]
async fn a_letter_above_the_size_that_is_offered_is_not_sent() {
    let peer = Script::offering(&["PIPELINING", "SIZE 1000"]).start().await;
    let (large, smtp) = (letter_of(&b"0123456789\r\n".repeat(100)), smtp());
    let refused = verdict(deliver(&smtp, &large, &peer).await);
    assert_eq!((refused.class, refused.finality), (Class::Size, Finality::Final));
    assert!(!refused.condemns_address());
    deliver(&smtp, &letter(), &peer).await.expect("a smaller one is");
    assert_eq!(peer.record().connections, 1);
}

#[tokio::test]
async fn a_peer_that_refuses_in_the_middle_of_a_body_is_heard() {
    let gone = Act::ReplyAndDrop("552 5.3.4 message too big".into());
    let peer = Script::offering(&["PIPELINING"]).on("body", gone).start().await;
    let long = letter_of(&b"0123456789abcdef0123456789abcdef\r\n".repeat(300_000));
    let found = deliver(&smtp(), &long, &peer).await;
    // The reply may be lost with the connection; it is never in doubt.
    let found = verdict(found);
    assert!(found.class == Class::Size || found.finality == Finality::Passing, "{found}");
    assert!(peer.record().bodies.is_empty());
}
