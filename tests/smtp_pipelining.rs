//! Promises: where PIPELINING is offered and a letter waits for the connection, its envelope
//! goes out behind the body before it; whatever happens to the one costs the other nothing.
//! Large letters go out in one chunk where CHUNKING is offered.

use std::sync::Arc;

use crate::support::letters::{address, hop, letter, letter_of, plan};
use crate::support::smtp_peer::{Act, Peer, Script};
use postrider::config;
use postrider::domain::outcome::{Outcome, WaitReason};
use postrider::domain::receipt::Receipt;
use postrider::message::letter::Letter;
use postrider::route::plan::RoutePlan;
use postrider::smtp::deliver::Smtp;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

type Ended = JoinHandle<Result<Receipt, Outcome>>;

/// A carrier and a plan with one connection to the peer.
struct Wire {
    smtp: Arc<Smtp>,
    plan: Arc<RoutePlan>,
}

impl Wire {
    fn to(peer: &Peer) -> Self {
        Self::with(peer, &config::Smtp::default(), 100)
    }

    fn with(peer: &Peer, settings: &config::Smtp, messages_per_connection: u32) -> Self {
        let mut hop = hop(peer.address);
        hop.max_connections = 1;
        hop.messages_per_connection = messages_per_connection;
        let smtp = Arc::new(Smtp::new(settings).expect("TLS can be had"));
        Self { smtp, plan: Arc::new(plan(vec![hop])) }
    }

    /// One letter before all: how quick the peer answers is known then.
    async fn warm(self) -> Self {
        self.smtp.deliver(&letter(), &self.plan).await.result.expect("delivered");
        self
    }

    /// Begins a letter, and lets it come as far as it can without the peer.
    async fn begin(&self, letter: Letter) -> Ended {
        self.begin_while(letter, || Ok(())).await
    }

    async fn begin_while(
        &self,
        letter: Letter,
        may_begin: impl Fn() -> Result<(), Outcome> + Send + Sync + 'static,
    ) -> Ended {
        let (smtp, plan) = (Arc::clone(&self.smtp), Arc::clone(&self.plan));
        let ended =
            tokio::spawn(
                async move { smtp.deliver_while(&may_begin, &letter, &plan).await.result },
            );
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
        ended
    }
}

/// A peer that waits with the 354 of the second letter, and what lets it go on.
fn held() -> (Script, Arc<Notify>) {
    held_by(Script::pipelining())
}

fn held_by(script: Script) -> (Script, Arc<Notify>) {
    let go = Arc::new(Notify::new());
    let held = Act::After(Arc::clone(&go), Box::new(Act::reply("354 go ahead")));
    (script.once("DATA", Act::reply("354 go ahead")).once("DATA", held), go)
}

/// The second letter is at its 354, and another waits behind it.
async fn two_in_line(wire: &Wire, peer: &Peer, go: &Notify) -> (Ended, Ended) {
    let first = wire.begin(to("first@example.net")).await;
    peer.until(|record| data_commands(record) == 2).await;
    let second = wire.begin(to("second@example.net")).await;
    go.notify_one();
    (first, second)
}

fn data_commands(record: &crate::support::smtp_peer::Record) -> usize {
    record.commands.iter().filter(|(_, line)| line == "DATA").count()
}

fn to(recipient: &str) -> Letter {
    Letter::seal(None, address(recipient), b"Subject: x\r\n\r\ntext\r\n".to_vec(), false)
}

async fn receipt(ended: Ended) -> Receipt {
    ended.await.expect("no panic").expect("delivered")
}

#[tokio::test]
async fn the_next_envelope_goes_out_behind_a_body() {
    let (script, go) = held();
    let peer = script.start().await;
    let wire = Wire::to(&peer).warm().await;
    let (first, second) = two_in_line(&wire, &peer, &go).await;
    let third = wire.begin(to("third@example.net")).await;
    for ended in [first, second, third] {
        receipt(ended).await;
    }
    let record = peer.record();
    assert_eq!((record.connections, record.bodies.len()), (1, 4));
    let followed: Vec<bool> = record.bodies.iter().map(|body| body.followed).collect();
    assert_eq!(followed, [false, true, true, false]);
    let once = ["MAIL", "RCPT", "DATA"].repeat(4);
    assert_eq!(peer.verbs(0)[1..], once, "no NOOP, no RSET");
    let rcpt = |n: usize| record.commands[3 * n + 2].1.clone();
    assert_eq!([rcpt(2), rcpt(3)], ["RCPT TO:<second@example.net>", "RCPT TO:<third@example.net>"]);
}

