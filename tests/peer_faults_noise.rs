//! Peers that are slow, loud or lie (fault cases 21, 22, 23). Promise: each phase ends in its
//! time, what is read is bounded and clean, and nobody else pays.

use std::sync::Arc;
use std::time::Duration;

use crate::support::letters::{address, hop, letter, letter_of, plan};
use crate::support::smtp_peer::{Act, Peer, Script};
use postrider::config;
use postrider::domain::outcome::Outcome;
use postrider::domain::verdict::{Cause, Finality, Stage, Verdict};
use postrider::message::letter::Letter;
use postrider::smtp::deliver::Smtp;

fn smtp() -> Arc<Smtp> {
    Arc::new(Smtp::new(&config::Smtp::default()).expect("TLS can be had"))
}

fn verdict(outcome: Outcome) -> Verdict {
    match outcome {
        Outcome::Refused(verdict) | Outcome::Unreached(verdict) | Outcome::Doubtful(verdict) => {
            verdict
        }
        other => panic!("expected a verdict, found {other:?}"),
    }
}

async fn failure(peer: &Peer) -> (Verdict, Duration) {
    let delivery = smtp().deliver(&letter(), &plan(vec![hop(peer.address)])).await;
    (verdict(delivery.result.expect_err("no receipt")), delivery.trail.took)
}

