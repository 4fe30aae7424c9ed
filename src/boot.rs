//! What the binaries begin with: runtime, settings, logs, metrics, TLS, signals, database.
//!
//! [`Boot::start`] shows the order: all settings are read and checked before the first
//! socket. A fault there prints every reason and ends the process with [`EXIT_CONFIG`].

mod look;
mod reload;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use sqlx::Executor;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgSslMode};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::look::Read;
use self::reload::Reloads;
use crate::cell::Cell;
use crate::cell::identity::{self, IdentityError};
use crate::config::load::{self, Loader};
use crate::config::reload::Reloader;
use crate::config::{ConfigError, Database, Settings};
use crate::domain::failpoint;
use crate::queue::migrate::{self, SchemaError};
use crate::telemetry::health::Health;
use crate::telemetry::manager::Manager;
use crate::telemetry::metrics::{self, MetricsHandle};
use crate::telemetry::pages::Pages;
use crate::telemetry::traces;
use crate::telemetry::tracing as logs;

/// Of all programs: many small pieces of many sizes, freed by other threads than took them.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Exit code of a start with a faulty configuration (`EX_CONFIG` of sysexits): the service
/// manager need not try again before the file has changed.
pub const EXIT_CONFIG: u8 = 78;

/// What a command line says about the start.
#[derive(Debug, Clone, Default)]
pub struct BootArgs {
    /// Configuration file; `None`: `POSTRIDER_CONFIG`, else the usual place.
    pub config: Option<PathBuf>,
    /// The program's name, as its traces give it.
    pub service: &'static str,
}

/// A started process, before its own parts.
pub struct Boot {
    reloads: Reloads,
    metrics: MetricsHandle,
    health: Health,
}

/// Runs a binary to its end on a runtime of its own and turns an error into words and a code.
pub fn main(run: impl Future<Output = anyhow::Result<()>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&anyhow::Error::new(error).context("cannot start threads")),
    };
    let ended = runtime.block_on(run);
    runtime.shutdown_timeout(Duration::from_secs(1));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    // Nothing better can be done where even standard error is closed.
    let _ = writeln!(std::io::stderr(), "{error:#}");
    if error.is::<ConfigError>() { ExitCode::from(EXIT_CONFIG) } else { ExitCode::FAILURE }
}

impl Boot {
    /// Settings, logs, metrics, TLS. Call it inside the runtime.
    pub fn start(args: BootArgs) -> anyhow::Result<Self> {
        let BootArgs { config, service } = args;
        let loader = Loader::from_process(config.as_deref());
        // Before it is read: what changes meanwhile is read again.
        let read = Read::default();
        read.begins(loader.path());
        let loaded = loader.load()?;
        let log = logs::install(&loaded.settings.log)?;
        for warning in &loaded.warnings {
            tracing::warn!(%warning, "configuration");
        }
        if let Some(orders) = load::failpoints() {
            failpoint::arm(&orders)?;
            tracing::warn!(%orders, "failpoints are armed: this process will fail as told");
        }
        let metrics = metrics::install()?;
        tokio::spawn(metrics.clone().upkeep(CancellationToken::new()));
        // An error says that another part of the process was first, with the same provider.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        traces::begin(&loaded.settings.traces, service);
        // From here on a hang-up no longer ends the process, also before anyone follows it.
        drop(signal(SignalKind::hangup())?);

        let path = loader.path().map(|path| path.display().to_string());
        tracing::info!(version = env!("CARGO_PKG_VERSION"), config = path, "started");
        let (reloader, settings) = Reloader::new(loader, loaded.settings);
        let reloader = Arc::new(reloader);
        let manager = Manager::default();
        let reloads = Reloads { reloader, settings, log, manager, read };
        Ok(Self { reloads, metrics, health: Health::new() })
    }

    /// The settings, now and after every reload.
    pub fn settings(&self) -> watch::Receiver<Arc<Settings>> {
        self.reloads.settings.clone()
    }

    /// Where parts report and probes read.
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// What is counted.
    pub fn metrics(&self) -> MetricsHandle {
        self.metrics.clone()
    }

