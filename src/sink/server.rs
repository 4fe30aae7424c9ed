//! Sockets around [`Session`]: one task per connection, one write per batch.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::io::{self, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::faults::FaultMix;
use super::ledger::Ledger;
use super::session::{Next, Session};

/// Connections at once; more wait to be taken.
const MAX_CONNECTIONS: usize = 2_000;

/// Room made for each read.
const READ_SIZE: usize = 64 << 10;

/// A buffer that a large mail made larger than this is given back afterwards.
const KEPT_BUFFER: usize = 1 << 20;

/// Longest wait for a client (RFC 5321 4.5.3.2.7), and for it to read our replies.
const IDLE: Duration = Duration::from_secs(300);

/// Takes connections.
#[derive(Debug)]
pub(super) struct Server {
    shared: Arc<Shared>,
    shutdown: CancellationToken,
}

#[derive(Debug)]
struct Shared {
    ledger: Arc<Mutex<Ledger>>,
    faults: Option<FaultMix>,
}

impl Server {
    pub(super) fn new(
        ledger: Arc<Mutex<Ledger>>,
        faults: Option<FaultMix>,
        shutdown: CancellationToken,
    ) -> Self {
        Self { shared: Arc::new(Shared { ledger, faults }), shutdown }
    }

    /// Serves until told to stop.
    pub(super) async fn run(self, listener: TcpListener, tasks: TaskTracker) {
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let accept_all = async {
            loop {
                // Only fails when the semaphore is closed, which nobody does.
                let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let (shared, shutdown) = (Arc::clone(&self.shared), self.shutdown.clone());
                        tasks.spawn(async move {
                            // A client that hangs up is no news for a sink.
                            let _ = shutdown.run_until_cancelled(shared.serve(stream)).await;
                            drop(place);
                        });
                    }
                    Err(error) => {
                        // Out of file descriptors, most likely: others will close some.
                        tracing::warn!(%error, "the sink cannot take a connection");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        };
        self.shutdown.run_until_cancelled(accept_all).await;
    }
}

impl Shared {
    async fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut session = Session::new(&self.ledger, self.faults.as_ref());
        let mut input = BytesMut::with_capacity(READ_SIZE);
        loop {
            let next = session.advance(&mut input);
            if !session.replies.is_empty() {
                timeout(IDLE, stream.write_all(&session.replies)).await??;
                session.replies.clear();
            }
            match next {
                Next::Pause(delay) => tokio::time::sleep(delay).await,
                Next::Close => return stream.shutdown().await,
                Next::Read => {
                    if input.is_empty() && input.capacity() > KEPT_BUFFER {
                        input = BytesMut::new();
                    }
                    input.reserve(READ_SIZE);
                    if timeout(IDLE, stream.read_buf(&mut input)).await?? == 0 {
                        return Ok(());
                    }
                }
            }
        }
    }
}