// --- 21: slow -------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn a_byte_every_twenty_seconds_ends_with_the_phase_and_not_later() {
    let limits = config::Smtp::default();
    let drip = |text: &str| Act::Trickle(text.to_owned(), 20_000);
    for (stage, text, at, limit) in [
        ("connect", "220-".repeat(50), Stage::Banner, limits.banner_timeout),
        ("EHLO", "250-x\r\n".repeat(50), Stage::Ehlo, limits.ehlo_timeout),
        ("MAIL", "250-x\r\n".repeat(50), Stage::Mail, limits.mail_timeout),
        ("RCPT", "250-x\r\n".repeat(50), Stage::Rcpt, limits.rcpt_timeout),
        (".", "250-x\r\n".repeat(50), Stage::Dot, limits.dot_timeout),
    ] {
        let peer = Script::pipelining().on(stage, drip(&text)).start().await;
        let (found, took) = failure(&peer).await;
        assert_eq!((found.stage, found.cause), (at, Cause::Timeout), "{stage}");
        assert!(took >= limit && took < limit + Duration::from_secs(1), "{stage}: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_tarpit_that_stays_within_the_deadlines_is_borne() {
    let mut script = Script::pipelining();
    for (stage, text) in [
        ("connect", "220 slow\r\n"),
        ("EHLO", "250-slow\r\n250 PIPELINING\r\n"),
        ("MAIL", "250 ok\r\n"),
        ("RCPT", "250 ok\r\n"),
        (".", "250 ok\r\n"),
    ] {
        // 29 s for each reply.
        script = script.on(stage, Act::Trickle(text.into(), 29_000 / text.len() as u64));
    }
    let peer = script.start().await;
    let delivery = smtp().deliver(&letter(), &plan(vec![hop(peer.address)])).await;
    delivery.result.expect("delivered");
    assert!(delivery.trail.took > Duration::from_secs(100));
}

#[tokio::test]
async fn a_host_that_holds_all_its_connections_holds_nobody_else() {
    let stuck = Script::pipelining().on("connect", Act::Silence).start().await;
    let good = Script::pipelining().start().await;
    let smtp = smtp();
    let held: Vec<_> = (0..10)
        .map(|_| {
            let (smtp, plan) = (Arc::clone(&smtp), plan(vec![hop(stuck.address)]));
            tokio::spawn(async move { smtp.deliver(&letter(), &plan).await.result })
        })
        .collect();
    stuck.until(|record| record.open == 10).await;
    for _ in 0..50 {
        smtp.deliver(&letter(), &plan(vec![hop(good.address)])).await.result.expect("delivered");
    }
    assert_eq!((good.accepted().len(), stuck.record().connections), (50, 10));
    held.iter().for_each(tokio::task::JoinHandle::abort);
}

// --- 22: loud -------------------------------------------------------------------

#[tokio::test]
async fn what_is_no_reply_is_a_fault_of_the_protocol_at_every_stage() {
    let endless = "250-and more\r\n".repeat(10_000);
    let noise = [
        "2".repeat(10 << 20),
        endless,
        "250-first\r\n550 second".to_owned(),
        "250 with a \0 in it".to_owned(),
        "hello".to_owned(),
        String::new(),
    ];
    for text in &noise {
        for (stage, at) in [
            ("connect", Stage::Banner),
            ("EHLO", Stage::Ehlo),
            ("MAIL", Stage::Mail),
            ("RCPT", Stage::Rcpt),
            ("DATA", Stage::Data),
            (".", Stage::Dot),
        ] {
            let peer = Script::offering(&[]).on(stage, Act::reply(text)).start().await;
            let (found, _) = failure(&peer).await;
            assert_eq!(found.stage, at, "{stage}: {:?}", &text[..text.len().min(20)]);
            assert!(matches!(found.cause, Cause::Protocol(_)), "{stage}: {:?}", found.cause);
            assert_eq!(found.finality, Finality::Passing);
            peer.until(|record| record.open == 0).await;
        }
    }
}

#[tokio::test]
async fn what_is_shown_of_a_reply_is_clean_and_short() {
    for reply in [
        "550 \u{1b}[31mred\u{1b}[0m \u{7}\u{8}\u{7f} \u{202e}desrever",
        "550 \u{85}\u{9b}8-bit",
        "550",
        "550 ",
        "550 5.1.1",
        "550 5.1.1 ",
    ] {
        let peer = Script::pipelining()
            .on("RCPT", Act::reply(reply))
            .on("DATA", Act::reply("503 no"))
            .start()
            .await;
        let (found, _) = failure(&peer).await;
        assert_eq!(found.stage, Stage::Rcpt);
        let shown = found.cause.to_string();
        assert!(!shown.chars().any(char::is_control), "{shown:?}");
        assert!(!shown.contains('\u{202e}'));
    }
    let long = format!("550-{}\r\n", "x".repeat(3_000)).repeat(15) + "550 end";
    let peer = Script::offering(&[]).on("RCPT", Act::reply(&long)).start().await;
    let (found, _) = failure(&peer).await;
    assert!(found.cause.to_string().len() < 5_000);
}

// --- 23: lies about capabilities ------------------------------------------------

#[tokio::test]
async fn odd_sizes_are_no_limit() {
    for size in ["SIZE", "SIZE 0", "SIZE 99999999999999999999999999"] {
        let peer = Script::offering(&["PIPELINING", size]).start().await;
        smtp().deliver(&letter(), &plan(vec![hop(peer.address)])).await.result.expect("delivered");
    }
}

#[tokio::test]
async fn an_8_bit_body_is_refused_to_a_peer_that_cannot_take_it() {
    let eight_bit = letter_of("Subject: x\r\n\r\ngrüße\r\n".as_bytes());
    let peer = Script::offering(&["PIPELINING"]).start().await;
    let ended = smtp().deliver(&eight_bit, &plan(vec![hop(peer.address)])).await.result;
    let found = verdict(ended.expect_err("no 8BITMIME"));
    assert!(matches!(found.cause, Cause::Capability(_)) && !found.condemns_address());
    assert!(peer.record().bodies.is_empty());

    let peer = Script::offering(&["8BITMIME"]).start().await;
    smtp().deliver(&eight_bit, &plan(vec![hop(peer.address)])).await.result.expect("delivered");
    assert_eq!(peer.record().commands[1].1, "MAIL FROM:<sender@example.com> BODY=8BITMIME");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_offers_pipelining_and_drops_commands_fails_in_time_and_in_no_doubt() {
    let peer = Script::offering(&["PIPELINING"]).on("RCPT", Act::Silence).start().await;
    let (found, took) = failure(&peer).await;
    assert_eq!((found.stage, found.cause), (Stage::Rcpt, Cause::Timeout));
    assert!(took <= config::Smtp::default().rcpt_timeout + Duration::from_secs(1));
    assert!(peer.record().bodies.is_empty());
}

#[tokio::test]
async fn a_peer_without_ehlo_is_spoken_to_in_the_plain_old_way() {
    let peer = Script::pipelining().on("EHLO", Act::reply("502 what?")).start().await;
    let to = address("old@example.net");
    let mail = Letter::seal(None, to, b"Subject: x\r\n\r\nx\r\n".to_vec(), false);
    smtp().deliver(&mail, &plan(vec![hop(peer.address)])).await.result.expect("delivered");
    let record = peer.record();
    let said: Vec<&str> = record.commands.iter().map(|(_, line)| line.as_str()).collect();
    assert_eq!(
        said,
        [
            "EHLO out.example.com",
            "HELO out.example.com",
            "MAIL FROM:<>",
            "RCPT TO:<old@example.net>",
            "DATA"
        ]
    );
}
