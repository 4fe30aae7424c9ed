//! The parts of the delivery side of one cell, put together in start order. What cells share
//! is in [`super::shared`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::PgPool;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admit::Admission;
use super::deliver::Carrier;
use super::held::{self, Held};
use super::pipeline::Pipeline;
use super::plan::Planning;
use super::policy::Policies;
use super::pump::Pump;
use super::render::Rendering;
use super::runner;
use super::settle::Settler;
use super::shared::{Shared, Standing};
use super::shutdown::Stopping;
use super::slots::Slots;
use crate::config::{Database, Settings};
use crate::queue::session::{Beat, Session};
use crate::queue::{upkeep, wake};
use crate::telemetry::health::Part;

/// A running delivery side.
pub struct Running {
    pub(super) pool: PgPool,
    pub(super) session: Arc<Session>,
    pub(super) slots: Arc<Slots>,
    pub(super) stopping: Stopping,
    pub(super) stop_claims: CancellationToken,
    pub(super) stop_all: CancellationToken,
    pub(super) tasks: TaskTracker,
    pub(super) pump: JoinHandle<()>,
    pub(super) workers: JoinHandle<()>,
    pub(super) settler: JoinHandle<usize>,
    pub(super) settle_deadline: watch::Sender<Option<Instant>>,
    fenced: CancellationToken,
    woken: Arc<Notify>,
}

