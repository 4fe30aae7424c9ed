//! Promises against real receivers, with nothing of ours on the other side: what we send
//! arrives as it was, encrypted where that is offered, pipelined where that is offered,
//! with 8-bit bodies and addresses in any script, small or of 50 MB.

use std::sync::Arc;

use crate::support::letters::{address, hop, plan};
use crate::support::receivers::{Receiver, is_root};
use postrider::config::{self, TlsMode};
use postrider::message::letter::Letter;
use postrider::route::plan::{Hop, RoutePlan};
use postrider::smtp::deliver::{Delivery, Smtp};

/// Letters that go over two connections beside each other, so that some wait for one.
const CROWD: usize = 40;

fn smtp() -> Arc<Smtp> {
    Arc::new(Smtp::new(&config::Smtp::default()).expect("TLS can be had"))
}

fn plan_to(receiver: &Receiver, tls: TlsMode) -> Arc<RoutePlan> {
    let hop = Hop { tls, max_connections: 2, ..hop(receiver.address) };
    Arc::new(plan(vec![hop]))
}

fn letter(to: &str, body: &[u8]) -> Letter {
    let mut bytes = b"From: a@example.com\r\nSubject: interop\r\n\r\n".to_vec();
    bytes.extend_from_slice(body);
    Letter::seal(Some(address("a@example.com")), address(to), bytes, false)
}

/// One of each kind: dots, 8 bits, an address in another script, nothing, 50 MB.
fn kinds() -> Vec<Letter> {
    let large =
        b".0123456789abcdef0123456789abcdef0123456789abcdef0123456789ab\r\n".repeat(800_000);
    vec![
        letter("dots@example.net", b".\r\n..\r\n.x\r\nx.\r\n"),
        letter("eight@example.net", "grüße, 8 bits\r\n".as_bytes()),
        letter("grüße@example.net", "an address that needs SMTPUTF8\r\n".as_bytes()),
        letter("none@example.net", b""),
        letter("chunk@example.net", &b".a line of a larger letter\r\n".repeat(5_000)),
        letter("large@example.net", &large),
    ]
}

async fn deliver(smtp: &Smtp, plan: &RoutePlan, letter: &Letter) -> Delivery {
    let delivery = smtp.deliver(letter, plan).await;
    if let Err(outcome) = &delivery.result {
        panic!("{}: {outcome:?}", letter.recipient());
    }
    delivery
}

/// Many at once, each with a body of its own.
async fn crowd(smtp: &Arc<Smtp>, plan: &Arc<RoutePlan>) -> Vec<Letter> {
    let letters: Vec<Letter> = (0..CROWD)
        .map(|n| letter(&format!("r{n}@example.net"), format!(".crowd {n}\r\n").as_bytes()))
        .collect();
    // The first shows how quick the receiver is.
    deliver(smtp, plan, &letters[0]).await;
    let rest: Vec<_> = letters[1..]
        .iter()
        .map(|letter| {
            let (smtp, plan, letter) = (Arc::clone(smtp), Arc::clone(plan), letter.clone());
            tokio::spawn(async move { drop(deliver(&smtp, &plan, &letter).await) })
        })
        .collect();
    for one in rest {
        one.await.expect("delivered");
    }
    letters
}

/// What a letter looks like in a file with the line ends of this system.
fn as_kept(letter: &Letter) -> Vec<u8> {
    letter.bytes().iter().copied().filter(|byte| *byte != b'\r').collect()
}

fn assert_all_kept(letters: &[Letter], files: &[Vec<u8>]) {
    assert_eq!(letters.len(), files.len());
    for letter in letters {
        let (kept, wire) = (as_kept(letter), letter.bytes());
        let found = files.iter().filter(|file| file.ends_with(&kept) || file.ends_with(wire));
        assert_eq!(found.count(), 1, "{}", letter.recipient());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postfix_takes_everything_with_and_without_pipelining() {
    if !is_root() {
        eprintln!("NOT RUN: Postfix wants root");
        return;
    }
    for pipelining in [true, false] {
        let receiver = Receiver::postfix(pipelining);
        let (smtp, plan) = (smtp(), plan_to(&receiver, TlsMode::Opportunistic));
        let mut letters = crowd(&smtp, &plan).await;
        for letter in kinds() {
            let delivery = deliver(&smtp, &plan, &letter).await;
            assert!(delivery.trail.tls.is_some(), "encrypted");
            letters.push(letter);
        }
        smtp.drain().await;
        assert_all_kept(&letters, &receiver.files("box/in/new", letters.len()).await);
        let log = receiver.lines("log/maillog", "disconnect from", 2).await.join("\n");
        assert_eq!(log.contains("bdat="), pipelining, "{log}");
        assert!(!log.contains("rset=") && !log.contains("noop="), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exim_takes_everything() {
    if !is_root() {
        eprintln!("NOT RUN: Exim wants root");
        return;
    }
    let receiver = Receiver::exim();
    let smtp = smtp();
    let clear = crowd(&smtp, &plan_to(&receiver, TlsMode::None)).await;
    let encrypted = kinds();
    let plan = plan_to(&receiver, TlsMode::Required);
    for letter in &encrypted {
        deliver(&smtp, &plan, letter).await;
    }
    smtp.drain().await;
    let number = clear.len() + encrypted.len();
    let took = receiver.lines("log/mainlog", "took body=", number).await;
    assert_eq!(took.len(), number);
    let under_tls = took.iter().filter(|line| line.contains("tls=TLS")).count();
    assert_eq!(under_tls, encrypted.len(), "{took:#?}");
    let errors = receiver.lines("log/mainlog", "error", 0).await;
    assert!(errors.is_empty(), "{errors:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aiosmtpd_takes_everything_one_command_after_the_other() {
    let receiver = Receiver::aiosmtpd();
    let (smtp, plan) = (smtp(), plan_to(&receiver, TlsMode::Opportunistic));
    let mut letters = crowd(&smtp, &plan).await;
    for letter in kinds() {
        let delivery = deliver(&smtp, &plan, &letter).await;
        assert!(delivery.trail.tls.is_some(), "encrypted");
        letters.push(letter);
    }
    assert_all_kept(&letters, &receiver.files("box", letters.len()).await);
}
