//! The SMTP carrier against a scripted peer, in clear.

use std::sync::Arc;
use std::time::Duration;

use crate::support::letters::{address, dead_address, hop, letter, letter_of, plan};
use crate::support::smtp_peer::{Act, Peer, Script};
use postrider::config;
use postrider::domain::outcome::{Outcome, WaitReason};
use postrider::domain::verdict::{Cause, Class, Finality, Reach, Stage, Verdict};
use postrider::message::letter::Letter;
use postrider::smtp::deliver::Smtp;
use tokio::sync::Notify;

fn smtp() -> Arc<Smtp> {
    Arc::new(Smtp::new(&config::Smtp::default()).expect("TLS can be had"))
}

async fn outcome(smtp: &Smtp, peers: &[&Peer]) -> Outcome {
    let hops = peers.iter().map(|peer| hop(peer.address)).collect();
    smtp.deliver(&letter(), &plan(hops)).await.result.expect_err("no receipt")
}

fn verdict(outcome: Outcome) -> Verdict {
    match outcome {
        Outcome::Refused(verdict) | Outcome::Unreached(verdict) | Outcome::Doubtful(verdict) => {
            verdict
        }
        other => panic!("expected a verdict, found {other:?}"),
    }
}

#[tokio::test]
async fn a_letter_is_delivered_in_one_go_when_pipelining_is_offered() {
    let peer = Script::pipelining().start().await;
    let delivery = smtp().deliver(&letter(), &plan(vec![hop(peer.address)])).await;
    let receipt = delivery.result.expect("delivered");
    assert_eq!(receipt.reply.to_string(), "250 2.0.0 taken");
    assert_eq!(delivery.trail.host.as_deref(), Some("mx.example.net"));
    assert_eq!(delivery.trail.peer, Some(peer.address.ip()));
    assert_eq!(delivery.trail.route.as_deref(), Some("direct"));
    assert_eq!(delivery.trail.source.as_deref(), Some("default"));
    assert_eq!(delivery.trail.tls, None);
    let record = peer.record();
    assert!(record.pipelined);
    let said: Vec<&str> = record.commands.iter().map(|(_, line)| line.as_str()).collect();
    let size = letter().bytes().len();
    assert_eq!(
        said,
        [
            "EHLO out.example.com",
            &format!("MAIL FROM:<sender@example.com> SIZE={size}"),
            "RCPT TO:<rcpt@example.net>",
            "DATA",
        ]
    );
    assert_eq!(record.bodies[0].bytes, letter().bytes());
    assert_eq!(record.bodies[0].raw, b"Subject: hello\r\n\r\ntext\r\n..dot\r\n");
}

#[tokio::test]
async fn without_pipelining_each_command_waits_for_its_answer() {
    let peer = Script::offering(&[]).start().await;
    smtp().deliver(&letter(), &plan(vec![hop(peer.address)])).await.result.expect("delivered");
    let record = peer.record();
    assert!(!record.pipelined);
    assert_eq!(record.commands[1].1, "MAIL FROM:<sender@example.com>");
    assert_eq!(record.bodies[0].bytes, letter().bytes());
}

#[tokio::test]
async fn a_peer_without_ehlo_is_greeted_with_helo() {
    let peer = Script::pipelining().on("EHLO", Act::reply("502 what?")).start().await;
    smtp().deliver(&letter(), &plan(vec![hop(peer.address)])).await.result.expect("delivered");
    assert_eq!(peer.verbs(0), ["EHLO", "HELO", "MAIL", "RCPT", "DATA"]);
    assert!(!peer.record().pipelined);
}