    /// Reloads the configuration on every SIGHUP until `stop`, when asked for on `pages`, and when
    /// its file has changed.
    pub fn follow_reloads(&self, pages: &Pages, stop: CancellationToken) {
        self.reloads.clone().serve(pages);
        self.reloads.clone().watch(stop.clone());
        self.reloads.clone().follow(stop);
    }

    /// Tells the service manager what the parts report, and that the process stops once `stop`
    /// is cancelled. Begin when all parts are there: a process without any is ready.
    pub fn tell_manager(&self, stop: CancellationToken) {
        tokio::spawn(self.reloads.manager.clone().follow(self.health.clone(), stop));
    }
}

/// Is cancelled by SIGTERM or SIGINT. The same again ends the process at once: whatever is
/// in hand then is rescued like that of a crashed one.
pub fn shutdown_signal() -> CancellationToken {
    let stop = CancellationToken::new();
    let (mut terminate, mut interrupt) =
        match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
            (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
            (Err(error), _) | (_, Err(error)) => {
                tracing::error!(%error, "cannot hear SIGTERM: it ends the process at once");
                return stop;
            }
        };
    let told = stop.clone();
    tokio::spawn(async move {
        for again in [false, true] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if again {
                tracing::warn!("told to stop twice, ending at once");
                std::process::exit(1);
            }
            told.cancel();
        }
    });
    stop
}

/// As whom a process works in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The daemon.
    Worker,
    /// The HTTP API.
    Api,
    /// The command line.
    Operator,
    /// Whoever the login is: for migrations.
    Owner,
}

impl Role {
    /// Its name in the database; empty: the login's own.
    fn name(self, database: &Database) -> &str {
        match self {
            Self::Worker => &database.worker_role,
            Self::Api => &database.api_role,
            Self::Operator => &database.operator_role,
            Self::Owner => "",
        }
    }
}

/// Longest time for cleaning a connection that comes back.
const CLEANING: Duration = Duration::from_secs(2);

/// A pool of connections that act as `role`. Waits for the database for
/// `database.acquire_timeout`.
///
/// sqlx 0.9.0 can put a connection back inside a transaction when `begin()` is cancelled;
/// writes on it would be acknowledged and then lost. So every connection that comes back
/// has a transaction opened and rolled back: whatever was left open ends, and a clean
/// connection is not warned about (docs/adr/0005).
pub async fn connect(database: &Database, role: Role) -> Result<PgPool, sqlx::Error> {
    let pool = pool_of(database).connect_with(options(database, role)?).await?;
    if database.transaction_pooler {
        role_is_taken(&pool, role.name(database)).await?;
    }
    Ok(pool)
}

/// The same without waiting: the first connection is made when one is asked for, so a database
/// that is away shows itself then. Ask [`fits`] before anything is done there.
pub fn connect_when_asked(database: &Database, role: Role) -> Result<PgPool, sqlx::Error> {
    Ok(pool_of(database).connect_lazy_with(options(database, role)?))
}

/// Why a process must not work in a cell, or not yet.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// It does not answer; it may later.
    #[error("the database does not answer: {0}")]
    Away(sqlx::Error),
    /// It lets this process act as somebody else than it should.
    #[error(transparent)]
    Role(sqlx::Error),
    /// Its schema is not one that this program knows.
    #[error(transparent)]
    Schema(SchemaError),
    /// It is not the cell that the configuration says.
    #[error(transparent)]
    Identity(IdentityError),
}

/// Whether the cell's schema fits this program, it is the cell that it should be, and
/// connections act as `role`.
pub async fn fits(cell: &Cell, database: &Database, role: Role) -> Result<(), Unfit> {
    if database.transaction_pooler {
        role_is_taken(&cell.pool, role.name(database)).await.map_err(|error| match error {
            sqlx::Error::Configuration(_) => Unfit::Role(error),
            other => Unfit::Away(other),
        })?;
    }
    migrate::schema_is_current(&cell.pool).await.map_err(|error| match error {
        SchemaError::Database(error) => Unfit::Away(error),
        other => Unfit::Schema(other),
    })?;
    identity::verify(cell).await.map_err(|error| match error {
        IdentityError::Database(error) => Unfit::Away(error),
        other @ IdentityError::OtherNumber { .. } => Unfit::Identity(other),
    })
}

