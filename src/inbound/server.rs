//! Sockets around [`Session`]: one task per connection, one write per batch, and the limits.
//!
//! A mail is acknowledged after its row is committed. While the database is away, or too much
//! waits to be processed, the client is told to come again.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use sqlx::PgPool;
use tokio::io::{self, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::door::Door;
use super::keeper::{Keeper, NotStored};
use super::limits::{Limits, Place};
use super::session::{Mail, Next, Protocol, Session, Terms};
use super::tls::{self, TlsFileError};
use crate::config::{Inbound, Settings};
use crate::domain::clock::Clock;
use crate::domain::ids::CellNumber;

/// Room made for each read.
const READ_SIZE: usize = 16 << 10;
/// Longest wait for the database before a client is told to come again.
const STORE_TIMEOUT: Duration = Duration::from_secs(20);
/// How often limits forget whom they need not know.
const SWEEP: Duration = Duration::from_secs(60);
/// Time for taking leave.
const FAREWELL: Duration = Duration::from_secs(2);

const KEPT: &[u8] = b"250 2.0.0 kept\r\n";
const NOT_KEPT: &[u8] = b"451 4.3.0 cannot keep it now, try later\r\n";
const FULL: &[u8] = b"452 4.3.1 too much waits here, try later\r\n";
const TOO_FAST: &[u8] = b"450 4.7.1 too many mails from your network, try later\r\n";
const BUSY: &[u8] = b"421 4.7.0 too many connections, try later\r\n";
const LEAVING: &[u8] = b"421 4.3.2 closing, try later\r\n";

/// Where reports of a cell's deliveries are stored.
#[derive(Debug, Clone)]
pub struct Store {
    /// The cell.
    pub number: CellNumber,
    /// Its database, as the worker's role.
    pub pool: PgPool,
    /// Set by whoever sees that too much waits there.
    pub full: Arc<AtomicBool>,
}

/// The cells that this process serves; there is at least one.
#[derive(Debug)]
pub struct Stores(Vec<(Store, Keeper)>);

impl Stores {
    /// The first one takes what belongs to no cell. Within a runtime.
    pub fn new(cells: Vec<Store>) -> Self {
        let kept = |store: Store| {
            let keeper = Keeper::start(store.pool.clone());
            (store, keeper)
        };
        Self(cells.into_iter().map(kept).collect())
    }

    fn is_full(&self) -> bool {
        self.0.iter().any(|(store, _)| store.full.load(Ordering::Relaxed))
    }

    async fn put(&self, peer: IpAddr, mail: Mail) -> Result<(), NotStored> {
        let mail = Arc::new(mail);
        for destination in &mail.to {
            let cell = destination.delivery().map(crate::domain::ids::DeliveryId::minted_in);
            let named = self.0.iter().find(|(store, _)| Some(store.number) == cell);
            let Some((_, keeper)) = named.or_else(|| self.0.first()) else {
                return Err(NotStored);
            };
            keeper.put(*destination, peer, &mail).await?;
        }
        Ok(())
    }
}

/// Why the listener did not start.
#[derive(Debug, thiserror::Error)]
pub enum InboundError {
    /// The address cannot be had.
    #[error("inbound.{key}: cannot listen on {address}: {error}")]
    Listen {
        /// The configuration's key.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsFileError),
    /// Without the key no address of ours can be told from another.
    #[error("inbound: needs the key of [secrets] key_file or POSTRIDER_KEY")]
    NoKey,
}

/// A bound listener.
#[derive(Debug)]
pub struct Listener {
    sockets: Vec<(TcpListener, Protocol)>,
    shared: Arc<Shared>,
    room: Arc<Semaphore>,
}

struct Shared {
    door: Door,
    terms: [Terms; 2],
    tls: Option<TlsAcceptor>,
    limits: Arc<Limits>,
    stores: Stores,
    settings: Inbound,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Listener {
    /// Binds what `[inbound]` names.
    pub async fn bind(
        settings: &Settings,
        stores: Stores,
        clock: Clock,
    ) -> Result<Self, InboundError> {
        let inbound = settings.inbound.clone();
        let door = Door::new(settings, clock).ok_or(InboundError::NoKey)?;
        let tls = inbound.tls.as_ref().map(tls::acceptor).transpose()?;
        let mut sockets = Vec::new();
        for (key, address, protocol) in [
            ("smtp_listen", inbound.smtp_listen, Protocol::Smtp),
            ("lmtp_listen", inbound.lmtp_listen, Protocol::Lmtp),
        ] {
            let Some(address) = address else { continue };
            let socket = TcpListener::bind(address)
                .await
                .map_err(|error| InboundError::Listen { key, address, error })?;
            sockets.push((socket, protocol));
        }
        let hostname = if inbound.hostname.is_empty() {
            "localhost".to_owned()
        } else {
            inbound.hostname.clone()
        };
        let terms = [Protocol::Smtp, Protocol::Lmtp].map(|protocol| Terms {
            protocol,
            hostname: hostname.clone(),
            max_mail: usize::try_from(inbound.max_mail_bytes).unwrap_or(usize::MAX),
            offers_tls: tls.is_some(),
        });
        Ok(Self {
            sockets,
            room: Arc::new(Semaphore::new(inbound.max_connections as usize)),
            shared: Arc::new(Shared {
                door,
                terms,
                tls,
                limits: Limits::new(&inbound),
                stores,
                settings: inbound,
            }),
        })
    }

    /// The addresses that were bound: SMTP first.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().filter_map(|(socket, _)| socket.local_addr().ok()).collect()
    }

    /// Serves until told to stop; sessions get a moment to end.
    pub async fn run(self, stop: CancellationToken) {
        let tasks = TaskTracker::new();
        let limits = Arc::clone(&self.shared.limits);
        let sweep = async {
            loop {
                tokio::time::sleep(SWEEP).await;
                limits.sweep();
            }
        };
        let accept = self.sockets.into_iter().map(|(socket, protocol)| {
            accept(
                socket,
                protocol,
                Arc::clone(&self.shared),
                Arc::clone(&self.room),
                stop.clone(),
                tasks.clone(),
            )
        });
        let accept = futures_util::future::join_all(accept);
        tokio::select! {
            () = stop.cancelled() => {}
            _ = accept => {}
            () = sweep => {}
        }
        tasks.close();
        let _took_too_long = timeout(FAREWELL, tasks.wait()).await;
    }
}

async fn accept(
    socket: TcpListener,
    protocol: Protocol,
    shared: Arc<Shared>,
    room: Arc<Semaphore>,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    loop {
        let (mut stream, peer) = match socket.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: others will close some.
                tracing::warn!(%error, "the inbound listener cannot take a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let place =
            Arc::clone(&room).try_acquire_owned().ok().zip(shared.limits.connect(peer.ip()));
        let Some((slot, place)) = place else {
            count_refused("connections");
            tasks.spawn(async move {
                let _gone = timeout(FAREWELL, stream.write_all(BUSY)).await;
            });
            continue;
        };
        let (shared, stop) = (Arc::clone(&shared), stop.clone());
        tasks.spawn(async move {
            let limit = shared.settings.session_limit;
            let serve = shared.serve(stream, peer.ip(), protocol, &place, &stop);
            // Who hangs up or stays too long is no news.
            let _ended = timeout(limit, serve).await;
            drop(slot);
        });
    }
}

fn count_refused(reason: &'static str) {
    metrics::counter!("postrider_inbound_refused_total", "reason" => reason).increment(1);
}

/// How a part of a session ended.
enum Ended {
    Closed,
    WantsTls,
}

impl Shared {
    async fn serve(
        &self,
        mut stream: TcpStream,
        peer: IpAddr,
        protocol: Protocol,
        place: &Place,
        stop: &CancellationToken,
    ) -> io::Result<()> {
        stream.set_nodelay(true)?;
        metrics::counter!("postrider_inbound_connections_total").increment(1);
        let [smtp, lmtp] = &self.terms;
        let terms = if protocol == Protocol::Smtp { smtp } else { lmtp };
        let mut session = Session::new(&self.door, terms);
        match self.talk(&mut stream, &mut session, peer, place, stop).await? {
            Ended::Closed => return stream.shutdown().await,
            Ended::WantsTls => {}
        }
        let Some(acceptor) = &self.tls else { return Ok(()) };
        let mut stream = timeout(self.settings.idle_timeout, acceptor.accept(stream)).await??;
        session.encrypted();
        self.talk(&mut stream, &mut session, peer, place, stop).await?;
        stream.shutdown().await
    }

    async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        session: &mut Session<'_>,
        peer: IpAddr,
        place: &Place,
        stop: &CancellationToken,
    ) -> io::Result<Ended> {
        let idle = self.settings.idle_timeout;
        let mut input = BytesMut::with_capacity(READ_SIZE);
        loop {
            let next = match session.advance(&mut input) {
                Next::Store(mail) => {
                    let reply = self.keep(peer, mail, place).await;
                    session.stored(reply);
                    continue;
                }
                other => other,
            };
            if !session.replies.is_empty() {
                timeout(idle, stream.write_all(&session.replies)).await??;
                timeout(idle, stream.flush()).await??;
                session.replies.clear();
            }
            match next {
                Next::Close => return Ok(Ended::Closed),
                Next::StartTls => return Ok(Ended::WantsTls),
                Next::Store(_) => {}
                Next::Read => {
                    if input.is_empty() && input.capacity() > 4 * READ_SIZE {
                        input = BytesMut::new();
                    }
                    input.reserve(READ_SIZE);
                    let read = tokio::select! {
                        () = stop.cancelled() => {
                            timeout(idle, stream.write_all(LEAVING)).await??;
                            return Ok(Ended::Closed);
                        }
                        read = timeout(idle, stream.read_buf(&mut input)) => read??,
                    };
                    if read == 0 {
                        return Ok(Ended::Closed);
                    }
                }
            }
        }
    }

    async fn keep(&self, peer: IpAddr, mail: Mail, place: &Place) -> &'static [u8] {
        if !place.may_send() {
            count_refused("rate");
            return TOO_FAST;
        }
        if self.stores.is_full() {
            count_refused("full");
            return FULL;
        }
        if let Ok(Ok(())) = timeout(STORE_TIMEOUT, self.stores.put(peer, mail)).await {
            return KEPT;
        }
        count_refused("database");
        NOT_KEPT
    }
}