#[tokio::test]
async fn each_refusal_is_reported_where_it_happened() {
    for (stage, reply, at, class, finality, reach) in [
        (
            "connect",
            "554 5.7.1 go away",
            Stage::Banner,
            Class::Policy,
            Finality::Passing,
            Reach::Host,
        ),
        ("connect", "421 busy", Stage::Banner, Class::Transient, Finality::Passing, Reach::Host),
        ("EHLO", "450 later", Stage::Ehlo, Class::Transient, Finality::Passing, Reach::Host),
        ("EHLO", "421 later", Stage::Ehlo, Class::Transient, Finality::Passing, Reach::Host),
        ("MAIL", "550 5.7.1 no", Stage::Mail, Class::Policy, Finality::Final, Reach::Message),
        (
            "MAIL",
            "421 4.7.0 [TSS04] deferred",
            Stage::Mail,
            Class::Throttled,
            Finality::Passing,
            Reach::Source,
        ),
        (
            "RCPT",
            "550 5.1.1 unknown",
            Stage::Rcpt,
            Class::AddressBad,
            Finality::Final,
            Reach::Recipient,
        ),
        (
            "RCPT",
            "450 4.2.0 greylisted",
            Stage::Rcpt,
            Class::Transient,
            Finality::Passing,
            Reach::Recipient,
        ),
        ("RCPT", "421 closing", Stage::Rcpt, Class::Transient, Finality::Passing, Reach::Session),
        ("DATA", "451 4.3.0 full", Stage::Data, Class::Transient, Finality::Passing, Reach::Host),
        ("DATA", "421 closing", Stage::Data, Class::Transient, Finality::Passing, Reach::Session),
        (".", "554 5.6.0 bad header", Stage::Dot, Class::Content, Finality::Final, Reach::Message),
        (".", "421 4.3.2 closing", Stage::Dot, Class::Transient, Finality::Passing, Reach::Host),
    ] {
        for offers in [&["PIPELINING"][..], &[]] {
            let script = Script::offering(offers).on(stage, Act::reply(reply));
            let peer = script.start().await;
            let outcome = outcome(&smtp(), &[&peer]).await;
            assert!(matches!(outcome, Outcome::Refused(_)), "{stage} {reply}: {outcome:?}");
            let verdict = verdict(outcome);
            let found = (verdict.stage, verdict.class, verdict.finality, verdict.reach);
            assert_eq!(found, (at, class, finality, reach), "{stage} {reply} {offers:?}");
            let Cause::Reply(said) = verdict.cause else { panic!("the peer said it") };
            assert_eq!(said.to_string(), reply);
            assert!(peer.accepted().iter().all(|body| body.raw.is_empty()));
        }
    }
}

#[tokio::test]
async fn a_354_after_a_refused_recipient_gets_a_lone_dot_and_nothing_is_delivered() {
    for (stage, reply) in [("RCPT", "550 5.1.1 unknown"), ("MAIL", "451 no")] {
        let mut script = Script::pipelining().on(stage, Act::reply(reply));
        if stage == "MAIL" {
            script = script.on("RCPT", Act::reply("503 no MAIL"));
        }
        let peer = script.on(".", Act::reply("554 no valid recipients")).start().await;
        let verdict = verdict(outcome(&smtp(), &[&peer]).await);
        assert_eq!(verdict.cause.to_string(), reply);
        let bodies = peer.record().bodies;
        assert_eq!(bodies.len(), 1);
        assert!(bodies[0].raw.is_empty());
    }
}

#[tokio::test]
async fn a_refused_sender_with_an_accepted_recipient_gets_no_dot_at_all() {
    let peer = Script::pipelining().on("MAIL", Act::reply("451 no")).start().await;
    assert_eq!(verdict(outcome(&smtp(), &[&peer]).await).stage, Stage::Mail);
    peer.until(|record| record.open == 0).await;
    assert!(peer.record().bodies.is_empty());
}

#[tokio::test]
async fn a_loss_after_the_dot_is_doubt_and_no_other_hop_is_tried() {
    let second = Script::pipelining().start().await;
    for act in [Act::Drop, Act::reply("garbage"), Act::reply("354 what?")] {
        let first = Script::pipelining().on(".", act).start().await;
        let outcome = outcome(&smtp(), &[&first, &second]).await;
        let Outcome::Doubtful(verdict) = outcome else { panic!("found {outcome:?}") };
        assert_eq!(verdict.stage, Stage::Dot);
        assert!(!matches!(verdict.cause, Cause::Reply(_)));
        assert_eq!(first.record().bodies.len(), 1);
    }
    assert_eq!(second.record().connections, 0);
}

#[tokio::test]
async fn a_loss_before_the_dot_is_no_doubt_and_the_next_hop_delivers() {
    // Too long for the sockets' buffers: still on its way when the peer leaves.
    let long = letter_of(&b"0123456789abcdef0123456789abcdef\r\n".repeat(300_000));
    for stage in ["connect", "EHLO", "MAIL", "RCPT", "DATA", "body"] {
        let first = Script::offering(&["PIPELINING"]).on(stage, Act::Drop).start().await;
        let second = Script::offering(&["PIPELINING"]).start().await;
        let plan = plan(vec![hop(first.address), hop(second.address)]);
        smtp().deliver(&long, &plan).await.result.expect("delivered");
        assert!(first.record().bodies.is_empty(), "{stage}");
        assert_eq!(second.accepted()[0].bytes, long.bytes(), "{stage}");
    }
}

