//! What all cells of one process share: the limits, the ways out and the SMTP connections.
//!
//! A receiver does not care which database a mail comes from, so limits hold over all cells.
//! Which part of them is this process's is told by the home cell, where every process has a
//! session, also one that serves other cells only ([`super::member`]). Until the home cell has
//! answered for the first time the sessions of the served cell stand in for it; when it falls
//! silent later, the last share stays.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::daemon::StartError;
use super::slots::Slots;
use crate::config::Settings;
use crate::route::planner::Planner;
use crate::smtp::deliver::Smtp;
use crate::throttle::limiter::Limiter;
use crate::throttle::share::Share;

/// Time for taking leave of the peers.
const FAREWELL: Duration = Duration::from_secs(1);

/// The shared parts of a running delivery side.
pub struct Shared {
    pub(super) limiter: Arc<Limiter>,
    pub(super) planner: Arc<Planner>,
    pub(super) smtp: Arc<Smtp>,
    /// Settings that the shared parts have taken over.
    pub(super) applied: watch::Receiver<Arc<Settings>>,
    shares: Mutex<Shares>,
    cells: u32,
    in_hand: Arc<AtomicUsize>,
    stop: CancellationToken,
}

/// Which cell's word about the number of processes is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The home cell: it counts.
    Home,
    /// Another one: for want of the home cell.
    Other,
}

#[derive(Debug)]
struct Shares {
    current: Share,
    from: Standing,
}

impl Shared {
    /// For a process that serves `cells` cells under `settings`.
    pub fn start(
        settings: watch::Receiver<Arc<Settings>>,
        cells: usize,
    ) -> Result<Arc<Self>, StartError> {
        let now = Arc::clone(&settings.borrow());
        let (taken_over, applied) = watch::channel(Arc::clone(&now));
        let shared = Arc::new(Self {
            limiter: Arc::new(Limiter::new(&now.throttles)),
            planner: Arc::new(Planner::new(&now)?),
            smtp: Arc::new(Smtp::new(&now.smtp)?),
            applied,
            shares: Mutex::new(Shares { current: Share::WHOLE, from: Standing::Other }),
            cells: u32::try_from(cells).unwrap_or(u32::MAX).max(1),
            in_hand: Arc::default(),
            stop: CancellationToken::new(),
        });
        tokio::spawn(follow(
            taken_over,
            Arc::clone(&shared.limiter),
            Arc::clone(&shared.planner),
            Arc::clone(&shared.smtp),
            settings,
            shared.stop.clone(),
        ));
        Ok(shared)
    }

    /// Slots for one cell: an equal part of the process's.
    pub(super) fn slots(&self, settings: &Settings) -> Arc<Slots> {
        let part = settings.worker.concurrency.div_ceil(self.cells);
        Slots::beside(part, settings.worker.tenant_concurrency, Arc::clone(&self.in_hand))
    }

    /// A cell has told that this process is of rank `rank` among `living`.
    pub(super) fn heard(&self, standing: Standing, rank: u32, living: u32) {
        let Some(share) = Share::try_new(rank, living) else { return };
        let mut shares = self.shares.lock();
        if standing == Standing::Other && shares.from == Standing::Home {
            return;
        }
        shares.from = standing;
        if shares.current != share {
            tracing::info!(rank, of = living, "this process's share of the limits changed");
            self.limiter.set_share(share);
            shares.current = share;
        }
    }

    /// Says QUIT on the parked connections; a peer that does not listen is not waited for.
    /// When every cell has stopped.
    pub async fn close(&self) {
        self.stop.cancel();
        let _polite = tokio::time::timeout(FAREWELL, self.smtp.drain()).await;
    }
}

async fn follow(
    taken_over: watch::Sender<Arc<Settings>>,
    limiter: Arc<Limiter>,
    planner: Arc<Planner>,
    smtp: Arc<Smtp>,
    mut settings: watch::Receiver<Arc<Settings>>,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            changed = settings.changed() => if changed.is_err() { return },
        }
        let now = Arc::clone(&settings.borrow_and_update());
        limiter.apply(&now.throttles);
        if let Err(error) = planner.apply(&now) {
            tracing::error!(%error, "the old routes stay in force");
        }
        smtp.apply(&now.smtp);
        // Last: who hears of it finds everything changed.
        taken_over.send_replace(now);
    }
}
