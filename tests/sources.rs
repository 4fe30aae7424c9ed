//! Promises: a connection leaves from its source's address and under its name, or by its
//! proxy; a source in its warm-up sends no more than its day, and the rest goes by the warm ones.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::support::builders;
use crate::support::installation::Installation;
use crate::support::letters::{hop, letter, plan};
use crate::support::smtp_peer::Script;
use chrono::{DateTime, Days, NaiveDate};
use postrider::config::{self, Proxy, Source};
use postrider::domain::clock::Clock;
use postrider::domain::outcome::Outcome;
use postrider::domain::verdict::{Cause, Stage};
use postrider::route::plan::RoutePlan;
use postrider::smtp::deliver::Smtp;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

fn smtp() -> Smtp {
    Smtp::new(&config::Smtp::default()).expect("TLS can be had")
}

fn from(source: Source, to: SocketAddr) -> RoutePlan {
    RoutePlan { source: Arc::new(source), ..plan(vec![hop(to)]) }
}

fn source(addresses: &[&str]) -> Source {
    Source {
        ehlo: "out7.example.com".into(),
        addresses: addresses.iter().map(|text| text.parse().expect("an address")).collect(),
        ..Source::default()
    }
}

/// Hands connections on to `to`, and tells from where they came.
async fn gate(listener: TcpListener, to: SocketAddr, told: mpsc::UnboundedSender<IpAddr>) {
    while let Ok((mut inbound, from)) = listener.accept().await {
        told.send(from.ip()).expect("the test listens");
        tokio::spawn(async move {
            let mut outbound = TcpStream::connect(to).await.expect("the peer is there");
            let _ended = copy_bidirectional(&mut inbound, &mut outbound).await;
        });
    }
}

#[tokio::test]
async fn a_connection_leaves_from_the_address_of_its_family_and_under_its_name() {
    let peer = Script::pipelining().start().await;
    for (listen, ours) in [("127.0.0.1:0", "127.0.0.7"), ("[::1]:0", "::1")] {
        let Ok(listener) = TcpListener::bind(listen).await else { continue };
        let address = listener.local_addr().expect("it is bound");
        let (told, mut heard) = mpsc::unbounded_channel();
        tokio::spawn(gate(listener, peer.address, told));
        let plan = from(source(&["127.0.0.7", "::1"]), address);
        smtp().deliver(&letter(), &plan).await.result.expect("delivered");
        assert_eq!(heard.recv().await, ours.parse().ok());
    }
    let name = peer.record().commands[0].1.clone();
    assert_eq!(name, "EHLO out7.example.com");
}

#[tokio::test]
async fn a_source_without_the_family_of_the_host_sends_nothing() {
    let peer = Script::pipelining().start().await;
    let ended = smtp().deliver(&letter(), &from(source(&["::1"]), peer.address)).await.result;
    let Err(Outcome::Unreached(verdict)) = ended else { panic!("found {ended:?}") };
    assert_eq!(verdict.stage, Stage::Connect);
    assert_eq!(peer.record().connections, 0);
}

