//! Second opinions on the wire: another client's mail arrives the same, and another parser
//! reads our commands and the peer's capabilities as we mean them.

use crate::support::letters::{address, hop, plan};
use crate::support::smtp_peer::{Body, Peer, Script};
use lettre::address::Envelope;
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use postrider::config;
use postrider::message::letter::Letter;
use postrider::smtp::capability::{Capabilities, SizeLimit};
use postrider::smtp::command::{Command, EhloName, Mail};
use postrider::smtp::deliver::Smtp;
use postrider::smtp::reply::ReplyParser;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use smtp_proto::{
    EXT_8BIT_MIME, EXT_CHUNKING, EXT_PIPELINING, EXT_SIZE, EXT_SMTP_UTF8, EXT_START_TLS,
};
use smtp_proto::{EhloResponse, MAIL_BODY_8BITMIME, MAIL_SMTPUTF8, Request};

/// The envelope's two addresses, without parameters, and the body.
fn what_came(peer: &Peer) -> (Vec<String>, Body) {
    let record = peer.record();
    let commands = record.commands.iter().map(|(_, line)| line.as_str());
    let paths = commands
        .filter(|line| line.starts_with("MAIL") || line.starts_with("RCPT"))
        .map(|line| line.split_inclusive('>').next().unwrap_or_default().to_owned());
    (paths.collect(), record.bodies.last().expect("a body").clone())
}

async fn by_lettre(peer: &Peer, sender: Option<&str>, recipient: &str, body: &[u8]) {
    let transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous("127.0.0.1")
        .port(peer.address.port())
        .build();
    let parse = |text: &str| text.parse::<lettre::Address>().expect("an address");
    let envelope = Envelope::new(sender.map(parse), vec![parse(recipient)]).expect("complete");
    transport.send_raw(&envelope, body).await.expect("delivered");
}

async fn by_us(peer: &Peer, sender: Option<&str>, recipient: &str, body: &[u8]) {
    let smtp = Smtp::new(&config::Smtp::default()).expect("TLS can be had");
    let letter = Letter::seal(sender.map(address), address(recipient), body.to_vec(), false);
    let plan = plan(vec![hop(peer.address)]);
    smtp.deliver(&letter, &plan).await.result.expect("delivered");
}

#[test]
fn a_mail_arrives_as_lettre_would_have_sent_it() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let lines = prop::collection::vec("[a. ]{0,80}", 1..30);
    let senders =
        prop::sample::select(vec![None, Some("a@example.com"), Some("o'b+c@example.com")]);
    let offers = prop::sample::subsequence(vec!["PIPELINING", "8BITMIME", "SIZE 100000"], 0..=3);
    let mut runner = TestRunner::new(Config { cases: 48, ..Config::default() });
    let ran = runner.run(&(lines, senders, offers), |(lines, sender, offers)| {
        let body: String = lines.iter().flat_map(|line| [line.as_str(), "\r\n"]).collect();
        let (theirs, ours) = runtime.block_on(async {
            let (one, two) =
                (Script::offering(&offers).start().await, Script::offering(&offers).start().await);
            by_lettre(&one, sender, "rcpt@example.net", body.as_bytes()).await;
            by_us(&two, sender, "rcpt@example.net", body.as_bytes()).await;
            (what_came(&one), what_came(&two))
        });
        prop_assert_eq!(&theirs.0, &ours.0);
        prop_assert_eq!(&ours.1.bytes, body.as_bytes());
        // lettre ends every body with a line end of its own.
        let same = theirs.1.bytes == ours.1.bytes
            || theirs.1.bytes.strip_suffix(b"\r\n") == Some(&ours.1.bytes);
        prop_assert!(same, "{:?}", theirs.1.bytes);
        Ok::<(), TestCaseError>(())
    });
    ran.expect("the same mail");
}

fn parsed(command: Command<'_>) -> Request<String> {
    let mut wire = Vec::new();
    command.write(&mut wire).expect("writable");
    let request = Request::parse(&mut wire.iter());
    request
        .unwrap_or_else(|error| panic!("{error:?}: {:?}", String::from_utf8_lossy(&wire)))
        .into_owned()
}

proptest! {
    #[test]
    fn smtp_proto_reads_our_commands_as_we_mean_them(
        local in "[a-z0-9!#$%&'*+/=?^_`{|}~-]{1,20}", domain in "[a-z]{1,10}\\.(com|net)",
        size in prop::option::of(1u64..50_000_000), eight_bit: bool, utf8: bool, octets: u32,
    ) {
        let text = format!("{local}@{domain}");
        let who = address(&text);
        let mail = Mail { sender: Some(&who), size, eight_bit, utf8 };
        let Request::Mail { from } = parsed(Command::Mail(mail)) else { panic!("MAIL") };
        prop_assert_eq!(from.address, text.clone());
        prop_assert_eq!(from.size as u64, size.unwrap_or(0));
        prop_assert_eq!(from.flags & MAIL_BODY_8BITMIME != 0, eight_bit);
        prop_assert_eq!(from.flags & MAIL_SMTPUTF8 != 0, utf8);
        let Request::Rcpt { to } = parsed(Command::Rcpt(&who)) else { panic!("RCPT") };
        prop_assert_eq!(to.address, text);
        let name = EhloName::try_new(&domain).expect("a name");
        prop_assert_eq!(parsed(Command::Ehlo(&name)), Request::Ehlo { host: domain });
        let chunk = Request::Bdat { chunk_size: octets as usize, is_last: true };
        prop_assert_eq!(parsed(Command::LastChunk(u64::from(octets))), chunk);
        prop_assert_eq!(parsed(Command::Data), Request::Data);
        prop_assert_eq!(parsed(Command::Reset), Request::Rset);
        prop_assert_eq!(parsed(Command::Quit), Request::Quit);
    }

    #[test]
    fn smtp_proto_finds_the_same_capabilities(
        offers in prop::sample::subsequence(vec![
            "PIPELINING", "8BITMIME", "SMTPUTF8", "STARTTLS", "CHUNKING", "SIZE 1000", "DSN", "HELP",
            "ENHANCEDSTATUSCODES", "VRFY", "X-UNKNOWN more words",
        ], 0..=11),
    ) {
        let mut wire = String::from("250-mx.example.net greets you\r\n");
        for offer in &offers {
            for part in ["250-", offer, "\r\n"] {
                wire.push_str(part);
            }
        }
        wire.push_str("250 NOOP\r\n");
        let theirs = EhloResponse::parse(&mut wire.as_bytes().iter()).expect("a reply");
        let (_, reply) = ReplyParser::default().feed(wire.as_bytes()).expect("a reply");
        let ours = Capabilities::from_ehlo(&reply.expect("a whole one"));
        let has = |capability: u32| theirs.capabilities & capability != 0;
        prop_assert_eq!(ours.pipelining, has(EXT_PIPELINING));
        prop_assert_eq!(ours.eight_bit_mime, has(EXT_8BIT_MIME));
        prop_assert_eq!(ours.smtputf8, has(EXT_SMTP_UTF8));
        prop_assert_eq!(ours.starttls, has(EXT_START_TLS));
        prop_assert_eq!(ours.chunking, has(EXT_CHUNKING));
        prop_assert_eq!(ours.size, if has(EXT_SIZE) { SizeLimit::Octets(1000) } else { SizeLimit::NotOffered });
    }
}
