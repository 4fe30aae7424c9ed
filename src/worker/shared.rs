//! What all cells of one process share: the limits, the ways out and the connections.
//!
//! A receiver does not care which database a mail comes from, so limits hold over all cells.
//! They are dealt in the home cell, where every process has a session, also one that serves
//! other cells only ([`super::member`]): one exchange for the process, from the first session
//! there until the process ends. Before the home cell has answered, and while it is away,
//! nothing limited is granted; what no limit speaks of goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::daemon::StartError;
use super::hearing::Hearing;
use super::slots::Slots;
use super::telling;
use crate::config::{Settings, ThrottleRule};
use crate::domain::clock::Clock;
use crate::domain::ids::SessionId;
use crate::provider::deliver::Providers;
use crate::reply;
use crate::route::planner::Planner;
use crate::smtp::deliver::Smtp;
use crate::smtp::tls::Tls;
use crate::throttle::breaker::Breakers;
use crate::throttle::exchange::{self, Exchange};
use crate::throttle::limiter::Limiter;
use crate::throttle::{overrides, sharing, warm_up};

/// How often it is seen which day it is: the machine's clock may be set.
const LOOK_AT_THE_CLOCK: Duration = Duration::from_secs(600);

/// Time for taking leave of the peers.
const FAREWELL: Duration = Duration::from_secs(1);

/// The shared parts of a running delivery side.
pub struct Shared {
    pub(super) limiter: Arc<Limiter>,
    pub(super) planner: Arc<Planner>,
    pub(super) smtp: Arc<Smtp>,
    pub(super) providers: Arc<Providers>,
    pub(super) hearing: Arc<Hearing>,
    /// Settings that the shared parts have taken over.
    pub(super) applied: watch::Receiver<Arc<Settings>>,
    /// Under which session of the home cell limits are exchanged; none before the first.
    at_home: Mutex<Option<Arc<AtomicI64>>>,
    exchanging: TaskTracker,
    cells: u32,
    in_hand: Arc<AtomicUsize>,
    stop: CancellationToken,
}

/// What a cell is to the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The home cell: there they are dealt.
    Home,
    /// Another one.
    Other,
}

impl Shared {
    /// For a process that serves `cells` cells under `settings`.
    pub fn start(
        settings: watch::Receiver<Arc<Settings>>,
        cells: usize,
    ) -> Result<Arc<Self>, StartError> {
        let now = Arc::clone(&settings.borrow());
        let (taken_over, applied) = watch::channel(Arc::clone(&now));
        reply::apply(&now.replies)?;
        let breakers = Breakers::new(&now.adaptive);
        let planner = Arc::new(Planner::new(&now)?);
        let tls = Tls::with_extra_roots(now.tls.roots.iter().cloned())?;
        let smtp = Smtp::with_tls(&now.smtp, tls).counting(planner.tally());
        let shared = Arc::new(Self {
            limiter: Arc::new(Limiter::shared(&limits(&now))),
            providers: Arc::default(),
            smtp: Arc::new(smtp.minding(Arc::clone(&breakers))),
            planner,
            hearing: Arc::new(Hearing::new(&now, breakers)),
            applied,
            at_home: Mutex::default(),
            exchanging: TaskTracker::new(),
            cells: u32::try_from(cells).unwrap_or(u32::MAX).max(1),
            in_hand: Arc::default(),
            stop: CancellationToken::new(),
        });
        tokio::spawn(follow(taken_over, Arc::clone(&shared), settings, shared.stop.clone()));
        Ok(shared)
    }

    /// Plans routes; it knows the policies of receivers.
    pub fn planner(&self) -> &Arc<Planner> {
        &self.planner
    }

    /// Slots for one cell: an equal part of the process's.
    pub(super) fn slots(&self, settings: &Settings) -> Arc<Slots> {
        let part = settings.worker.concurrency.div_ceil(self.cells);
        Slots::beside(part, settings.worker.tenant_concurrency, Arc::clone(&self.in_hand))
    }

    /// This process is `session` in the home cell from now on. Returns when the overrides that
    /// are in force there hold here; the exchange of the limits begins with the first session
    /// and goes on under the later ones.
    pub(super) async fn at_home(
        &self,
        home: &PgPool,
        session: SessionId,
    ) -> Result<(), sqlx::Error> {
        let mut at_home = self.at_home.lock().await;
        if let Some(known) = &*at_home {
            // What the old session held passes on by itself; until then it counts twice.
            known.store(session.get(), Ordering::Relaxed);
            return Ok(());
        }
        self.planner.keep_policies_in(home.clone());
        let limits = exchange::connections(home).await?;
        overrides::look(&limits, &self.limiter).await?;
        let known = Arc::new(AtomicI64::new(session.get()));
        let exchange = Exchange::new(limits.clone(), Arc::clone(&known), &self.limiter);
        self.exchanging.spawn(exchange.run(self.stop.clone()));
        let follow =
            overrides::follow(limits.clone(), Arc::clone(&self.limiter), self.stop.clone());
        self.exchanging.spawn(follow);
        self.exchanging.spawn(sharing::follow(
            limits,
            Arc::clone(&self.hearing.paces),
            Arc::clone(&self.hearing.breakers),
            Arc::clone(&self.limiter),
            self.stop.clone(),
        ));
        let unknown = Arc::clone(&self.hearing.unknown);
        self.exchanging.spawn(telling::unknown(home.clone(), unknown, self.stop.clone()));
        *at_home = Some(known);
        Ok(())
    }

    /// Gives up the slots of the limits and says QUIT on the parked connections; who does not
    /// listen is not waited for. To be called when every cell has stopped.
    pub async fn close(&self) {
        self.stop.cancel();
        self.exchanging.close();
        let _passed_on = tokio::time::timeout(FAREWELL, self.exchanging.wait()).await;
        let _polite = tokio::time::timeout(FAREWELL, self.smtp.drain()).await;
    }
}

/// The limits of today: those that are configured, and those of sources in their warm-up.
fn limits(settings: &Settings) -> Vec<ThrottleRule> {
    warm_up::rules(&settings.throttles, &settings.sources, Clock::System.unix_seconds())
}

/// Time until the day changes (UTC), but no longer than clocks are trusted.
fn until_tomorrow() -> Duration {
    let passed = Clock::System.unix_seconds() % warm_up::DAY;
    Duration::from_secs(warm_up::DAY - passed).min(LOOK_AT_THE_CLOCK)
}

async fn follow(
    taken_over: watch::Sender<Arc<Settings>>,
    shared: Arc<Shared>,
    mut settings: watch::Receiver<Arc<Settings>>,
    stop: CancellationToken,
) {
    let mut in_force = limits(&settings.borrow());
    loop {
        let is_a_look = tokio::select! {
            () = stop.cancelled() => return,
            changed = settings.changed() => {
                if changed.is_err() {
                    return;
                }
                false
            }
            () = tokio::time::sleep(until_tomorrow()) => true,
        };
        let now = Arc::clone(&settings.borrow_and_update());
        let today = limits(&now);
        if is_a_look && today == in_force {
            continue;
        }
        shared.limiter.apply(&today);
        in_force = today;
        if let Err(error) = reply::apply(&now.replies) {
            tracing::error!(%error, "the old rules about replies stay in force");
        }
        shared.hearing.apply(&now);
        if let Err(error) = shared.planner.apply(&now) {
            tracing::error!(%error, "the old routes stay in force");
        }
        shared.smtp.apply(&now.smtp);
        // Last: who hears of it finds everything changed.
        taken_over.send_replace(now);
    }
}
