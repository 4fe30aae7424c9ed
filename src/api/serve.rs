//! The listener: bounded connections, a deadline for a request's head, and a
//! stop that lets running requests finish.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use listenfd::ListenFd;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tower::ServiceExt;

/// Connections at once; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 1_024;

/// Longest time for the head of a request to arrive.
const HEAD: Duration = Duration::from_secs(15);

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

/// Serves until `stop` resolves, then lets running requests finish for [`DRAIN`].
pub async fn serve(listener: TcpListener, router: Router, stop: impl Future<Output = ()>) {
    let mut http = Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(HEAD);
    http.http2().timer(TokioTimer::new()).keep_alive_interval(HEAD).max_concurrent_streams(64);
    let http = Arc::new(http);
    let running = GracefulShutdown::new();
    let seats = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &seats) => accepted,
            () = &mut stop => break,
        };
        let (stream, peer, seat) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let routes = router.clone().map_request(move |request: hyper::Request<_>| {
            let mut request = request.map(axum::body::Body::new);
            request.extensions_mut().insert(ConnectInfo::<SocketAddr>(peer));
            request
        });
        let connection = http
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes))
            .into_owned();
        let connection = running.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
            drop(seat);
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, running.shutdown()).await.is_err() {
        tracing::warn!("some requests did not finish in time and were cut off");
    }
}

/// A seat first, then a connection: nobody is accepted who cannot be served.
async fn accept(
    listener: &TcpListener,
    seats: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let seat = Arc::clone(seats).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    // Answers are written in one piece; waiting for more only costs time.
    stream.set_nodelay(true)?;
    Ok((stream, peer, seat))
}
