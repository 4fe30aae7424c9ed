//! The network between the processes and Postgres, as something that can fail.
//!
//! A unix socket in front of the server's own: it can cut connections, swallow answers
//! (the statement has committed and nobody learns it), fall silent, refuse, and be pointed
//! at another server, as a floating address is after a failover.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What the network does to bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Weather {
    /// Nothing.
    Fair,
    /// Each answer of the server is lost with this probability, with its connection: what it
    /// answers has happened. Half as often a request is lost on its way.
    Cutting(f64),
    /// Bytes are taken and go nowhere; no connection is closed.
    Silent,
    /// New connections are closed at once.
    Refusing,
}

/// A running proxy. Dropping it closes everything.
pub(crate) struct Proxy {
    folder: PathBuf,
    shared: Arc<Shared>,
}

struct Shared {
    weather: watch::Sender<Weather>,
    target: Mutex<PathBuf>,
    /// Those that are connected now; replaced to be rid of them.
    connected: Mutex<Arc<Company>>,
    stopped: CancellationToken,
    rng: Mutex<StdRng>,
    cuts: Mutex<u64>,
}

impl Proxy {
    /// A socket in `folder` (made here) that leads to `target`.
    pub(crate) fn start(folder: &Path, target: &Path, seed: u64) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let path = folder.join(".s.PGSQL.5432");
        let listener =
            UnixListener::bind(&path).with_context(|| format!("cannot bind {}", path.display()))?;
        let shared = Arc::new(Shared {
            weather: watch::channel(Weather::Fair).0,
            target: Mutex::new(target.to_owned()),
            connected: Mutex::default(),
            stopped: CancellationToken::new(),
            rng: Mutex::new(StdRng::seed_from_u64(seed)),
            cuts: Mutex::new(0),
        });
        tokio::spawn(Arc::clone(&shared).run(listener));
        Ok(Self { folder: folder.to_owned(), shared })
    }

    /// The address of a database behind it, as superuser.
    pub(crate) fn url(&self, database: &str) -> String {
        super::server::url(&self.folder, database)
    }

    /// Changes what happens to bytes from now on.
    pub(crate) fn set(&self, weather: Weather) {
        self.shared.weather.send_replace(weather);
    }

    /// Cuts every connection of now.
    pub(crate) fn cut(&self) {
        std::mem::take(&mut *self.shared.connected.lock()).cut.cancel();
    }

    /// Connections of now stay open and never speak again, as those to a machine that is
    /// gone; new ones are carried.
    pub(crate) fn forsake(&self) {
        std::mem::take(&mut *self.shared.connected.lock()).forsaken.cancel();
    }

    /// Leads new connections to another server, and cuts those of now.
    pub(crate) fn point_at(&self, target: &Path) {
        target.clone_into(&mut self.shared.target.lock());
        self.cut();
    }

    /// Connections that [`Weather::Cutting`] took.
    pub(crate) fn cuts(&self) -> u64 {
        *self.shared.cuts.lock()
    }
}

/// Connections that share their fate.
#[derive(Default)]
struct Company {
    cut: CancellationToken,
    forsaken: CancellationToken,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stopped.cancel();
    }
}

impl Shared {
    async fn run(self: Arc<Self>, listener: UnixListener) {
        while let Some(accepted) = self.stopped.run_until_cancelled(listener.accept()).await {
            let Ok((client, _)) = accepted else { continue };
            if *self.weather.borrow() == Weather::Refusing {
                continue;
            }
            let shared = Arc::clone(&self);
            tokio::spawn(async move {
                let company = Arc::clone(&shared.connected.lock());
                // A connection that ends is what this is for.
                tokio::select! {
                    () = company.cut.cancelled() => {}
                    () = shared.stopped.cancelled() => {}
                    _ended = shared.carry(client, &company) => {}
                }
            });
        }
    }

    async fn carry(&self, client: UnixStream, company: &Company) -> io::Result<()> {
        let target = self.target.lock().clone();
        let server = UnixStream::connect(target).await?;
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let asks = async {
            let mut bytes = vec![0; 64 << 10];
            loop {
                let n = from_client.read(&mut bytes).await?;
                if n == 0 || self.lost(0.5) {
                    return Ok::<(), io::Error>(());
                }
                self.speech(company).await;
                to_server.write_all(&bytes[..n]).await?;
            }
        };
        let answers = async {
            let mut bytes = vec![0; 64 << 10];
            loop {
                let n = from_server.read(&mut bytes).await?;
                if n == 0 || self.lost(1.0) {
                    return Ok::<(), io::Error>(());
                }
                self.speech(company).await;
                to_client.write_all(&bytes[..n]).await?;
            }
        };
        tokio::select! {
            ended = asks => ended,
            ended = answers => ended,
        }
    }

    fn lost(&self, part: f64) -> bool {
        let Weather::Cutting(probability) = *self.weather.borrow() else { return false };
        let lost = self.rng.lock().random_bool(probability * part);
        *self.cuts.lock() += u64::from(lost);
        lost
    }

    /// Returns when bytes go through again.
    async fn speech(&self, company: &Company) {
        let mut weather = self.weather.subscribe();
        // The sender lives as long as we do.
        let _ = weather.wait_for(|weather| *weather != Weather::Silent).await;
        if company.forsaken.is_cancelled() {
            std::future::pending::<()>().await;
        }
    }
}