#[tokio::test]
async fn by_proxy_protocol_the_proxy_is_told_both_ends() {
    let peer = Script::pipelining().start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has ports");
    let proxy = listener.local_addr().expect("it is bound");
    let (target, told) = (
        peer.address,
        tokio::spawn(async move {
            let (mut inbound, _) = listener.accept().await.expect("somebody comes");
            let mut header = [0; 28];
            inbound.read_exact(&mut header).await.expect("a header");
            assert_eq!(header[..16], *b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c");
            let port = u16::from_be_bytes([header[26], header[27]]);
            let to = SocketAddr::from(([header[20], header[21], header[22], header[23]], port));
            let mut outbound = TcpStream::connect(to).await.expect("the peer is there");
            tokio::spawn(
                async move { copy_bidirectional(&mut inbound, &mut outbound).await.map(drop) },
            );
            ([header[16], header[17], header[18], header[19]], to)
        }),
    );
    let mut source = source(&["192.0.2.25"]);
    source.proxy = Some(Proxy::ProxyV2(proxy));
    smtp().deliver(&letter(), &from(source, target)).await.result.expect("delivered");
    assert_eq!(told.await.expect("no panic"), ([192, 0, 2, 25], target));
    assert_eq!(peer.accepted().len(), 1);
}

/// A SOCKS5 proxy for one connection that answers with `reply`.
async fn socks5(listener: TcpListener, reply: u8) -> SocketAddr {
    let (mut inbound, _) = listener.accept().await.expect("somebody comes");
    let mut greeting = [0; 3];
    inbound.read_exact(&mut greeting).await.expect("a greeting");
    assert_eq!(greeting, [5, 1, 0]);
    inbound.write_all(&[5, 0]).await.expect("it listens");
    let mut request = [0; 10];
    inbound.read_exact(&mut request).await.expect("a request");
    assert_eq!(request[..4], [5, 1, 0, 1]);
    let port = u16::from_be_bytes([request[8], request[9]]);
    let to = SocketAddr::from(([request[4], request[5], request[6], request[7]], port));
    inbound.write_all(&[5, reply, 0, 1, 192, 0, 2, 1, 0, 99]).await.expect("it listens");
    if reply == 0 {
        let mut outbound = TcpStream::connect(to).await.expect("the peer is there");
        tokio::spawn(
            async move { copy_bidirectional(&mut inbound, &mut outbound).await.map(drop) },
        );
    }
    to
}

#[tokio::test]
async fn by_socks5_the_proxy_connects_or_says_why_not() {
    let peer = Script::pipelining().start().await;
    for (reply, delivered) in [(0, true), (5, false)] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has ports");
        let proxy = listener.local_addr().expect("it is bound");
        let asked = tokio::spawn(socks5(listener, reply));
        let mut source = source(&[]);
        source.proxy = Some(Proxy::Socks5(proxy));
        let ended = smtp().deliver(&letter(), &from(source, peer.address)).await.result;
        assert_eq!(ended.is_ok(), delivered, "{ended:?}");
        if let Err(Outcome::Unreached(verdict)) = ended {
            assert_eq!(verdict.stage, Stage::Connect);
            assert!(
                matches!(&verdict.cause, Cause::Connection(text) if text.contains("refused")),
                "{verdict}"
            );
        }
        assert_eq!(asked.await.expect("no panic"), peer.address);
    }
}

fn today() -> NaiveDate {
    let now = DateTime::from_timestamp(Clock::System.unix_seconds() as i64, 0);
    now.expect("a time").date_naive()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_source_sends_its_day_and_the_warm_one_the_rest() {
    let home = Installation::new(None).await;
    let tenant = builders::tenant(&home.owner, "acme").await;
    // Began yesterday, so that midnight may pass: 55 on each day.
    let starts = today().checked_sub_days(Days::new(1)).expect("a day");
    let more = format!(
        r#"
[[source]]
name = "new"
ehlo = "new.example.org"
warm_up = {{ starts = "{starts}", days = [55, 55, 55] }}

[[pool]]
name = "growing"
sources = ["default", "new"]

[[rule]]
stream = "bulk"
route = "sink"
pool = "growing"
"#
    );
    let config = home.configure(&more);
    let daemon = home.daemon(&config).await;
    let sent = async |source: &str| {
        builders::rows(&home.owner, &format!("attempt where detail->>'source' = '{source}'")).await
    };
    let (mut all, mut new, mut old) = (0, 0, 0);
    // On a busy machine the warm one may have sent a batch before the new one was dealt a token.
    while new == 0 && all < 6_000 {
        home.submit(tenant, "bulk", &builders::recipients(300, "gmail.example")).await;
        home.drained(&daemon).await;
        all += 300;
        (new, old) = (sent("new").await, sent("default").await);
        assert_eq!(new + old, all, "everything went out");
    }
    assert!((1..=55).contains(&new), "{new} from the new source, {old} from the warm one");
}