#[tokio::test]
async fn hosts_at_fault_are_passed_over_and_refused_recipients_are_not() {
    let good = Script::pipelining().start().await;
    let bad = Script::pipelining().on("connect", Act::reply("554 no")).start().await;
    let hops = vec![hop(dead_address().await), hop(bad.address), hop(good.address)];
    let delivery = smtp().deliver(&letter(), &plan(hops)).await;
    delivery.result.expect("delivered");
    assert_eq!(delivery.trail.peer, Some(good.address.ip()));

    let refusing = Script::pipelining().on("RCPT", Act::reply("550 5.1.1 no")).start().await;
    let spare = Script::pipelining().start().await;
    let verdict = verdict(outcome(&smtp(), &[&refusing, &spare]).await);
    assert!(verdict.condemns_address());
    assert_eq!(spare.record().connections, 0);
}

#[tokio::test]
async fn when_no_hop_is_reached_a_passing_verdict_outweighs() {
    let hops = vec![hop(dead_address().await), hop(dead_address().await)];
    let delivery = smtp().deliver(&letter(), &plan(hops)).await;
    let Err(Outcome::Unreached(verdict)) = delivery.result else { panic!("nobody is there") };
    assert_eq!((verdict.stage, verdict.finality), (Stage::Connect, Finality::Passing));
    assert!(matches!(verdict.cause, Cause::Connection(_)));
}

#[tokio::test]
async fn what_the_peer_cannot_take_is_not_sent() {
    let peer = Script::offering(&["PIPELINING", "SIZE 10"]).start().await;
    let refused = verdict(outcome(&smtp(), &[&peer]).await);
    assert_eq!((refused.class, refused.finality), (Class::Size, Finality::Final));
    assert_eq!(peer.verbs(0), ["EHLO"]);

    let peer = Script::pipelining().start().await;
    let unicode = Letter::seal(None, address("grüße@example.net"), b"x\r\n".to_vec(), false);
    let delivery = smtp().deliver(&unicode, &plan(vec![hop(peer.address)])).await;
    let refused = verdict(delivery.result.expect_err("no SMTPUTF8"));
    assert!(matches!(refused.cause, Cause::Capability(_)));
    assert_eq!((refused.finality, refused.condemns_address()), (Finality::Final, false));
    assert_eq!(peer.verbs(0), ["EHLO"]);

    let peer = Script::offering(&["PIPELINING", "SMTPUTF8", "8BITMIME"]).start().await;
    smtp().deliver(&unicode, &plan(vec![hop(peer.address)])).await.result.expect("delivered");
    assert_eq!(peer.record().commands[1].1, "MAIL FROM:<> SMTPUTF8");
}

#[tokio::test]
async fn garbage_from_a_peer_is_a_protocol_error() {
    for reply in ["hello", "250-a\r\n550 b", "250 a\0b", "199 x", &"2".repeat(100_000)] {
        let peer = Script::pipelining().on("EHLO", Act::reply(reply)).start().await;
        let verdict = verdict(outcome(&smtp(), &[&peer]).await);
        assert!(matches!(verdict.cause, Cause::Protocol(_)), "{:?}", verdict.cause);
        assert_eq!(verdict.stage, Stage::Ehlo);
    }
}

#[tokio::test]
async fn a_reply_ahead_of_its_command_ends_the_session() {
    let peer = Script::pipelining()
        .on("EHLO", Act::reply("250-peer\r\n250 PIPELINING\r\n250 ok"))
        .start()
        .await;
    let verdict = verdict(outcome(&smtp(), &[&peer]).await);
    assert!(matches!(verdict.cause, Cause::Protocol(_)), "{:?}", verdict.cause);
    assert!(peer.record().bodies.is_empty());
}

#[tokio::test]
async fn connections_are_reused_up_to_their_number_of_mails() {
    let peer = Script::pipelining().start().await;
    let mut hop = hop(peer.address);
    hop.messages_per_connection = 3;
    let (smtp, plan) = (smtp(), plan(vec![hop]));
    for _ in 0..7 {
        smtp.deliver(&letter(), &plan).await.result.expect("delivered");
    }
    let record = peer.until(|record| record.open == 1).await;
    assert_eq!((record.connections, record.bodies.len()), (3, 7));
    assert_eq!(peer.verbs(0).last().map(String::as_str), Some("QUIT"));
}