#[tokio::test]
async fn without_pipelining_or_against_the_settings_nothing_goes_out_behind() {
    let off = config::Smtp { envelope_behind_body: false, ..config::Smtp::default() };
    for (script, settings) in
        [(Script::offering(&[]), config::Smtp::default()), (Script::pipelining(), off)]
    {
        let (script, go) = held_by(script);
        let peer = script.start().await;
        let wire = Wire::with(&peer, &settings, 100).warm().await;
        let (first, second) = two_in_line(&wire, &peer, &go).await;
        receipt(first).await;
        receipt(second).await;
        let record = peer.record();
        assert!(record.connections == 1 && record.bodies.iter().all(|body| !body.followed));
    }
}

#[tokio::test]
async fn what_happens_to_the_one_costs_the_other_nothing() {
    // The first is refused: the second goes on over the same connection.
    let (script, go) = held();
    let peer = script
        .once(".", Act::reply("250 taken"))
        .once(".", Act::reply("554 5.7.1 no"))
        .start()
        .await;
    let wire = Wire::to(&peer).warm().await;
    let (first, second) = two_in_line(&wire, &peer, &go).await;
    assert!(matches!(first.await.expect("no panic"), Err(Outcome::Refused(_))));
    receipt(second).await;
    assert_eq!(peer.record().connections, 1);

    // The second is refused: the third goes on, after a RSET.
    let (script, go) = held();
    let peer = script
        .once("RCPT", Act::reply("250 ok"))
        .once("RCPT", Act::reply("250 ok"))
        .once("RCPT", Act::reply("550 5.1.1 unknown"))
        .once("DATA", Act::reply("503 no recipient"))
        .start()
        .await;
    let wire = Wire::to(&peer).warm().await;
    let (first, second) = two_in_line(&wire, &peer, &go).await;
    let third = wire.begin(to("third@example.net")).await;
    receipt(first).await;
    let refused = second.await.expect("no panic");
    assert!(matches!(&refused, Err(Outcome::Refused(v)) if v.condemns_address()), "{refused:?}");
    receipt(third).await;
    assert_eq!(peer.verbs(0)[10..], ["RSET", "MAIL", "RCPT", "DATA"]);
}