/// Why the delivery side could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database refused.
    #[error("the database refused: {0}")]
    Database(#[from] sqlx::Error),
    /// The resolver or the routes.
    #[error("routes: {0}")]
    Routes(#[from] crate::route::planner::PlannerError),
    /// TLS cannot be had.
    #[error("TLS: {0}")]
    Tls(#[from] crate::smtp::tls::TlsFault),
    /// The installation's key.
    #[error("secrets: {0}")]
    Key(#[from] crate::tenant::seal::SealError),
}

/// The cell that a delivery side works for.
#[derive(Debug, Clone)]
pub struct Workplace {
    /// Its connections, which act as the worker's role.
    pub pool: PgPool,
    /// How it is configured.
    pub database: Database,
    /// Whether its sessions count for the shares of the limits.
    pub standing: Standing,
}

impl Running {
    /// Starts everything that claims and delivers, under a new session named `worker`.
    pub async fn start(
        at: &Workplace,
        shared: &Arc<Shared>,
        worker: &str,
        health: Part,
    ) -> Result<Self, StartError> {
        let pool = at.pool.clone();
        let settings = shared.applied.clone();
        let now = Arc::clone(&settings.borrow());
        upkeep::publish_settings(&pool, &now).await?;
        upkeep::make_partitions(&pool).await?;
        let session = Arc::new(Session::open(&pool, worker, now.queue.session_ttl).await?);
        let limiter = Arc::clone(&shared.limiter);
        let planner = Arc::clone(&shared.planner);
        let slots = shared.slots(&now);
        let stopping = Stopping::default();
        let pipeline = Arc::new(Pipeline {
            rendering: Rendering::new(pool.clone(), &now)?,
            planning: Planning::new(Arc::clone(&planner), pool.clone()),
            admission: Admission {
                limiter: Arc::clone(&limiter),
                session: Arc::clone(&session),
                stopping: stopping.clone(),
            },
            carrier: Carrier { smtp: Arc::clone(&shared.smtp) },
            policies: Policies::new(&now),
        });

        let (settle_deadline, deadline) = watch::channel(None);
        let held = Arc::new(Held::default());
        let (settler, settlements) = Settler::new(
            pool.clone(),
            Arc::clone(&session),
            Arc::clone(&held),
            now.queue.settle_batch,
            now.queue.settle_delay,
        );
        let settler = tokio::spawn(settler.run(deadline));
        let (outbox, inbox) = mpsc::channel(now.worker.concurrency.max(1) as usize);
        let workers = tokio::spawn(runner::run(inbox, Arc::clone(&pipeline), settlements));

        let woken = Arc::new(Notify::new());
        if at.database.prepared_statements {
            // Behind a pooler in transaction mode LISTEN does not last; polling does.
            wake::listen(pool.clone(), &woken);
        }
        let stop_claims = CancellationToken::new();
        let stop_all = CancellationToken::new();
        let fenced = CancellationToken::new();
        let tasks = TaskTracker::new();
        tasks.spawn(beats(
            BeatsOf {
                pool: pool.clone(),
                session: Arc::clone(&session),
                shared: Arc::clone(shared),
                standing: at.standing,
            },
            now.queue.beat_interval,
            fenced.clone(),
            stop_all.clone(),
        ));
        let (taken_over, in_force) = watch::channel(Arc::clone(&now));
        tasks.spawn(follow(
            taken_over,
            Reloadable { pool: pool.clone(), pipeline },
            settings,
            stop_all.clone(),
        ));
        tasks.spawn(held::release_strays(
            pool.clone(),
            Arc::clone(&session),
            Arc::clone(&held),
            stop_all.clone(),
        ));
        let pump = Pump {
            held,
            pool: pool.clone(),
            session: Arc::clone(&session),
            slots: Arc::clone(&slots),
            limiter,
            planner,
            outbox,
            woken: Arc::clone(&woken),
            settings: in_force,
            health,
        };
        let pump = tokio::spawn(pump.run(stop_claims.clone()));
        let cell = &*at.database.cell;
        tracing::info!(session = session.id().get(), worker, cell, "delivering");
        Ok(Self {
            pool,
            session,
            slots,
            stopping,
            stop_claims,
            stop_all,
            tasks,
            pump,
            workers,
            settler,
            settle_deadline,
            fenced,
            woken,
        })
    }

    /// This process's session.
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Where others say that there is work.
    pub fn woken(&self) -> &Arc<Notify> {
        &self.woken
    }

    /// Waits until a part that must live as long as the process has ended by itself, and says
    /// which. Deliveries would go on without being settled, or not at all: end the process,
    /// and let another rescue what it held.
    pub async fn broken(&mut self) -> &'static str {
        tokio::select! {
            _ended = &mut self.pump => "the pump",
            _ended = &mut self.workers => "the delivery workers",
            _ended = &mut self.settler => "the settler",
        }
    }

    /// Gives the session up, so that its deliveries are rescued at once.
    pub async fn give_up(self) -> Result<(), sqlx::Error> {
        self.stop_claims.cancel();
        self.stop_all.cancel();
        self.session.close(&self.pool).await
    }

    /// Cancelled when somebody has fenced this session. Then nothing of its may be started
    /// or settled any more: stop, and start anew.
    pub fn fenced(&self) -> CancellationToken {
        self.fenced.clone()
    }
}

/// Whose beats they are, and who hears what they tell.
pub(super) struct BeatsOf {
    pub(super) pool: PgPool,
    pub(super) session: Arc<Session>,
    pub(super) shared: Arc<Shared>,
    pub(super) standing: Standing,
}

/// Shows that the session lives, and learns this process's share of the limits. Ends when it
/// was fenced, or with `stop`.
pub(super) async fn beats(
    of: BeatsOf,
    interval: Duration,
    fenced: CancellationToken,
    stop: CancellationToken,
) {
    let BeatsOf { pool, session, shared, standing } = of;
    loop {
        match session.beat(&pool).await {
            Ok(Beat::Alive { living, rank }) => shared.heard(standing, rank, living),
            Ok(Beat::Fenced) => {
                metrics::counter!("postrider_sessions_fenced_total").increment(1);
                tracing::error!("this session was fenced; starting anew");
                fenced.cancel();
                return;
            }
            Err(error) => {
                let trusted = session.is_trusted();
                tracing::warn!(%error, trusted, "could not show that this session lives");
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(interval) => {}
        }
    }
}

/// What takes changed settings over while it runs.
struct Reloadable {
    pool: PgPool,
    pipeline: Arc<Pipeline>,
}

async fn follow(
    taken_over: watch::Sender<Arc<Settings>>,
    parts: Reloadable,
    mut settings: watch::Receiver<Arc<Settings>>,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            changed = settings.changed() => if changed.is_err() { return },
        }
        let now = Arc::clone(&settings.borrow_and_update());
        parts.pipeline.policies.apply(&now);
        parts.pipeline.rendering.apply(&now);
        // Last: who hears of it finds everything changed.
        taken_over.send_replace(Arc::clone(&now));
        if let Err(error) = upkeep::publish_settings(&parts.pool, &now).await {
            tracing::warn!(%error, "could not tell the database of changed streams; submissions follow the old ones");
        }
    }
}
