//! The HTTP companion: arguments, boot, serve until told to stop.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Parser;
use postrider::api::{self, Api};
use postrider::boot::{self, Boot, BootArgs, Role, Unfit};
use postrider::cell::Cell;
use postrider::config::Settings;
use postrider::domain::clock::Clock;
use postrider::telemetry;
use postrider::telemetry::pages::Pages;
use postrider::tenant::suppression::{Keeper, KeyError};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Takes messages over HTTP and stores them in the queue; tells what became of them.
///
/// A 202 is sent after the commit. Serves on the socket that a service manager passes, else on
/// api.listen. SIGTERM lets running requests finish, SIGHUP reloads
/// the log level. Exit codes: 0 stopped when told to, 78 a fault in the configuration,
/// 1 anything else.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Configuration file [default: $POSTRIDER_CONFIG, else the usual place]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(crate) fn main() -> ExitCode {
    let args = Args::parse();
    boot::main(run(args))
}

async fn run(args: Args) -> anyhow::Result<()> {
    let boot = Boot::start(BootArgs { config: args.config, service: "postrider-api" })?;
    let stop = boot::shutdown_signal();
    let settings = boot.settings().borrow().clone();
    // Before anyone can ask: a process without parts would be ready.
    let health = boot.health().part("api");
    boot.tell_manager(stop.clone());
    let pages = Pages::default();
    boot.follow_reloads(&pages, stop.clone());
    show_telemetry(&boot, &settings, pages, stop.clone()).await?;

    let cells = cells(&settings).await?;
    for cell in &cells {
        let watch = telemetry::pool::watch(cell.pool.clone(), cell.name.to_string(), stop.clone());
        tokio::spawn(watch);
    }
    let listener = listener(&settings).await?;
    let listen = listener.local_addr().context("the address listened on")?;
    let api = Api::over(boot.settings(), &cells, Clock::System);
    tracing::info!(%listen, "serving");
    health.ready();
    let mut timekeepers = JoinSet::new();
    for cell in &cells {
        timekeepers.spawn(api::timekeeper::run(cell.pool.clone(), stop.clone()));
    }
    let most = settings.api.max_connections as usize;
    api::serve(listener, api::router(Arc::clone(&api)), most, stop.cancelled()).await;
    api.finish().await;
    drop(health);
    while let Some(ended) = timekeepers.join_next().await {
        ended.context("a keeper of time")?;
    }
    for cell in cells {
        cell.pool.close().await;
    }
    telemetry::traces::close().await;
    tracing::info!("stopped");
    Ok(())
}

/// The socket that the service manager passed, which outlives this process and keeps callers
/// waiting while it starts anew; else `api.listen`.
async fn listener(settings: &Settings) -> anyhow::Result<TcpListener> {
    if let Some(passed) = api::serve::passed().context("the socket passed by the manager")? {
        tracing::info!("listening on the socket that was passed, not on api.listen");
        return Ok(passed);
    }
    let listen = settings.api.listen;
    TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))
}

/// All cells. A single one must answer before anything begins; of several, one that does not
/// answer yet is joined when it does, and the others are served meanwhile.
async fn cells(settings: &Settings) -> anyhow::Result<Vec<Cell>> {
    let several = !settings.cells.is_empty();
    let mut cells = Vec::new();
    for database in settings.all_cells() {
        let pool = if several {
            boot::connect_when_asked(database, Role::Api)
        } else {
            boot::connect(database, Role::Api).await
        };
        let pool = pool.context("cannot connect to the database; check database.url")?;
        cells.push(Cell::new(database, pool));
    }
    for (cell, database) in cells.iter().zip(settings.all_cells()) {
        match boot::fits(cell, database, Role::Api).await {
            Ok(()) => {}
            Err(Unfit::Away(error)) if several => {
                tracing::warn!(cell = &*cell.name, %error, "does not answer yet");
            }
            Err(error) => return Err(error).with_context(|| format!("cell {}", cell.name)),
        }
        match Keeper::new(&settings.suppression).prove(&cell.pool).await {
            Ok(()) => {}
            // It is asked again when the cell answers.
            Err(KeyError::Database(_)) if several => {}
            Err(error) => return Err(error).with_context(|| format!("cell {}", cell.name)),
        }
    }
    Ok(cells)
}

/// Metrics on an address of their own, where there is one.
async fn show_telemetry(
    boot: &Boot,
    settings: &Settings,
    pages: Pages,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let Some(listen) = settings.telemetry.api_listen else { return Ok(()) };
    let listener = telemetry::server::bind(listen)
        .await
        .with_context(|| format!("cannot listen on {listen} (telemetry.api_listen)"))?;
    let (metrics, health) = (boot.metrics(), boot.health());
    tokio::spawn(async move {
        if let Err(error) = telemetry::server::serve(listener, metrics, health, pages, stop).await {
            tracing::error!(%error, "metrics are not shown any more");
        }
    });
    Ok(())
}
