//! Promises of the inbound listener: it takes mail for addresses of ours and for nothing else,
//! acknowledges only what is stored, and lets nobody smuggle a mail into another.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::builders;
use crate::support::postgres::{Role, TestDb};
use postrider::config::{Inbound, InboundTls, Settings};
use postrider::domain::clock::Clock;
use postrider::domain::ids::{CellNumber, DeliveryId};
use postrider::inbound::server::{InboundError, Listener, Store, Stores};
use postrider::message::return_path::{Purpose, ReturnKey};
use postrider::telemetry::metrics;
use sqlx::PgPool;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

/// Some moment in 2026.
const NOW: u64 = 1_795_000_000;

struct House {
    _db: TestDb,
    owner: PgPool,
    smtp: SocketAddr,
    lmtp: SocketAddr,
    key: ReturnKey,
    full: Arc<AtomicBool>,
    stop: CancellationToken,
}

impl House {
    async fn open(inbound: Inbound) -> Self {
        let db = TestDb::new().await;
        let (owner, worker) = (db.pool(Role::Owner).await, db.pool(Role::Worker).await);
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut settings = Settings::for_testing();
        settings.inbound = Inbound {
            smtp_listen: Some(any),
            lmtp_listen: Some(any),
            hostname: "mx.shop.example".into(),
            complaint_address: Some("fbl@shop.example".into()),
            max_mail_bytes: 64 << 10,
            ..inbound
        };
        let full = Arc::new(AtomicBool::new(false));
        let store = Store { number: CellNumber::new(0), pool: worker, full: Arc::clone(&full) };
        let listener = Listener::bind(&settings, Stores::new(vec![store]), Clock::fixed(NOW))
            .await
            .expect("bind");
        let addresses = listener.addresses();
        let stop = CancellationToken::new();
        tokio::spawn(listener.run(stop.clone()));
        let key = ReturnKey::derive(&settings.secrets.key_bytes().expect("a key"));
        Self { _db: db, owner, smtp: addresses[0], lmtp: addresses[1], key, full, stop }
    }

    fn address(&self, purpose: Purpose) -> String {
        format!("{}@bounces.shop.example", self.key.local_part(purpose, delivery()))
    }

    async fn stored(&self) -> Vec<(String, Option<i64>, String, Vec<u8>)> {
        sqlx::query_as(
            "select purpose, job_id, sender, raw from postrider.inbound_report order by report_id",
        )
        .fetch_all(&self.owner)
        .await
        .expect("reports")
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn delivery() -> DeliveryId {
    DeliveryId::new((((NOW - 1_577_836_800 - 60) * 1_000) << 22) as i64 | 0x5)
}

/// A client that sends lines and reads replies.
struct Client<S> {
    stream: BufReader<S>,
}

impl Client<TcpStream> {
    async fn to(address: SocketAddr) -> Self {
        let mut client =
            Self { stream: BufReader::new(TcpStream::connect(address).await.expect("connect")) };
        assert!(client.reply().await.starts_with("220 "));
        client
    }
}

impl<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin> Client<S> {
    async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("write");
        self.stream.flush().await.expect("flush");
    }

    /// One whole reply; empty at the end of the connection.
    async fn reply(&mut self) -> String {
        let mut whole = String::new();
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                return whole;
            }
            whole.push_str(&line);
            if line.as_bytes().get(3) == Some(&b' ') {
                return whole;
            }
        }
    }

    async fn say(&mut self, line: &str) -> String {
        self.write(format!("{line}\r\n").as_bytes()).await;
        self.reply().await
    }

    /// From the greeting to DATA.
    async fn begin(&mut self, hello: &str, to: &[&str]) {
        assert!(self.say(hello).await.contains("250"));
        assert!(self.say("MAIL FROM:<>").await.starts_with("250"));
        for one in to {
            assert!(self.say(&format!("RCPT TO:<{one}>")).await.starts_with("250"), "{one}");
        }
        assert!(self.say("DATA").await.starts_with("354"));
    }
}

