//! Promise: whatever a peer answers, at whatever moment it leaves, and however its answers are
//! cut, every letter comes to one end, and the end is true.
//!
//! Letters are sent several at a time over few connections, so that envelopes go out behind
//! bodies; the peer answers at random, but never without being asked: whoever does that can
//! make any client that pipelines take one answer for another. A failing case is printed.

use std::collections::HashMap;
use std::sync::Arc;

use crate::support::letters::{address, hop, plan};
use crate::support::smtp_peer::{Act, Record, Script};
use postrider::config;
use postrider::domain::outcome::Outcome;
use postrider::message::letter::Letter;
use postrider::smtp::deliver::Smtp;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

const LETTERS: usize = 6;

fn act() -> impl Strategy<Value = Act> {
    let reply = |text: &str| Just(Act::reply(text));
    prop_oneof![
        12 => reply("250 2.0.0 ok"),
        2 => reply("354 go on"),
        2 => reply("451 4.7.1 later"),
        2 => reply("550 5.1.1 no"),
        1 => reply("421 4.3.2 closing"),
        1 => reply("503 5.5.1 bad sequence"),
        1 => reply("250-two\r\n250 lines"),
        1 => reply("250-changes\r\n550 its mind"),
        1 => reply(""),
        1 => "[ -~\\x00-\\x1f]{0,40}".prop_map(|noise| Act::reply(&noise)),
        1 => Just(Act::Drop),
        1 => Just(Act::ReplyAndDrop("250 2.0.0 and goodbye".into())),
        1 => Just(Act::ReplyAndDrop("4".into())),
    ]
}

fn letter(number: usize) -> Letter {
    let body = format!("Subject: {number}\r\n\r\n.{}\r\n", "x".repeat(number * 40));
    Letter::seal(None, address(&format!("r{number}@example.net")), body.into_bytes(), false)
}

/// How often each letter's whole body came, and how often it was taken.
fn came(record: &Record) -> HashMap<Vec<u8>, (usize, usize)> {
    let mut came: HashMap<_, (usize, usize)> = HashMap::new();
    for body in &record.bodies {
        let count = came.entry(body.bytes.clone()).or_default();
        count.0 += 1;
        count.1 += usize::from(body.accepted);
    }
    came
}

#[test]
fn every_letter_comes_to_one_true_end() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let stages = ["connect", "EHLO", "MAIL", "RCPT", "DATA", "."];
    let script = prop::collection::vec((prop::sample::select(stages.to_vec()), act()), 0..24);
    let offers =
        prop::sample::subsequence(vec!["PIPELINING", "CHUNKING", "LIMITS MAILMAX=3"], 0..=3);
    let mut runner = TestRunner::new(Config { cases: 300, ..Config::default() });
    let ran = runner.run(&(script, offers, 1u32..3), |(script, offers, connections)| {
        let (ends, record) = runtime.block_on(run(&script, &offers, connections));
        let came = came(&record);
        for (number, end) in ends.iter().enumerate() {
            let letter = letter(number);
            let (whole, taken) = came.get(letter.bytes()).copied().unwrap_or_default();
            prop_assert!(whole <= 1, "{number}: sent {whole} times");
            match end {
                Ok(receipt) => {
                    prop_assert!(whole == 1 && receipt.reply.code < 300, "{number}: {receipt:?}");
                }
                Err(Outcome::Doubtful(_)) => prop_assert_eq!(whole, 1, "{}", number),
                Err(Outcome::Refused(_)) => prop_assert_eq!(taken, 0, "{}", number),
                Err(Outcome::Unreached(_) | Outcome::Postponed { .. }) => {
                    prop_assert_eq!(whole, 0, "{}", number);
                }
                Err(other) => prop_assert!(false, "{number}: {other:?}"),
            }
        }
        let known = (0..LETTERS).filter(|n| came.contains_key(letter(*n).bytes())).count();
        let empty = came.keys().filter(|body| body.is_empty()).count();
        prop_assert_eq!(known + empty, came.len(), "a body that nobody wrote");
        prop_assert!(
            came.get(&Vec::new()).is_none_or(|(_, taken)| *taken == 0 || has_lone_dots(&record))
        );
        Ok::<(), TestCaseError>(())
    });
    ran.expect("true ends");
}

/// A lone dot goes only where the recipient was refused: what it ends is nobody's mail.
fn has_lone_dots(record: &Record) -> bool {
    record.bodies.iter().filter(|body| body.raw.is_empty()).all(|body| !body.followed)
}

async fn run(
    script: &[(&'static str, Act)],
    offers: &[&str],
    connections: u32,
) -> (Vec<Result<postrider::domain::receipt::Receipt, Outcome>>, Record) {
    let mut peer = Script::offering(offers);
    for (stage, act) in script {
        peer = peer.once(stage, act.clone());
    }
    let peer = peer.start().await;
    let smtp = Arc::new(Smtp::new(&quick()).expect("TLS can be had"));
    let mut hop = hop(peer.address);
    hop.max_connections = connections;
    let plan = Arc::new(plan(vec![hop]));
    let mails: Vec<_> = (0..LETTERS)
        .map(|number| {
            let (smtp, plan) = (Arc::clone(&smtp), Arc::clone(&plan));
            tokio::spawn(async move { smtp.deliver(&letter(number), &plan).await.result })
        })
        .collect();
    let mut ends = Vec::new();
    for mail in mails {
        ends.push(mail.await.expect("no panic"));
    }
    (ends, peer.record())
}

/// A peer that says too little is waited for only so long.
fn quick() -> config::Smtp {
    let short = std::time::Duration::from_secs(5);
    config::Smtp {
        banner_timeout: short,
        ehlo_timeout: short,
        mail_timeout: short,
        rcpt_timeout: short,
        data_timeout: short,
        body_timeout: short,
        dot_timeout: short,
        ..config::Smtp::default()
    }
}
