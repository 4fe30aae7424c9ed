//! The parts of the delivery side of one cell, put together in start order. What cells share
//! is in [`super::shared`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::PgPool;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admit::{Admission, Ready};
use super::aside::Aside;
use super::deliver::Carrier;
use super::held::{self, Held};
use super::intend::Intending;
use super::intents::Intents;
use super::metrics;
use super::pipeline::Pipeline;
use super::plan::Planning;
use super::policy::Policies;
use super::pump::Pump;
use super::quiet::QuietTimes;
use super::render::Rendering;
use super::runner;
use super::settle::Settler;
use super::shared::{Shared, Standing};
use super::shutdown::Stopping;
use super::signals::Signals;
use super::slots::Slots;
use super::telling;
use super::waits::Snapshot;
use super::writing::Writing;
use crate::config::{Database, Settings};
use crate::domain::clock::Clock;
use crate::event::days;
use crate::queue::session::{Beat, Session};
use crate::queue::{deadline, upkeep, wake};
use crate::telemetry::health::Part;
use crate::tenant::suppression::Keeper;

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
    pub(super) intent_writer: JoinHandle<()>,
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
    /// The rules about replies.
    #[error("replies: {0}")]
    Replies(#[from] regex::Error),
    /// TLS cannot be had.
    #[error("TLS: {0}")]
    Tls(#[from] crate::smtp::tls::TlsFault),
    /// The installation's key.
    #[error("secrets: {0}")]
    Key(#[from] crate::tenant::seal::SealError),
    /// The key of the list of suppressions.
    #[error(transparent)]
    List(#[from] crate::tenant::suppression::KeyError),
}

/// The cell that a delivery side works for.
#[derive(Debug, Clone)]
pub struct Workplace {
    /// Its connections, which act as the worker's role.
    pub pool: PgPool,
    /// How it is configured.
    pub database: Database,
    /// Whether its sessions exchange the limits.
    pub standing: Standing,
}

impl Running {
    /// Starts everything that claims and delivers, under a new session named `worker`. `clock`
    /// tells quiet hours.
    pub async fn start(
        at: &Workplace,
        shared: &Arc<Shared>,
        worker: &str,
        health: Part,
        clock: Clock,
    ) -> Result<Self, StartError> {
        metrics::begin();
        let pool = at.pool.clone();
        let settings = shared.applied.clone();
        let now = Arc::clone(&settings.borrow());
        let keeper = Keeper::new(&now.suppression);
        keeper.prove(&pool).await?;
        upkeep::publish_settings(&pool, &now).await?;
        upkeep::make_partitions(&pool).await?;
        days::roll(&pool, now.webhook.retention).await?;
        let session = Arc::new(Session::open(&pool, worker, now.queue.session_ttl).await?);
        if at.standing == Standing::Home {
            shared.at_home(&pool, session.id()).await?;
        }
        let limiter = Arc::clone(&shared.limiter);
        let planner = Arc::clone(&shared.planner);
        let slots = shared.slots(&now);
        let stopping = Stopping::default();
        let writing = Writing::default();
        let quiet = Arc::new(QuietTimes::new(&now, clock));
        let held = Arc::new(Held::default());
        let stop_all = CancellationToken::new();
        let (intent_writer, intents) = Intents::new(
            pool.clone(),
            Arc::clone(&session),
            Arc::clone(&held),
            stopping.clone(),
            at.database.answer_deadline(),
        );
        let intent_writer = tokio::spawn(intent_writer.run(stop_all.clone()));
        let ready = Ready {
            session: Arc::clone(&session),
            stopping: stopping.clone(),
            writing: writing.clone(),
        };
        let pipeline = Arc::new(Pipeline {
            quiet: Arc::clone(&quiet),
            rendering: Rendering::new(pool.clone(), &now)?,
            planning: Planning::new(Arc::clone(&planner), pool.clone()),
            admission: Admission {
                limiter: Arc::clone(&limiter),
                ready: ready.clone(),
                aside: Aside::default(),
            },
            intending: Intending::new(intents, ready),
            carrier: Carrier {
                smtp: Arc::clone(&shared.smtp),
                providers: Arc::clone(&shared.providers),
            },
            hearing: Arc::clone(&shared.hearing),
            policies: Policies::new(&now),
        });

        let (settle_deadline, settle_until) = watch::channel(None);
        let (settler, settlements) = Settler::new(
            pool.clone(),
            Arc::clone(&session),
            Arc::clone(&held),
            now.queue.settle_batch,
            now.queue.settle_delay,
            writing.clone(),
            at.database.answer_deadline(),
        );
        let settler = tokio::spawn(settler.run(settle_until));
        let (outbox, inbox) = mpsc::channel(now.worker.concurrency.max(1) as usize);
        let workers = tokio::spawn(runner::run(inbox, Arc::clone(&pipeline), settlements));

        let woken = Arc::new(Notify::new());
        if !at.database.transaction_pooler {
            // Behind a pooler in transaction mode LISTEN does not last; polling does.
            wake::listen(pool.clone(), &woken);
        }
        let stop_claims = CancellationToken::new();
        let fenced = CancellationToken::new();
        let tasks = TaskTracker::new();
        tasks.spawn(beats(
            pool.clone(),
            Arc::clone(&session),
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
        let (waits, snapshot) = watch::channel(Arc::new(Snapshot::empty(Instant::now())));
        let signals = Signals {
            pool: pool.clone(),
            session: Arc::clone(&session),
            slots: Arc::clone(&slots),
            held: Arc::clone(&held),
            limiter: Arc::clone(&limiter),
            snapshot,
        };
        tasks.spawn(signals.run(stop_all.clone()));
        tasks.spawn(telling::breakers(
            pool.clone(),
            Arc::clone(&session),
            Arc::clone(&shared.hearing),
            stop_all.clone(),
        ));
        let pump = Pump {
            held,
            writing,
            pool: pool.clone(),
            keeper,
            session: Arc::clone(&session),
            slots: Arc::clone(&slots),
            limiter,
            planner,
            quiet,
            outbox,
            woken: Arc::clone(&woken),
            settings: in_force,
            health,
            waits,
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
            intent_writer,
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
            _ended = &mut self.intent_writer => "the writer of intents",
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

/// Shows that the session lives. Ends when it was fenced, or with `stop`.
pub(super) async fn beats(
    pool: PgPool,
    session: Arc<Session>,
    interval: Duration,
    fenced: CancellationToken,
    stop: CancellationToken,
) {
    loop {
        // An answer that comes later than this is no help to a session that must be trusted.
        match deadline::within(session.patience(), session.beat(&pool)).await {
            Ok(Beat::Alive) => {}
            Ok(Beat::Fenced) => {
                metrics::sessions_fenced(1);
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
        parts.pipeline.quiet.apply(&now);
        parts.pipeline.rendering.apply(&now);
        // Last: who hears of it finds everything changed.
        taken_over.send_replace(Arc::clone(&now));
        if let Err(error) = upkeep::publish_settings(&parts.pool, &now).await {
            tracing::warn!(%error, "could not tell the database of changed streams; submissions follow the old ones");
        }
    }
}