#[tokio::test]
async fn a_report_is_stored_before_it_is_acknowledged() {
    let house = House::open(Inbound::default()).await;
    let mut client = Client::to(house.smtp).await;
    let back = house.address(Purpose::Return).to_uppercase();
    client.begin("EHLO b.example", &[&back, "FBL@shop.example"]).await;
    assert!(client.say("Subject: x\r\n\r\n..dot\r\n.").await.starts_with("250 "));
    let stored = house.stored().await;
    assert_eq!(stored.len(), 2);
    assert_eq!(
        stored[0],
        (
            "return".into(),
            Some(delivery().get()),
            String::new(),
            b"Subject: x\r\n\r\n.dot\r\n".to_vec()
        )
    );
    assert_eq!((stored[1].0.as_str(), stored[1].1), ("complaint", None));
    client.begin("RSET", &[&back]).await;
    assert!(client.say("another\r\n.").await.starts_with("250 "), "the session goes on");
    assert_eq!(house.stored().await.len(), 3);
}

#[tokio::test]
async fn only_addresses_of_ours_are_taken() {
    let recorder = metrics::install().expect("a recorder");
    let refused = |reason: &str| {
        let name = format!("postrider_inbound_refused_total{{reason=\"{reason}\"}} ");
        let text = recorder.render();
        text.lines().find_map(|line| line.strip_prefix(&*name)?.parse::<u64>().ok()).unwrap_or(0)
    };
    let before = ["forged", "unknown", "too_old"].map(&refused);
    let house = House::open(Inbound::default()).await;
    let other = ReturnKey::derive(&[9; 32]).local_part(Purpose::Return, delivery());
    let old = house.key.local_part(Purpose::Return, DeliveryId::new(1 << 30));
    let mut client = Client::to(house.smtp).await;
    client.say("EHLO b.example").await;
    client.say("MAIL FROM:<x@y.example>").await;
    for (to, code) in [
        ("someone@gmail.example", "550 5.1.1"),
        (&format!("{other}@bounces.shop.example"), "550 5.1.1"),
        (&format!("{old}@bounces.shop.example"), "550 5.1.6"),
        ("postmaster@shop.example", "550 5.1.1"),
        ("fbl@other.example", "550 5.1.1"),
    ] {
        let reply = client.say(&format!("RCPT TO:<{to}>")).await;
        assert!(reply.starts_with(code), "{to}: {reply}");
    }
    assert!(client.say("DATA").await.starts_with("554"));
    assert!(house.stored().await.is_empty());
    let after = ["forged", "unknown", "too_old"].map(&refused);
    let new = [0, 1, 2].map(|n| after[n] - before[n]);
    assert!(new[0] >= 1 && new[1] >= 3 && new[2] >= 1, "counted by what is wrong: {new:?}");
}

#[tokio::test]
async fn nothing_but_a_dot_between_two_whole_line_ends_ends_a_mail() {
    let house = House::open(Inbound::default()).await;
    let back = house.address(Purpose::Return);
    for smuggled in [
        "\n.\n",
        "\n.\r",
        "\r.\n",
        "\r.\r",
        "\n.\r\n",
        "\r.\r\n",
        "\r\n.\r\r\n",
        "\r\r\n.\r\r\n",
        "\r\n\0.\r\n",
    ] {
        let mut client = Client::to(house.smtp).await;
        client.begin("EHLO b.example", &[&back]).await;
        let inner = format!(
            "Subject: a\r\n\r\nbody{smuggled}MAIL FROM:<>\r\nRCPT TO:<{back}>\r\nDATA\r\nsmuggled\r\n."
        );
        let reply = client.say(&inner).await;
        assert!(reply.starts_with("550 5.6.0"), "{smuggled:?}: {reply}");
        assert!(
            client.say("QUIT").await.starts_with("221"),
            "{smuggled:?}: one reply for one mail"
        );
    }
    assert!(house.stored().await.is_empty());
    let mut client = Client::to(house.smtp).await;
    client.write(b"EHLO a\nMAIL FROM:<>\r\n").await;
    assert!(client.reply().await.starts_with("500 5.5.2"));
}

#[tokio::test]
async fn lmtp_answers_for_each_recipient() {
    let house = House::open(Inbound::default()).await;
    let mut client = Client::to(house.lmtp).await;
    assert!(client.say("EHLO b.example").await.starts_with("500"));
    let (back, away) = (house.address(Purpose::Return), house.address(Purpose::Unsubscribe));
    client.begin("LHLO b.example", &[&back, &away]).await;
    assert!(client.say("x\r\n.").await.starts_with("250"));
    assert!(client.reply().await.starts_with("250"));
    let purposes: Vec<String> = house.stored().await.into_iter().map(|row| row.0).collect();
    assert_eq!(purposes, ["return", "unsubscribe"]);
}

