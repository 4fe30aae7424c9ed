//! A mailbox that takes every mail, for development, tests and benchmarks.
//!
//! It speaks SMTP as a large receiver does (pipelining, 8-bit, UTF-8, enhanced
//! codes), keeps the last mails with their envelopes, and counts what came:
//! per recipient domain and second, and duplicates by recipient and Message-ID.
//! With a [`FaultMix`] it refuses, delays and hangs up, the same way for the
//! same seed. It is strict where receivers differ: only CRLF.CRLF ends a mail,
//! and a body with a lone CR or LF is refused.
//!
//! * [`session`]: the dialogue, without a socket;
//! * [`server`]: sockets around it, one task per connection;
//! * [`faults`]: what goes wrong, and when;
//! * [`ledger`]: what was kept and counted;
//! * [`page`]: the same over HTTP.
//!
//! Everything is bounded: line, mail, recipients, connections, mails kept, and
//! what is remembered for counting. Not for the open internet: anyone may send.

mod faults;
mod ledger;
mod page;
mod server;
mod session;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use faults::{Fault, FaultMix, InvalidFaultMix};
pub use ledger::{DomainStats, KeptMail, Stats};

use ledger::Ledger;

/// Where a sink listens and how it behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where mail is taken; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where mails and counts are shown; `None`: nowhere.
    pub http: Option<SocketAddr>,
    /// What goes wrong; `None`: nothing.
    pub faults: Option<FaultMix>,
    /// How many of the last mails are kept.
    pub keep: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 0)), http: None, faults: None, keep: 200 }
    }
}

/// A running sink. Dropping it hangs up and closes its sockets.
#[derive(Debug)]
pub struct Sink {
    ledger: Arc<Mutex<Ledger>>,
    smtp: SocketAddr,
    http: Option<SocketAddr>,
    shutdown: CancellationToken,
    tasks: TaskTracker,
}

impl Sink {
    /// Binds its sockets and serves until it is stopped or dropped.
    pub async fn start(options: Options) -> io::Result<Self> {
        let ledger = Arc::new(Mutex::new(Ledger::new(options.keep)));
        let (shutdown, tasks) = (CancellationToken::new(), TaskTracker::new());

        let listener = TcpListener::bind(options.listen).await?;
        let smtp = listener.local_addr()?;
        let server = server::Server::new(Arc::clone(&ledger), options.faults, shutdown.clone());
        tasks.spawn(server.run(listener, tasks.clone()));

        let mut http = None;
        if let Some(address) = options.http {
            let listener = TcpListener::bind(address).await?;
            http = Some(listener.local_addr()?);
            tasks.spawn(page::serve(listener, Arc::clone(&ledger), shutdown.clone()));
        }
        tasks.close();
        Ok(Self { ledger, smtp, http, shutdown, tasks })
    }

    /// Where it takes mail.
    pub fn smtp(&self) -> SocketAddr {
        self.smtp
    }

    /// Where it shows mail.
    pub fn http(&self) -> Option<SocketAddr> {
        self.http
    }

    /// What it counted so far.
    pub fn stats(&self) -> Stats {
        self.ledger.lock().stats()
    }

    /// The last mails, newest first.
    pub fn mails(&self) -> Vec<KeptMail> {
        self.ledger.lock().mails()
    }

    /// Hangs up, closes its sockets, and waits until that is done.
    pub async fn stop(self) {
        self.shutdown.cancel();
        self.tasks.wait().await;
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}
