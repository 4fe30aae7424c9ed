//! The delivery daemon: arguments → boot → worker + maintenance.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use postrider::boot::{self, Boot, BootArgs, Role};
use postrider::cell::Cell;
use postrider::config::{Database, Settings};
use postrider::domain::clock::Clock;
use postrider::inbound::server::{Listener, Store, Stores};
use postrider::maintenance::reports::Reports;
use postrider::maintenance::scale::{self, Scaler};
use postrider::maintenance::ticks::{AtHome, Ticks};
use postrider::maintenance::tls_report::{Reporter, results};
use postrider::maintenance::{alarm::Alarms, gauges, steady};
use postrider::telemetry::health::{Health, Part};
use postrider::telemetry::pages::Pages;
use postrider::telemetry::{pool as pool_watch, server, traces};
use postrider::webhook::{self, courier::Gear};
use postrider::worker::daemon::{Running, StartError, Workplace};
use postrider::worker::member;
use postrider::worker::shared::{Shared, Standing};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Time for each of the last steps, which wait for nothing but the database.
const LAST_STEPS: Duration = Duration::from_secs(5);

/// Wait before a cell that could not be worked in is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// Claims deliveries from the queue and carries them out.
///
/// Serves every configured cell, or those that worker.cells names; one whose database is away
/// does not hold up the others.
///
/// SIGHUP and `postrider reload` read the configuration again; SIGTERM finishes what is in hand and exits.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Configuration file.
    #[arg(long, env = "POSTRIDER_CONFIG")]
    config: Option<PathBuf>,
    /// A name for this process in the list of sessions; its identity is a number.
    #[arg(long, default_value = "postriderd")]
    name: String,
}

pub(crate) fn main() -> ExitCode {
    boot::main(run(Args::parse()))
}

async fn run(args: Args) -> anyhow::Result<()> {
    let boot = Boot::start(BootArgs { config: args.config, service: "postriderd" })?;
    let stop = boot::shutdown_signal();
    let (settings, health) = (boot.settings(), boot.health());
    let now = Arc::clone(&settings.borrow());
    let stop_probes = CancellationToken::new();
    let listen = now.telemetry.listen;
    let probes = server::bind(listen)
        .await
        .with_context(|| format!("telemetry.listen: cannot listen on {listen}"))?;
    // Before anyone can ask: a process without parts would be ready.
    let served: Vec<Database> = now.served_cells().cloned().collect();
    let company = if now.cells.is_empty() { Company::Alone } else { Company::Several };
    let starting: Vec<Part> = served.iter().map(|cell| health.part(company.part(cell))).collect();
    boot.tell_manager(stop.clone());
    let pages = Pages::default();
    let probes = tokio::spawn(server::serve(
        probes,
        boot.metrics(),
        health.clone(),
        pages.clone(),
        stop_probes.clone(),
    ));

    let shared = Shared::start(boot.settings(), served.len()).context("starting")?;
    let couriers = Gear::new(&now)
        .inspect_err(|error| tracing::warn!(%error, "events are kept, and told to no endpoint"))
        .ok();
    let mut cells = JoinSet::new();
    let mut scalers = Vec::new();
    let mut homes = Vec::new();
    for (database, part) in served.iter().zip(starting) {
        let pool = match company {
            Company::Alone => boot::connect(database, Role::Worker).await,
            Company::Several => boot::connect_when_asked(database, Role::Worker),
        };
        let cell = Cell::new(database, pool.context("database")?);
        if company == Company::Alone {
            boot::fits(&cell, database, Role::Worker).await?;
        }
        let name = cell.name.to_string();
        tokio::spawn(pool_watch::watch(cell.pool.clone(), name.clone(), stop.clone()));
        let scaler = Scaler::new(cell.pool.clone(), settings.clone(), name);
        scalers.push(Arc::clone(&scaler));
        let home = database.number == now.database.number;
        homes.push(cell.clone());
        let work = Work {
            at: Workplace {
                pool: cell.pool.clone(),
                database: database.clone(),
                standing: if home { Standing::Home } else { Standing::Other },
            },
            cell,
            company,
            shared: Arc::clone(&shared),
            couriers: couriers.clone(),
            scaler,
            settings: settings.clone(),
            health: health.clone(),
            name: args.name.clone(),
        };
        cells.spawn(work.go_on(part, stop.clone()));
    }
    scale::serve(scalers, &pages);
    if !served.iter().any(|cell| cell.number == now.database.number) {
        let home = boot::connect_when_asked(&now.database, Role::Worker).context("database")?;
        let results = results::keep(home.clone(), shared.planner().tally(), stop.clone());
        let member = member::run(home, Arc::clone(&shared), args.name.clone(), stop.clone());
        cells.spawn(async move {
            tokio::join!(member, results);
            Ok(())
        });
    }
    let returning = returning(&boot, homes, &stop).await?;
    boot.follow_reloads(&pages, stop.clone());

    // Where one breaks, the process ends: the others stop in order, and another takes over.
    let mut broken = None;
    while let Some(ended) = cells.join_next().await {
        if let Err(error) = ended.context("a cell's work panicked").flatten() {
            stop.cancel();
            broken = broken.or(Some(error));
        }
    }
    returning.close();
    if tokio::time::timeout(LAST_STEPS, returning.wait()).await.is_err() {
        tracing::warn!("the inbound side did not end in time");
    }
    shared.close().await;
    traces::close().await;
    stop_probes.cancel();
    probes.await.context("telemetry server")?.context("telemetry server")?;
    broken.map_or(Ok(()), Err)
}