fn pool_of(database: &Database) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(database.pool_size)
        .acquire_timeout(database.acquire_timeout)
        // One round trip less for every statement; a dead connection shows itself as an error.
        .test_before_acquire(false)
        .after_release(|connection, _| {
            Box::pin(async move {
                // A server that is gone would keep the connection's place in the pool for ever.
                let clean = connection.execute("begin; rollback");
                match tokio::time::timeout(CLEANING, clean).await {
                    Ok(done) => done.map(|_| true),
                    Err(_elapsed) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
                }
            })
        })
}

/// Behind a pooler the role cannot be asked for: the login must have it by itself. Else the
/// process would act with the rights of the login, and row-level security might not hold.
async fn role_is_taken(pool: &PgPool, wanted: &str) -> Result<(), sqlx::Error> {
    if wanted.is_empty() {
        return Ok(());
    }
    let (login, found): (String, String) =
        sqlx::query_as("select session_user::text, current_user::text").fetch_one(pool).await?;
    if found == wanted {
        return Ok(());
    }
    let text = format!(
        "expected to act as {wanted} behind the pooler, found {found}: \
         run: alter role {login} set role = '{wanted}'"
    );
    Err(sqlx::Error::Configuration(text.into()))
}

/// A setting of the daemon's connections. The planner holds a plan for these very lanes to be cheaper
/// than one for any, and would make it anew for every claim, which took a fifth of its time
/// (docs/postgres.md).
pub const ONE_PLAN: (&str, &str) = ("plan_cache_mode", "force_generic_plan");

fn options(database: &Database, role: Role) -> Result<PgConnectOptions, sqlx::Error> {
    let mut options: PgConnectOptions = database.url.expose().parse()?;
    if let Some(password) = &database.password {
        options = options.password(password.expose());
    }
    if !Database::is_on_this_machine(&options)
        && matches!(options.get_ssl_mode(), PgSslMode::Allow | PgSslMode::Prefer)
    {
        // Over a network in clear only where `sslmode=disable` says so.
        options = options.ssl_mode(PgSslMode::Require);
    }
    options = options.application_name(match role {
        Role::Worker => "postriderd",
        Role::Api => "postrider-api",
        Role::Operator | Role::Owner => "postrider",
    });
    if database.transaction_pooler {
        // It would share the session's settings among strangers; they are the login's own there.
        return Ok(options);
    }
    let acts_as = role.name(database);
    if !acts_as.is_empty() {
        options = options.options([("role", acts_as)]);
    }
    if role == Role::Worker {
        options = options.options([ONE_PLAN]);
    }
    // A migration may take as long as it needs.
    if role != Role::Owner {
        let longest = database.statement_timeout.as_millis().to_string();
        options = options.options([("statement_timeout", &*longest)]);
    }
    Ok(options.options([("idle_in_transaction_session_timeout", "10s")]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::secret::Secret;

    fn options_of(url: &str, role: Role) -> PgConnectOptions {
        let database = Database { url: Secret::new(url), ..Database::default() };
        options(&database, role).expect("a URL")
    }

    #[test]
    fn a_distant_database_is_asked_for_tls() {
        let mode = |url| format!("{:?}", options_of(url, Role::Worker).get_ssl_mode());
        assert_eq!(mode("postgres://db.example.com/postrider"), "Require");
        assert_eq!(mode("postgres://db.example.com/postrider?sslmode=prefer"), "Require");
        assert_eq!(mode("postgres://db.example.com/postrider?sslmode=verify-full"), "VerifyFull");
        assert_eq!(mode("postgres://db.example.com/postrider?sslmode=disable"), "Disable");
        assert_eq!(mode("postgres://127.0.0.1/postrider"), "Prefer");
        assert_eq!(mode("postgres:///postrider?host=/run/postgresql"), "Prefer");
    }

    #[test]
    fn a_connection_acts_as_its_role() {
        let worker = options_of("postgres://127.0.0.1/postrider", Role::Worker);
        let said = worker.get_options().expect("options").to_owned();
        assert!(
            said.contains("role=postrider_worker") && said.contains("statement_timeout=30000"),
            "{said}"
        );
        let owner = options_of("postgres://127.0.0.1/postrider", Role::Owner);
        let said = owner.get_options().expect("options").to_owned();
        assert!(!said.contains("role=") && !said.contains("statement_timeout"), "{said}");
    }
}