#[tokio::test]
async fn a_transaction_left_open_is_reset_before_the_next() {
    let peer = Script::pipelining()
        .once("RCPT", Act::reply("550 5.1.1 no"))
        .once("DATA", Act::reply("503 no recipients"))
        .once("MAIL", Act::reply("250 ok"))
        .once("MAIL", Act::reply("250 ok"))
        .once("MAIL", Act::reply("451 no"))
        .start()
        .await;
    let (smtp, plan) = (smtp(), plan(vec![hop(peer.address)]));
    smtp.deliver(&letter(), &plan).await.result.expect_err("refused");
    smtp.deliver(&letter(), &plan).await.result.expect("delivered");
    assert_eq!(peer.verbs(0), ["EHLO", "MAIL", "RCPT", "DATA", "RSET", "MAIL", "RCPT", "DATA"]);
    assert_eq!(peer.accepted().len(), 1);
}

#[tokio::test]
async fn a_connection_that_died_in_the_pool_costs_nothing() {
    for act in [
        Act::Drop,
        Act::ReplyAndDrop("421 4.4.2 idle too long".into()),
        Act::ReplyAndDrop("421 Max message per connection reached".into()),
    ] {
        let peer =
            Script::pipelining().once("MAIL", Act::reply("250 ok")).once("MAIL", act).start().await;
        let (smtp, plan) = (smtp(), plan(vec![hop(peer.address)]));
        smtp.deliver(&letter(), &plan).await.result.expect("delivered");
        smtp.deliver(&letter(), &plan).await.result.expect("delivered by a fresh connection");
        assert_eq!(peer.record().connections, 2);
        assert_eq!(peer.record().bodies.len(), 2);
    }
}

#[tokio::test]
async fn a_throttle_on_a_reused_connection_is_not_hammered() {
    let peer = Script::pipelining()
        .once("MAIL", Act::reply("250 ok"))
        .on("MAIL", Act::ReplyAndDrop("421 4.7.0 [TSS04] deferred".into()))
        .start()
        .await;
    let (smtp, plan) = (smtp(), plan(vec![hop(peer.address)]));
    smtp.deliver(&letter(), &plan).await.result.expect("delivered");
    let refused = verdict(smtp.deliver(&letter(), &plan).await.result.expect_err("throttled"));
    assert_eq!((refused.class, refused.reach), (Class::Throttled, Reach::Source));
    assert_eq!(peer.record().connections, 1);
}

#[tokio::test]
async fn a_connection_closed_while_parked_is_not_used() {
    let peer = Script::pipelining()
        .once(".", Act::ReplyAndDrop("250 taken".into()))
        .once(".", Act::reply("250 taken\r\n421 unasked"))
        .start()
        .await;
    let (smtp, plan) = (smtp(), plan(vec![hop(peer.address)]));
    for delivered in 1..=3 {
        smtp.deliver(&letter(), &plan).await.result.expect("delivered");
        assert_eq!(peer.accepted().len(), delivered);
    }
    assert_eq!(peer.record().connections, 3);
}

#[tokio::test]
async fn a_fresh_connection_that_dies_at_mail_is_not_tried_for_ever() {
    let peer = Script::pipelining().on("MAIL", Act::Drop).start().await;
    let outcome = outcome(&smtp(), &[&peer]).await;
    assert!(matches!(outcome, Outcome::Unreached(_)), "{outcome:?}");
    assert_eq!(peer.record().connections, 1);
}

#[tokio::test]
async fn no_more_connections_than_allowed_are_opened() {
    let go = Arc::new(Notify::new());
    let held = Act::After(Arc::clone(&go), Box::new(Act::reply("250 taken")));
    let peer = Script::pipelining().on(".", held).start().await;
    let mut hop = hop(peer.address);
    hop.max_connections = 2;
    let (smtp, plan) = (smtp(), Arc::new(plan(vec![hop])));
    let mails: Vec<_> = (0..6)
        .map(|_| {
            let (smtp, plan) = (Arc::clone(&smtp), Arc::clone(&plan));
            tokio::spawn(async move { smtp.deliver(&letter(), &plan).await.result })
        })
        .collect();
    for bodies in 1..=6 {
        peer.until(|record| record.bodies.len() >= bodies).await;
        go.notify_one();
    }
    for mail in mails {
        mail.await.expect("no panic").expect("delivered");
    }
    let record = peer.record();
    assert_eq!((record.most_open, record.connections, record.bodies.len()), (2, 2, 6));
}