/// Takes reports in, where configured, and works off what came in to any daemon.
async fn returning(
    boot: &Boot,
    cells: Vec<Cell>,
    stop: &CancellationToken,
) -> anyhow::Result<TaskTracker> {
    let tasks = TaskTracker::new();
    let settings = Arc::clone(&boot.settings().borrow());
    let stores: Vec<Store> = cells
        .iter()
        .map(|cell| Store { number: cell.number, pool: cell.pool.clone(), full: Arc::default() })
        .collect();
    for (cell, store) in cells.iter().zip(&stores) {
        let others = cells.iter().filter(|other| other.number != cell.number).cloned().collect();
        let full = Arc::clone(&store.full);
        tasks.spawn(Reports::new(cell.clone(), others, boot.settings(), full).run(stop.clone()));
    }
    if settings.inbound.is_on() {
        let listener = Listener::bind(&settings, Stores::new(stores), Clock::System).await?;
        for address in listener.addresses() {
            tracing::info!(%address, "taking reports");
        }
        tasks.spawn(listener.run(stop.clone()));
    }
    Ok(tasks)
}

/// Whether a cell that does not answer is the whole installation, or one of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Company {
    Alone,
    Several,
}

impl Company {
    /// What a cell is called among the parts of the process.
    fn part(self, cell: &Database) -> String {
        match self {
            Self::Alone => "queue".to_owned(),
            Self::Several => format!("cell {}", cell.cell),
        }
    }
}

/// All that is done for one cell.
struct Work {
    at: Workplace,
    cell: Cell,
    company: Company,
    shared: Arc<Shared>,
    couriers: Option<Gear>,
    scaler: Arc<Scaler>,
    settings: watch::Receiver<Arc<Settings>>,
    health: Health,
    name: String,
}