#[tokio::test]
async fn a_connection_that_ends_with_the_first_leaves_the_second_to_a_fresh_one() {
    for act in [
        Act::ReplyAndDrop("250 taken".into()),
        Act::reply("250 taken\r\n421 4.7.0 enough mails"),
        Act::Drop,
        Act::reply("421 4.3.2 going down"),
    ] {
        let is_taken =
            matches!(&act, Act::Reply(text) | Act::ReplyAndDrop(text) if text.starts_with('2'));
        let (script, go) = held();
        let peer = script.once(".", Act::reply("250 taken")).once(".", act.clone()).start().await;
        let wire = Wire::to(&peer).warm().await;
        let (first, second) = two_in_line(&wire, &peer, &go).await;
        assert_eq!(first.await.expect("no panic").is_ok(), is_taken);
        receipt(second).await;
        let accepted = peer.accepted();
        assert_eq!(accepted.len(), 2 + usize::from(is_taken), "nothing came twice");
        assert_eq!(accepted.last().map(|body| body.connection), Some(1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_loses_what_is_behind_a_body_is_remembered() {
    let (script, go) = held();
    let held_again = Act::After(Arc::clone(&go), Box::new(Act::reply("354 go ahead")));
    let peer = script.deaf_behind_bodies().once("DATA", Act::reply("354 go ahead")).start().await;
    let wire = Wire::to(&peer).warm().await;
    let (first, second) = two_in_line(&wire, &peer, &go).await;
    receipt(first).await;
    receipt(second).await;
    assert_eq!(peer.record().connections, 2, "the second was begun afresh");
    peer.now_on("DATA", held_again);
    let third = wire.begin(to("third@example.net")).await;
    peer.until(|record| data_commands(record) >= 4).await;
    let fourth = wire.begin(to("fourth@example.net")).await;
    peer.now_on("DATA", Act::reply("354 go ahead"));
    go.notify_one();
    receipt(third).await;
    receipt(fourth).await;
    assert_eq!(peer.record().connections, 2, "one after the other from now on");
    assert_eq!(peer.accepted().len(), 5);
}

#[tokio::test]
async fn a_letter_that_may_not_begin_any_more_sends_no_body() {
    let (script, go) = held();
    let peer = script.start().await;
    let wire = Wire::to(&peer).warm().await;
    let first = wire.begin(to("first@example.net")).await;
    peer.until(|record| data_commands(record) == 2).await;
    let fenced = || {
        Err(Outcome::Postponed { delay: std::time::Duration::ZERO, reason: WaitReason::NotReady })
    };
    let second = wire.begin_while(to("second@example.net"), fenced).await;
    go.notify_one();
    receipt(first).await;
    let ended = second.await.expect("no panic");
    assert!(matches!(ended, Err(Outcome::Postponed { .. })), "{ended:?}");
    peer.until(|record| record.open == 0).await;
    assert_eq!(peer.record().bodies.len(), 2, "its envelope came, and the connection was closed");
}

#[tokio::test]
async fn a_letter_that_is_given_up_while_it_was_taken_along_ends_the_connection_only() {
    let (script, go) = held();
    let answer = Arc::new(Notify::new());
    let slow = Act::After(Arc::clone(&answer), Box::new(Act::reply("250 taken")));
    let peer = script.once(".", Act::reply("250 taken")).once(".", slow).start().await;
    let wire = Wire::to(&peer).warm().await;
    let (first, second) = two_in_line(&wire, &peer, &go).await;
    peer.until(|record| record.bodies.len() == 2).await;
    second.abort();
    assert!(second.await.is_err_and(|error| error.is_cancelled()));
    answer.notify_one();
    receipt(first).await;
    peer.until(|record| record.open == 0).await;
    wire.smtp.deliver(&letter(), &wire.plan).await.result.expect("delivered");
    assert_eq!((peer.record().connections, peer.accepted().len()), (2, 3));
}

#[tokio::test]
async fn no_more_mails_go_over_a_connection_than_either_side_allows() {
    for (offers, ours) in [(&["PIPELINING", "LIMITS MAILMAX=2"][..], 100), (&["PIPELINING"], 2)] {
        let peer = Script::offering(offers).start().await;
        let wire = Wire::with(&peer, &config::Smtp::default(), ours);
        let mut mails = Vec::new();
        for n in 0..8 {
            mails.push(wire.begin(to(&format!("r{n}@example.net"))).await);
        }
        for mail in mails {
            receipt(mail).await;
        }
        let record = peer.record();
        assert_eq!((record.connections, record.bodies.len()), (4, 8));
        for connection in 0..4 {
            let bodies = record.bodies.iter().filter(|body| body.connection == connection);
            assert_eq!(bodies.count(), 2);
        }
    }
}

#[tokio::test]
async fn a_large_letter_goes_out_in_one_chunk() {
    let large = letter_of(&b".a line that begins with a dot\r\n".repeat(5_000));
    let size = large.bytes().len();
    let peer = Script::offering(&["PIPELINING", "CHUNKING"])
        .once(".", Act::reply("552 5.3.4 too large after all"))
        .start()
        .await;
    let wire = Wire::to(&peer);
    let refused = wire.smtp.deliver(&large, &wire.plan).await.result;
    assert!(matches!(refused, Err(Outcome::Refused(_))), "{refused:?}");
    wire.smtp.deliver(&large, &wire.plan).await.result.expect("delivered");
    wire.smtp.deliver(&letter(), &wire.plan).await.result.expect("delivered");
    let (chunk, record) = (format!("BDAT {size} LAST"), peer.record());
    let said: Vec<&str> = record.commands.iter().map(|(_, line)| line.as_str()).collect();
    assert_eq!(said[3], chunk);
    assert_eq!(peer.verbs(0)[4..], ["RSET", "MAIL", "RCPT", "BDAT", "MAIL", "RCPT", "DATA"]);
    assert_eq!(record.bodies[1].bytes, large.bytes(), "as it is, dots and all");
    assert_eq!(record.connections, 1);

    let off = config::Smtp { chunking: false, ..config::Smtp::default() };
    let wire = Wire::with(&peer, &off, 100);
    wire.smtp.deliver(&large, &wire.plan).await.result.expect("delivered");
    assert_eq!(peer.verbs(1)[1..], ["MAIL", "RCPT", "DATA"]);
    assert_eq!(peer.accepted()[2].bytes, large.bytes());

    // What is not legal as it is goes by DATA, which makes it so.
    let unclean = letter_of(&b"a bare line feed\n".repeat(5_000));
    let wire = Wire::to(&peer);
    wire.smtp.deliver(&unclean, &wire.plan).await.result.expect("delivered");
    assert_eq!(peer.verbs(2)[1..], ["MAIL", "RCPT", "DATA"]);
}