#[tokio::test]
async fn what_is_too_large_too_much_or_too_fast_is_refused() {
    let house = House::open(Inbound {
        mails_per_minute: 1,
        max_connections_per_address: 2,
        ..Inbound::default()
    })
    .await;
    let back = house.address(Purpose::Return);
    let mut client = Client::to(house.smtp).await;
    client.say("EHLO b.example").await;
    assert!(client.say("MAIL FROM:<> SIZE=999999").await.starts_with("552"));
    client.begin("RSET", &[&back]).await;
    let large = "x".repeat(70 << 10);
    assert!(client.say(&format!("{large}\r\n.")).await.starts_with("552"));
    client.begin("RSET", &[&back]).await;
    assert!(client.say("x\r\n.").await.starts_with("250"));
    client.begin("RSET", &[&back]).await;
    assert!(client.say("x\r\n.").await.starts_with("450 4.7.1"), "the rate");
    let _second = Client::to(house.smtp).await;
    let mut third = BufReader::new(TcpStream::connect(house.smtp).await.expect("connect"));
    let mut said = String::new();
    third.read_to_string(&mut said).await.expect("read");
    assert!(said.starts_with("421"), "{said}");
}

#[tokio::test]
async fn while_too_much_waits_or_the_database_is_away_clients_come_again() {
    let house = House::open(Inbound::default()).await;
    let back = house.address(Purpose::Return);
    let mut client = Client::to(house.smtp).await;
    house.full.store(true, Ordering::Relaxed);
    client.begin("EHLO b.example", &[&back]).await;
    assert!(client.say("x\r\n.").await.starts_with("452"));
    house.full.store(false, Ordering::Relaxed);
    sqlx::query("alter table postrider.inbound_report rename to away")
        .execute(&house.owner)
        .await
        .expect("rename");
    client.begin("RSET", &[&back]).await;
    assert!(client.say("x\r\n.").await.starts_with("451"));
    sqlx::query("alter table postrider.away rename to inbound_report")
        .execute(&house.owner)
        .await
        .expect("rename");
    client.begin("RSET", &[&back]).await;
    assert!(client.say("x\r\n.").await.starts_with("250"));
    assert_eq!(builders::rows(&house.owner, "inbound_report").await, 1);
}

#[tokio::test]
async fn starttls_begins_anew_and_takes_nothing_along() {
    let made =
        rcgen::generate_simple_self_signed(["mx.shop.example".to_owned()]).expect("a certificate");
    let folder = tempfile::TempDir::new().expect("a folder");
    let (certificate, key) = (folder.path().join("c.pem"), folder.path().join("k.pem"));
    std::fs::write(&certificate, made.cert.pem()).expect("write");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("write");
    let tls = InboundTls { certificate: certificate.clone(), key };
    let house = House::open(Inbound { tls: Some(tls), ..Inbound::default() }).await;

    let mut client = Client::to(house.smtp).await;
    assert!(client.say("EHLO b.example").await.contains("STARTTLS"));
    client.write(b"STARTTLS\r\nMAIL FROM:<>\r\n").await;
    assert!(client.reply().await.starts_with("554"), "what follows in the clear is refused");
    assert_eq!(client.reply().await, "");

    let mut client = Client::to(house.smtp).await;
    client.say("EHLO b.example").await;
    assert!(client.say("STARTTLS").await.starts_with("220"));
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = rustls::pki_types::ServerName::try_from("mx.shop.example").expect("a name");
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, client.stream.into_inner())
        .await
        .expect("TLS");
    let mut client = Client { stream: BufReader::new(stream) };
    assert!(client.say("MAIL FROM:<>").await.starts_with("503"), "hello again");
    let hello = client.say("EHLO b.example").await;
    assert!(!hello.contains("STARTTLS"), "{hello}");
    client.begin("EHLO b.example", &[&house.address(Purpose::Return)]).await;
    assert!(client.say("x\r\n.").await.starts_with("250"));
    assert_eq!(house.stored().await.len(), 1);

    let mut settings = Settings::for_testing();
    settings.inbound.smtp_listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    settings.inbound.tls = Some(InboundTls { certificate, key: folder.path().join("none") });
    let refused = Listener::bind(&settings, Stores::new(Vec::new()), Clock::System).await;
    assert!(matches!(refused, Err(InboundError::Tls(_))));
}
