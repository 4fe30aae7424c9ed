//! The listener: bounded connections, a deadline for a request's head, and a
//! stop that lets running requests finish.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use listenfd::ListenFd;
use tokio::net::{TcpListener, TcpStream};
use tower::{ServiceExt, service_fn};

use super::seats::{Seat, Seats};

/// Longest time for the head of a request to arrive, and so the longest rest of a connection that
/// is kept open. More than the 60 s of the usual load balancer: the side that closes first loses
/// the request that the other side is just sending.
const HEAD: Duration = Duration::from_secs(75);

/// Between two signs of life on HTTP/2.
const SIGN: Duration = Duration::from_secs(15);

/// Wait after the kernel could not give us a connection (no descriptors left).
const PAUSE: Duration = Duration::from_millis(100);

/// How long running requests may take once the end is announced.
const DRAIN: Duration = Duration::from_secs(25);

/// The socket that a service manager passed (`LISTEN_FDS`, sd_listen_fds(3)), if one did. It
/// outlives this process: who connects while nobody accepts waits in its queue.
pub fn passed() -> io::Result<Option<TcpListener>> {
    let mut sockets = ListenFd::from_env();
    if sockets.len() > 1 {
        let text = format!("expected one socket, found {}: leave one ListenStream", sockets.len());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let Some(socket) = sockets.take_tcp_listener(0)? else { return Ok(None) };
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket).map(Some)
}

/// Serves so many connections at once until `stop` resolves, then lets running requests finish
/// for [`DRAIN`].
pub async fn serve(
    listener: TcpListener,
    router: Router,
    most: usize,
    stop: impl Future<Output = ()>,
) {
    let mut http = Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(HEAD);
    http.http2().timer(TokioTimer::new()).keep_alive_interval(SIGN).max_concurrent_streams(64);
    let http = Arc::new(http);
    let seats = Seats::new(most);
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &seats) => accepted,
            () = &mut stop => break,
        };
        match accepted {
            Ok((stream, peer, seat)) => {
                tokio::spawn(talk(Arc::clone(&http), router.clone(), stream, peer, seat));
            }
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, seats.close()).await.is_err() {
        tracing::warn!("some requests did not finish in time and were cut off");
    }
}

/// A connection, and a seat for it: only for somebody who is there is another asked to leave.
async fn accept(
    listener: &TcpListener,
    seats: &Arc<Seats>,
) -> io::Result<(TcpStream, SocketAddr, Seat)> {
    let (stream, peer) = listener.accept().await?;
    // Answers are written in one piece; waiting for more only costs time.
    stream.set_nodelay(true)?;
    Ok((stream, peer, seats.take().await))
}

/// Serves a connection until it ends, or is asked to leave and has given its last answer.
async fn talk(
    http: Arc<Builder<TokioExecutor>>,
    router: Router,
    stream: TcpStream,
    peer: SocketAddr,
    seat: Seat,
) {
    let desk = seat.desk();
    let routes = service_fn(move |request: hyper::Request<_>| {
        let mut request = request.map(axum::body::Body::new);
        request.extensions_mut().insert(ConnectInfo::<SocketAddr>(peer));
        let (router, running) = (router.clone(), desk());
        async move {
            let answer = router.oneshot(request).await;
            drop(running);
            answer
        }
    });
    let mut connection =
        pin!(http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes)));
    let leave = seat.asked_to_leave();
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = leave.cancelled() => {
            // It would be waited for until its head is there, or its time is over.
            if seat.was_never_used() {
                return;
            }
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}
