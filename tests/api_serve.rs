//! The listener: nobody holds it up, and its stop loses no request.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use postrider::api::serve;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

const ASK: &[u8] = b"GET / HTTP/1.1\r\nHost: api\r\n\r\n";

/// Connections at once.
const MOST: usize = 4;

/// Shorter than a head may take.
const PATIENCE: Duration = Duration::from_secs(30);

struct Served {
    address: std::net::SocketAddr,
    begun: Arc<Notify>,
    go_on: Arc<Notify>,
    stop: Arc<Notify>,
    done: JoinHandle<()>,
}

/// A listener whose one route says when it begins and waits to be told to go on.
async fn start() -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    let [begun, go_on, stop] = std::array::from_fn(|_| Arc::new(Notify::new()));
    let (says, waits) = (Arc::clone(&begun), Arc::clone(&go_on));
    let router = Router::new().route(
        "/",
        get(move || async move {
            says.notify_one();
            waits.notified().await;
            "answered"
        }),
    );
    let stopped = Arc::clone(&stop);
    let done = tokio::spawn(async move { serve(listener, router, MOST, stopped.notified()).await });
    Served { address, begun, go_on, stop, done }
}

#[tokio::test]
async fn a_running_request_is_answered_after_the_stop() {
    let served = start().await;
    let mut caller = TcpStream::connect(served.address).await.expect("connect");
    caller.write_all(ASK).await.expect("ask");
    served.begun.notified().await;
    served.stop.notify_one();
    // Nobody new is let in once the listener is gone.
    while TcpStream::connect(served.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!served.done.is_finished(), "it waits for the one in hand");
    served.go_on.notify_one();
    let mut answer = String::new();
    caller.read_to_string(&mut answer).await.expect("an answer, then the end");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("answered"), "{answer}");
    served.done.await.expect("stopped");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_never_ends_its_head_is_cut_off() {
    let served = start().await;
    let mut caller = TcpStream::connect(served.address).await.expect("connect");
    caller.write_all(b"GET / HTTP/1.1\r\nHost: a").await.expect("begin");
    let mut answer = Vec::new();
    // Time stands still but for timers: without a deadline this one would be next.
    tokio::time::timeout(Duration::from_secs(90), caller.read_to_end(&mut answer))
        .await
        .expect("cut off in time")
        .expect("closed");
    served.stop.notify_one();
    served.done.await.expect("stopped");
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_ever() {
    let served = start().await;
    let mut caller = TcpStream::connect(served.address).await.expect("connect");
    caller.write_all(ASK).await.expect("ask");
    served.begun.notified().await;
    served.stop.notify_one();
    served.done.await.expect("stopped although the request still runs");
}

#[tokio::test]
async fn connections_that_only_stay_open_do_not_keep_a_caller_out() {
    let served = start().await;
    let mut held = Vec::new();
    for _ in 0..MOST {
        let mut quiet = TcpStream::connect(served.address).await.expect("connect");
        quiet.write_all(ASK).await.expect("ask");
        served.begun.notified().await;
        served.go_on.notify_one();
        let mut answer = [0; 12];
        quiet.read_exact(&mut answer).await.expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 200");
        held.push(quiet);
    }
    let mut caller = TcpStream::connect(served.address).await.expect("connect");
    caller.write_all(ASK).await.expect("ask");
    served.begun.notified().await;
    // The first one made room: its connection ends, and those of the others do not.
    let mut rest = Vec::new();
    held[0].read_to_end(&mut rest).await.expect("closed in order");
    let last = held.last_mut().expect("held");
    last.write_all(ASK).await.expect("ask again");
    served.begun.notified().await;
    // Whoever is busy when all are is not sent away.
    for _ in 0..2 {
        served.go_on.notify_one();
        tokio::task::yield_now().await;
    }
    let mut answer = [0; 12];
    caller.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 200");
    served.stop.notify_one();
    served.done.await.expect("stopped");
}

#[tokio::test]
async fn heads_that_never_end_do_not_keep_a_caller_out() {
    let served = start().await;
    let mut held = Vec::new();
    for _ in 0..MOST {
        let mut slow = TcpStream::connect(served.address).await.expect("connect");
        slow.write_all(b"GET / HTTP/1.1\r\nHost: a").await.expect("begin");
        held.push(slow);
    }
    let mut caller = TcpStream::connect(served.address).await.expect("connect");
    caller.write_all(ASK).await.expect("ask");
    tokio::time::timeout(PATIENCE, served.begun.notified()).await.expect("it has its turn");
    served.go_on.notify_one();
    served.stop.notify_one();
    let mut answer = String::new();
    caller.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    drop(held);
    served.done.await.expect("stopped");
}