impl Work {
    /// Works until told to stop. A session that was fenced (the process was frozen for too long)
    /// is given up whole and the cell begins anew under another.
    async fn go_on(self, starting: Part, stop: CancellationToken) -> anyhow::Result<()> {
        let mut starting = Some(starting);
        let up = metrics::gauge!("postrider_cell_up", "cell" => self.cell.name.to_string());
        while !stop.is_cancelled() {
            let part = self.health.part(self.company.part(&self.at.database));
            part.not_ready("has not looked at the queue yet");
            drop(starting.take());
            up.set(0.0);
            if self.company == Company::Several && !self.is_there(&part, &stop).await {
                break;
            }
            match Running::start(&self.at, &self.shared, &self.name, part, Clock::System).await {
                Ok(running) => {
                    up.set(1.0);
                    self.run(running, &stop).await?;
                }
                Err(StartError::Database(error)) if self.company == Company::Several => {
                    tracing::warn!(cell = &*self.cell.name, %error, "could not begin; trying again");
                    tokio::time::sleep(AGAIN).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        up.set(0.0);
        if tokio::time::timeout(LAST_STEPS, self.cell.pool.close()).await.is_err() {
            tracing::warn!("the database connections did not close in time");
        }
        Ok(())
    }

    /// Waits until the cell answers and is what it should be; false when told to stop first.
    async fn is_there(&self, part: &Part, stop: &CancellationToken) -> bool {
        let mut said = None;
        loop {
            let unfit = tokio::select! {
                () = stop.cancelled() => return false,
                fits = boot::fits(&self.cell, &self.at.database, Role::Worker) => match fits {
                    Ok(()) => return true,
                    Err(unfit) => unfit.to_string(),
                },
            };
            part.not_ready(&unfit);
            if said.as_ref() != Some(&unfit) {
                tracing::error!(cell = &*self.cell.name, "cannot work here yet: {unfit}");
                said = Some(unfit);
            }
            tokio::select! {
                () = stop.cancelled() => return false,
                () = tokio::time::sleep(AGAIN) => {}
            }
        }
    }

    /// What this cell does for all, if it is the home cell.
    fn at_home(&self) -> Option<AtHome> {
        (self.at.standing == Standing::Home).then(|| AtHome {
            reporter: Reporter::new(self.settings.clone()),
            planner: Arc::clone(self.shared.planner()),
        })
    }

    /// One session, from its start to its end, with the maintenance beside it.
    async fn run(&self, mut running: Running, stop: &CancellationToken) -> anyhow::Result<()> {
        let (pool, settings) = (&self.cell.pool, &self.settings);
        let upkeep = TaskTracker::new();
        let stop_upkeep = CancellationToken::new();
        steady::spawn(&upkeep, pool, settings, running.session(), running.woken(), &stop_upkeep);
        upkeep.spawn(gauges::run(pool.clone(), self.cell.name.to_string(), stop_upkeep.clone()));
        upkeep.spawn(Arc::clone(&self.scaler).run(stop_upkeep.clone()));
        if self.at.standing == Standing::Home {
            let tally = self.shared.planner().tally();
            upkeep.spawn(results::keep(pool.clone(), tally, stop_upkeep.clone()));
        }
        upkeep.spawn(
            Ticks {
                pool: pool.clone(),
                settings: settings.clone(),
                session: running.session().id(),
                alarms: Alarms::new(settings.clone()),
                at_home: self.at_home(),
            }
            .run(stop_upkeep.clone()),
        );
        upkeep.spawn(webhook::watch(pool.clone(), self.cell.name.to_string(), stop_upkeep.clone()));
        // They stop with the claims: what is on its way has the time that deliveries have.
        let stop_couriers = CancellationToken::new();
        if let Some(couriers) = self.couriers.clone() {
            let session = running.session().id();
            upkeep.spawn(couriers.run(pool.clone(), session, stop_couriers.clone()));
        }
        let fenced = running.fenced();
        tokio::select! {
            () = stop.cancelled() => tracing::info!("stopping: no new claims, finishing what is in hand"),
            () = fenced.cancelled() => {}
            part = running.broken() => {
                stop_couriers.cancel();
                running.give_up().await.context("giving up the session")?;
                anyhow::bail!("{part} of cell {} ended by itself; see the log", self.cell.name);
            }
        }
        stop_couriers.cancel();
        let deadline = Arc::clone(&settings.borrow()).worker.shutdown_deadline;
        let stopped = running.stop(deadline).await;
        stop_upkeep.cancel();
        upkeep.close();
        if tokio::time::timeout(LAST_STEPS, upkeep.wait()).await.is_err() {
            tracing::warn!(
                "the maintenance did not end in time; its statement is the database's to end"
            );
        }
        tracing::info!(abandoned = stopped.abandoned, unwritten = stopped.unwritten, "stopped");
        Ok(())
    }
}
