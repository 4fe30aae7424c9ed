//! Letters, hops and plans for the carriers' tests.

use std::net::SocketAddr;
use std::sync::Arc;

use postrider::config::{Source, TlsMode};
use postrider::domain::ids::MailboxProvider;
use postrider::message::address::Address;
use postrider::message::letter::Letter;
use postrider::route::plan::{Hop, RoutePlan};
use postrider::route::tls_policy::TlsPolicy;

pub fn address(text: &str) -> Address {
    Address::try_new(text).expect("an address")
}

/// A small letter to someone.
pub fn letter() -> Letter {
    letter_of(b"Subject: hello\r\n\r\ntext\r\n.dot\r\n")
}

pub fn letter_of(bytes: &[u8]) -> Letter {
    let sender = Some(address("sender@example.com"));
    Letter::seal(sender, address("rcpt@example.net"), bytes.to_vec(), false)
}

/// A hop in clear with room for everything.
pub fn hop(address: SocketAddr) -> Hop {
    Hop {
        host: "mx.example.net".into(),
        address,
        tls: TlsMode::Opportunistic,
        auth: None,
        policy: TlsPolicy::default(),
        certificate: None,
        max_connections: 10,
        messages_per_connection: 100,
    }
}

pub fn plan(hops: Vec<Hop>) -> RoutePlan {
    RoutePlan {
        route: "direct".into(),
        mailbox_provider: MailboxProvider::other(),
        source: Arc::new(Source {
            name: "default".into(),
            ehlo: "out.example.com".into(),
            ..Source::default()
        }),
        hops,
        provider: None,
    }
}

/// An address where nobody listens.
pub async fn dead_address() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback has ports");
    listener.local_addr().expect("it is bound")
}
