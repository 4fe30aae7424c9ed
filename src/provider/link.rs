//! A connection to an HTTP server: name, TCP, TLS, each before one deadline.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::metrics::{Metrics, Open};
use crate::domain::verdict::{Cause, Stage};

/// Opens connections for the pool.
#[derive(Clone)]
pub(super) struct Connector {
    pub(super) tls: Arc<ClientConfig>,
    /// For all of it together.
    pub(super) within: Duration,
    pub(super) metrics: Metrics,
}

/// An open connection.
pub(super) struct Link {
    io: TokioIo<Either<TcpStream, TlsStream<TcpStream>>>,
    http2: bool,
    _open: Open,
}

/// Why there is none.
#[derive(Debug)]
pub(super) struct LinkFault {
    pub(super) stage: Stage,
    pub(super) cause: Cause,
}

impl fmt::Display for LinkFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.cause, self.stage)
    }
}

impl std::error::Error for LinkFault {}

impl tower::Service<Uri> for Connector {
    type Response = Link;
    type Error = LinkFault;
    type Future = Pin<Box<dyn Future<Output = Result<Link, LinkFault>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LinkFault>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            let link = connector.open(&to).await;
            connector.metrics.connection(link.is_ok());
            link
        })
    }
}

impl Connector {
    async fn open(&self, to: &Uri) -> Result<Link, LinkFault> {
        let deadline = Instant::now() + self.within;
        let tls = to.scheme_str() == Some("https");
        let host = to.host().unwrap_or_default();
        let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let port = to.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let late = |stage| move |_| LinkFault { stage, cause: Cause::Timeout };

        let addresses = timeout_at(deadline, tokio::net::lookup_host((host, port)))
            .await
            .map_err(late(Stage::Resolve))?
            .map_err(|error| {
                let text = format!("no address of {host}: {error}");
                LinkFault { stage: Stage::Resolve, cause: Cause::Dns(text) }
            })?;
        let addresses: Vec<_> = addresses.collect();
        let stream = timeout_at(deadline, TcpStream::connect(addresses.as_slice()))
            .await
            .map_err(late(Stage::Connect))?
            .map_err(|error| LinkFault {
                stage: Stage::Connect,
                cause: Cause::Connection(error.to_string()),
            })?;
        // Without it small requests wait for the peer's delayed acknowledgement.
        let _ = stream.set_nodelay(true);
        let open = self.metrics.open();
        if !tls {
            let io = TokioIo::new(Either::Left(stream));
            return Ok(Link { io, http2: false, _open: open });
        }
        let broken = |text: String| LinkFault { stage: Stage::StartTls, cause: Cause::Tls(text) };
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| broken(format!("no certificate can carry {host:?}")))?;
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        let stream = timeout_at(deadline, connector.connect(name, stream))
            .await
            .map_err(late(Stage::StartTls))?
            .map_err(|error| broken(error.to_string()))?;
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok(Link { io: TokioIo::new(Either::Right(stream)), http2, _open: open })
    }
}

impl Connection for Link {
    fn connected(&self) -> Connected {
        let connected = Connected::new();
        if self.http2 { connected.negotiated_h2() } else { connected }
    }
}

impl Read for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl Write for Link {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, pieces)
    }
}
