//! The delivery daemon: arguments → boot → worker + maintenance.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use postrider::boot::{self, Boot, BootArgs, Role};
use postrider::domain::clock::Clock;
use postrider::maintenance::scale::Scaler;
use postrider::maintenance::{alarm::Alarms, gauges, steady, ticks::Ticks};
use postrider::queue::migrate;
use postrider::telemetry::pages::Pages;
use postrider::telemetry::{pool as pool_watch, server};
use postrider::worker::daemon::Running;
use tikv_jemallocator::Jemalloc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Time for each of the last steps, which wait for nothing but the database.
const LAST_STEPS: Duration = Duration::from_secs(5);

/// Claims deliveries from the queue and carries them out.
///
/// SIGHUP reloads the configuration; SIGTERM finishes what is in hand and exits.
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

fn main() -> ExitCode {
    boot::main(run(Args::parse()))
}

async fn run(args: Args) -> anyhow::Result<()> {
    let boot = Boot::start(BootArgs { config: args.config })?;
    let stop = boot::shutdown_signal();
    let (settings, health) = (boot.settings(), boot.health());
    let (database, telemetry) = {
        let now = settings.borrow();
        (now.database.clone(), now.telemetry.clone())
    };
    let stop_probes = CancellationToken::new();
    let probes = server::bind(telemetry.listen)
        .await
        .with_context(|| format!("telemetry.listen: cannot listen on {}", telemetry.listen))?;
    // Before anyone can ask: a process without parts would be ready.
    let mut starting = Some(health.part("queue"));
    let pages = Pages::default();
    let probes = tokio::spawn(server::serve(
        probes,
        boot.metrics(),
        health.clone(),
        pages.clone(),
        stop_probes.clone(),
    ));
    let pool = boot::connect(&database, Role::Worker).await.context("database")?;
    migrate::schema_is_current(&pool).await?;
    boot.follow_reloads(stop.clone());
    let scaler = Scaler::new(pool.clone(), settings.clone());
    scaler.serve_on(&pages);
    tokio::spawn(pool_watch::watch(pool.clone(), stop.clone()));

    // A session that was fenced (the process was frozen for too long) is given up whole
    // and the daemon starts anew under another.
    while !stop.is_cancelled() {
        let part = health.part("queue");
        part.not_ready("has not looked at the queue yet");
        drop(starting.take());
        let mut running =
            Running::start(pool.clone(), settings.clone(), &args.name, part, Clock::System).await?;
        let upkeep = TaskTracker::new();
        let stop_upkeep = CancellationToken::new();
        steady::spawn(&upkeep, &pool, &settings, running.session(), running.woken(), &stop_upkeep);
        upkeep.spawn(gauges::run(pool.clone(), stop_upkeep.clone()));
        upkeep.spawn(Arc::clone(&scaler).run(stop_upkeep.clone()));
        upkeep.spawn(
            Ticks {
                pool: pool.clone(),
                settings: settings.clone(),
                session: running.session().id(),
                alarms: Alarms::new(settings.clone()),
            }
            .run(stop_upkeep.clone()),
        );
        let fenced = running.fenced();
        tokio::select! {
            () = stop.cancelled() => tracing::info!("stopping: no new claims, finishing what is in hand"),
            () = fenced.cancelled() => {}
            part = running.broken() => {
                running.give_up().await.context("giving up the session")?;
                anyhow::bail!("{part} ended by itself; see the log");
            }
        }
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
    }
    stop_probes.cancel();
    probes.await.context("telemetry server")?.context("telemetry server")?;
    if tokio::time::timeout(LAST_STEPS, pool.close()).await.is_err() {
        tracing::warn!("the database connections did not close in time");
    }
    Ok(())
}