#[tokio::test(start_paused = true)]
async fn without_a_free_connection_a_letter_is_postponed() {
    let peer = Script::pipelining().on(".", Act::Silence).start().await;
    let mut hop = hop(peer.address);
    hop.max_connections = 1;
    let (smtp, plan) = (smtp(), Arc::new(plan(vec![hop])));
    let first = {
        let (smtp, plan) = (Arc::clone(&smtp), Arc::clone(&plan));
        tokio::spawn(async move { smtp.deliver(&letter(), &plan).await.result })
    };
    peer.until(|record| record.bodies.len() == 1).await;
    let result = smtp.deliver(&letter(), &plan).await.result;
    let Err(Outcome::Postponed { reason, .. }) = result else { panic!("found {result:?}") };
    assert_eq!(reason, WaitReason::Connections);
    first.abort();
}

#[tokio::test]
async fn the_bound_of_all_connections_closes_idle_ones_first() {
    let settings = config::Smtp { max_connections: 1, ..config::Smtp::default() };
    let smtp = Smtp::new(&settings).expect("TLS can be had");
    let (one, two) = (Script::pipelining().start().await, Script::pipelining().start().await);
    smtp.deliver(&letter(), &plan(vec![hop(one.address)])).await.result.expect("delivered");
    smtp.deliver(&letter(), &plan(vec![hop(two.address)])).await.result.expect("delivered");
    one.until(|record| record.open == 0).await;
    assert_eq!(two.record().open, 1);
}

#[tokio::test]
async fn an_idle_connection_is_taken_leave_of() {
    let idle_timeout = Duration::from_millis(40);
    let settings = config::Smtp { idle_timeout, ..config::Smtp::default() };
    let smtp = Smtp::new(&settings).expect("TLS can be had");
    let peer = Script::pipelining().start().await;
    smtp.deliver(&letter(), &plan(vec![hop(peer.address)])).await.result.expect("delivered");
    peer.until(|record| record.connections == 1 && record.open == 0).await;
    assert_eq!(peer.verbs(0).last().map(String::as_str), Some("QUIT"));
}

#[tokio::test]
async fn a_drained_carrier_takes_leave_and_begins_nothing() {
    let peer = Script::pipelining().start().await;
    let (smtp, plan) = (smtp(), plan(vec![hop(peer.address)]));
    smtp.deliver(&letter(), &plan).await.result.expect("delivered");
    smtp.drain().await;
    peer.until(|record| record.open == 0).await;
    assert_eq!(peer.verbs(0).last().map(String::as_str), Some("QUIT"));
    let result = smtp.deliver(&letter(), &plan).await.result;
    let Err(Outcome::Postponed { reason, .. }) = result else { panic!("found {result:?}") };
    assert_eq!(reason, WaitReason::Shutdown);
}

/// Time stands still and jumps to the next deadline when everyone waits.
#[tokio::test(start_paused = true)]
async fn every_phase_has_its_deadline() {
    let limits = config::Smtp::default();
    for (stage, at, limit) in [
        ("connect", Stage::Banner, limits.banner_timeout),
        ("EHLO", Stage::Ehlo, limits.ehlo_timeout),
        ("MAIL", Stage::Mail, limits.mail_timeout),
        ("RCPT", Stage::Rcpt, limits.rcpt_timeout),
        ("DATA", Stage::Data, limits.data_timeout),
        (".", Stage::Dot, limits.dot_timeout),
    ] {
        let peer = Script::pipelining().on(stage, Act::Silence).start().await;
        let delivery = smtp().deliver(&letter(), &plan(vec![hop(peer.address)])).await;
        let ended = delivery.result.expect_err("a silent peer");
        assert_eq!(matches!(ended, Outcome::Doubtful(_)), stage == ".", "{ended:?}");
        let verdict = verdict(ended);
        assert_eq!((verdict.stage, verdict.cause), (at, Cause::Timeout), "{stage}");
        let took = delivery.trail.took;
        assert!(took >= limit && took < limit + Duration::from_secs(1), "{stage}: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_trickling_peer_does_not_move_the_deadline() {
    let endless = "250-slow\r\n".repeat(100);
    let peer = Script::pipelining().on("EHLO", Act::Trickle(endless, 20_000)).start().await;
    let delivery = smtp().deliver(&letter(), &plan(vec![hop(peer.address)])).await;
    let verdict = verdict(delivery.result.expect_err("too slow"));
    assert_eq!((verdict.stage, verdict.cause), (Stage::Ehlo, Cause::Timeout));
    assert!(delivery.trail.took < Duration::from_secs(301));
}
