//! `postrider dev`: the whole of postrider on one machine, with nothing needed beforehand.
//!
//! Starts a private Postgres, the sink, the daemon and the API, makes a tenant
//! with a key and a signed domain, submits a campaign over HTTP, shows its
//! progress, and sums up. Everything lies below `target/dev`; the database is
//! made anew each time, unless one was named.
//!
//! What it started it stops, in the order daemon and API, sink, Postgres: on
//! Ctrl-C, on SIGTERM, on failure. Killed hard, the children get a SIGTERM from
//! the kernel and Postgres waits for the next start, or `make stop`.

pub mod binaries;
pub mod cluster;
pub mod lock;

mod campaign;
mod database;
mod demo;
mod folder;
mod place;
mod progress;
mod service;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use self::campaign::Campaign;
use self::database::Database;
use self::demo::Demo;
use self::place::{Place, Ports};
use self::service::Service;
use crate::cli::console::Console;
use crate::queue::admin::audit::{self, Extent};
use crate::sink::{FaultMix, Options, Sink};

/// Everything on this machine: database, daemon, API, a mailbox, and a first campaign.
#[derive(Debug, clap::Args)]
pub struct DevArgs {
    /// Recipients of the campaign.
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    recipients: u64,
    /// Leave when the campaign is over; with code 0 only if every recipient came to an end.
    #[arg(long)]
    exit: bool,
    /// Let the mailbox refuse, delay and hang up, the same way each time.
    #[arg(long)]
    faults: bool,
    /// First of four ports on 127.0.0.1: API, daemon, mailbox (SMTP), mailbox (HTTP).
    #[arg(long, default_value_t = 8025, value_name = "PORT",
          value_parser = clap::value_parser!(u16).range(1..=65_532))]
    port_base: u16,
    /// Folder of Postgres's server programs, where they are in no usual place.
    #[arg(long, env = "POSTRIDER_PG_BIN", value_name = "FOLDER")]
    pg_bin: Option<PathBuf>,
}

/// The seed of `--faults`.
const FAULT_SEED: u64 = 1;

/// Runs until the campaign is over (`--exit`) or `stop` is cancelled. Call it on the
/// main thread: the children's lives are bound to the thread that started them.
///
/// `database_url` names a Postgres that is used and left running; its schema
/// `postrider` is migrated. Without it, a private one is started.
pub async fn run(
    args: DevArgs,
    database_url: Option<String>,
    stop: CancellationToken,
) -> anyhow::Result<ExitCode> {
    let mut console = Console::new();
    let place = Place::open()?;
    let ports = Ports::from(args.port_base);
    ports.check()?;
    let database = Database::open(&args, database_url, &place, &mut console).await?;
    let mut stage = Stage { place, ports, database, sink: None, services: Vec::new() };

    let played = stop.run_until_cancelled(stage.play(&args, &mut console)).await;
    console.line("stopping");
    stage.stop().await;
    match played {
        Some(ended) => ended,
        // Interrupted: that is how a stay ends, but not how a campaign does.
        None if args.exit => Ok(ExitCode::FAILURE),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// All that was started.
struct Stage {
    place: Place,
    ports: Ports,
    database: Database,
    sink: Option<Sink>,
    services: Vec<Service>,
}

impl Stage {
    async fn play(&mut self, args: &DevArgs, console: &mut Console) -> anyhow::Result<ExitCode> {
        self.place.write_config(&self.database, self.ports)?;
        let demo = Demo::make(self.database.operator(), &self.place).await?;
        self.start_sink(args).await?;
        self.start_services().await?;
        console.line("daemon and API are ready");

        let campaign = Campaign::submit(self.ports, demo.key(), args.recipients).await?;
        console.line(&campaign.to_string());
        let summary = tokio::select! {
            summary = campaign.follow(console) => summary?,
            death = first_death(&mut self.services) => return Err(death),
        };
        let sink = self.sink.as_ref().map(Sink::stats);
        console.line(&summary.render(sink.as_ref()));
        let audit = audit::audit(self.database.operator(), Extent::default()).await?;
        console.line(&format!(
            "audit: {} accepted = {} ended + {} dead letters + {} waiting{}",
            audit.accepted,
            audit.ended,
            audit.dead,
            audit.waiting,
            if audit.adds_up() { "" } else { ": DOES NOT ADD UP" }
        ));
        if args.exit {
            let done = summary.adds_up() && summary.all_ended() && audit.adds_up();
            return Ok(if done { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        console.line(&self.place.signposts(self.ports, demo.key()));
        Err(first_death(&mut self.services).await)
    }

    async fn start_sink(&mut self, args: &DevArgs) -> anyhow::Result<()> {
        let options = Options {
            listen: self.ports.sink_smtp(),
            http: Some(self.ports.sink_http()),
            faults: args.faults.then(|| FaultMix::of_everything(FAULT_SEED)),
            ..Options::default()
        };
        self.sink = Some(Sink::start(options).await.context("the mailbox sink cannot start")?);
        Ok(())
    }

    async fn start_services(&mut self) -> anyhow::Result<()> {
        for (program, port) in
            [("postriderd", self.ports.daemon()), ("postrider-api", self.ports.api())]
        {
            self.services.push(Service::start(program, port, &self.place, &self.database)?);
        }
        for service in &mut self.services {
            service.ready().await?;
        }
        Ok(())
    }

    async fn stop(mut self) {
        // The API first: nothing new comes in while the daemon finishes.
        while let Some(service) = self.services.pop() {
            service.stop().await;
        }
        if let Some(sink) = self.sink.take() {
            sink.stop().await;
        }
        self.database.close().await;
    }
}

/// Waits until one of the children ends, which none should.
async fn first_death(services: &mut [Service]) -> anyhow::Error {
    let deaths = services.iter_mut().map(|service| Box::pin(service.death()));
    futures_util::future::select_all(deaths).await.0
}
