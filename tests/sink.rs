//! The sink over real sockets.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::SocketAddr;

use postrider::sink::{FaultMix, Options, Sink};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const MAIL: &str = "MAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\nDATA\r\n\
    Subject: <b>hello</b>\r\nMessage-ID: <1@x.test>\r\n\r\nhi\r\n.\r\n";

async fn talk(to: SocketAddr, input: &str) -> String {
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(input.as_bytes()).await.unwrap();
    let mut replies = String::new();
    stream.read_to_string(&mut replies).await.unwrap();
    replies
}

#[tokio::test]
async fn mails_are_taken_counted_and_shown() {
    let http = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    let sink = Sink::start(Options { http, ..Options::default() }).await.unwrap();
    let replies = talk(sink.smtp(), &format!("EHLO me\r\n{MAIL}{MAIL}QUIT\r\n")).await;
    assert_eq!(replies.matches("250 2.0.0 kept").count(), 2, "{replies}");
    let stats = sink.stats();
    assert_eq!((stats.accepted, stats.duplicates, stats.distinct_recipients), (2, 1, 1));

    let base = format!("http://{}", sink.http().unwrap());
    let get = async |path: &str| reqwest::get(format!("{base}{path}")).await.unwrap();
    let mails: serde_json::Value = get("/mails").await.json().await.unwrap();
    assert_eq!(mails[0]["n"], 2);
    assert_eq!(mails[1]["message_id"], "<1@x.test>");
    assert_eq!(mails[1]["to"][0], "b@y.test");
    let raw = get("/mails/1").await.text().await.unwrap();
    assert!(raw.ends_with("\r\n\r\nhi\r\n"));
    assert_eq!(get("/mails/9").await.status(), 404);
    let stats: serde_json::Value = get("/stats").await.json().await.unwrap();
    assert_eq!(stats["domains"]["y.test"]["accepted"], 2);
    let page = get("/").await.text().await.unwrap();
    assert!(page.contains("&lt;b&gt;hello") && !page.contains("<b>hello"));
    sink.stop().await;
}

#[tokio::test]
async fn a_dropped_connection_keeps_the_mail_and_says_nothing() {
    let faults: FaultMix = "drop-after-dot=100".parse().unwrap();
    let sink = Sink::start(Options { faults: Some(faults), ..Options::default() }).await.unwrap();
    let replies = talk(sink.smtp(), MAIL).await;
    assert!(replies.ends_with("354 go on\r\n"), "{replies}");
    let stats = sink.stats();
    assert_eq!((stats.accepted, stats.unacknowledged, stats.dropped), (1, 1, 1));
    assert!(!sink.mails()[0].acknowledged);
}

#[tokio::test]
async fn stopping_hangs_up_on_idle_clients() {
    let sink = Sink::start(Options::default()).await.unwrap();
    let mut idle = TcpStream::connect(sink.smtp()).await.unwrap();
    let mut greeting = [0; 3];
    idle.read_exact(&mut greeting).await.unwrap();
    sink.stop().await;
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).await.unwrap();
}
