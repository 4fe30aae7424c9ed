//! Promises: an address that does not answer holds a letter up for a moment only, if its host
//! has another one; no host gets more connections than allowed by it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::support::letters::{hop, letter, plan};
use crate::support::smtp_peer::Script;
use postrider::config;
use postrider::route::plan::Hop;
use postrider::smtp::deliver::Smtp;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

/// An address where connections are neither accepted nor refused: its backlog is full.
struct BlackHole {
    address: SocketAddr,
    _listener: TcpListener,
    _waiting: Vec<TcpStream>,
}

impl BlackHole {
    async fn open() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(([127, 0, 0, 1], 0).into()).expect("loopback has ports");
        let listener = socket.listen(1).expect("a listener");
        let address = listener.local_addr().expect("it is bound");
        let mut waiting = Vec::new();
        while let Ok(Ok(stream)) =
            timeout(Duration::from_millis(300), TcpStream::connect(address)).await
        {
            waiting.push(stream);
            assert!(waiting.len() < 64, "this system has no bound on its backlog");
        }
        Self { address, _listener: listener, _waiting: waiting }
    }
}

fn named(address: SocketAddr, host: &str) -> Hop {
    Hop { host: host.into(), ..hop(address) }
}

#[tokio::test]
async fn another_address_of_the_host_is_tried_beside_one_that_does_not_answer() {
    let (dead, peer) = (BlackHole::open().await, Script::pipelining().start().await);
    let smtp = Smtp::new(&config::Smtp::default()).expect("TLS can be had");
    let plan = plan(vec![named(dead.address, "mx.test"), named(peer.address, "mx.test")]);
    for _ in 0..3 {
        // Far below the 30 s that the first address would be waited for.
        let delivery = timeout(Duration::from_secs(10), smtp.deliver(&letter(), &plan)).await;
        let delivery = delivery.expect("in time");
        delivery.result.expect("delivered");
        assert_eq!(delivery.trail.peer, Some(peer.address.ip()));
    }
    let record = peer.record();
    assert_eq!((record.connections, record.bodies.len()), (1, 3), "and its connection is kept");
}

#[tokio::test(start_paused = true)]
async fn another_host_waits_for_its_turn() {
    let (dead, peer) = (BlackHole::open().await, Script::pipelining().start().await);
    let settings = config::Smtp::default();
    let smtp = Smtp::new(&settings).expect("TLS can be had");
    let plan = plan(vec![named(dead.address, "first.test"), named(peer.address, "second.test")]);
    let delivery = smtp.deliver(&letter(), &plan).await;
    delivery.result.expect("delivered");
    assert!(delivery.trail.took >= settings.connect_timeout, "{:?}", delivery.trail.took);
}

#[tokio::test]
async fn no_more_connections_than_allowed_go_to_the_other_address() {
    let (dead, peer) = (BlackHole::open().await, Script::pipelining().start().await);
    let settings =
        config::Smtp { connect_timeout: Duration::from_secs(1), ..config::Smtp::default() };
    let smtp = Arc::new(Smtp::new(&settings).expect("TLS can be had"));
    let mut hops = vec![named(dead.address, "mx.test"), named(peer.address, "mx.test")];
    hops[1].max_connections = 2;
    let plan = Arc::new(plan(hops));
    let mails: Vec<_> = (0..8)
        .map(|_| {
            let (smtp, plan) = (Arc::clone(&smtp), Arc::clone(&plan));
            tokio::spawn(async move { smtp.deliver(&letter(), &plan).await.result })
        })
        .collect();
    for mail in mails {
        mail.await.expect("no panic").expect("delivered");
    }
    assert!(peer.record().most_open <= 2, "{}", peer.record().most_open);
}
