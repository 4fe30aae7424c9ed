//! One run's whole installation: Postgres, the network before it, the API, daemons, clients
//! and the receiver. Everything of it ends when it is dropped.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use chrono::{DateTime, Utc};
use postrider::cli::dev::binaries::Binaries;
use postrider::message::time_zone::TimeZone;
use postrider::queue::migrate;
use postrider::tenant::store;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sqlx::{Connection, PgConnection, PgPool};
use tempfile::TempDir;

use super::auditor::{Duplicates, Findings, audit};
use super::client::{self, Ledger, Load, Pace, Tenant};
use super::proxy::Proxy;
use super::receiver::{Manners, Receiver};
use super::replica::{Harness, Program, Replica};
use super::server::{self, Server, Stop};

/// The database of every stage.
const DATABASE: &str = "mail";

/// Longest wait for everything to have ended, or for service to be back.
const PATIENCE: Duration = Duration::from_secs(120);

/// Most memory a daemon may take here: the load is small, whatever befalls it.
const MEMORY: u64 = 400_000_000;

/// A migrated cluster with two tenants, copied for every stage.
pub(crate) struct Template {
    server: Server,
    tenants: Vec<Tenant>,
    folder: TempDir,
}

impl Template {
    /// Makes it.
    pub(crate) async fn make(binaries: &Binaries) -> anyhow::Result<Self> {
        let folder = server::run_folder()?;
        let server = Server::init(&folder.path().join("template"), binaries)?;
        server.start()?;
        let mut admin = PgConnection::connect(&server.url("postgres")).await?;
        sqlx::raw_sql("create database mail").execute(&mut admin).await?;
        let pool = PgPool::connect(&server.url(DATABASE)).await?;
        migrate::up(&pool).await.context("cannot migrate")?;
        let mut tenants = Vec::new();
        for name in ["ann", "bob"] {
            store::create(&pool, name, 100, TimeZone::default()).await?;
            let scope = store::scope(&pool, name).await?;
            let key =
                store::create_key(&pool, scope, "faults", "faults").await?.reveal().to_owned();
            sqlx::query(
                "insert into postrider.sending_domain(tenant_id, domain, signed) values ($1, $2, false)",
            )
            .bind(scope.tenant().get())
            .bind(format!("{name}.example"))
            .execute(&pool)
            .await?;
            tenants.push(Tenant { name: name.to_owned(), key });
        }
        pool.close().await;
        admin.close().await?;
        server.stop(Stop::Fast)?;
        Ok(Self { server, tenants, folder })
    }

    /// Where stages live: short paths that the server's user may enter.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// What a case wants otherwise.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    /// Daemons at the start.
    pub(crate) replicas: usize,
    /// Deliveries that a daemon holds at most.
    pub(crate) concurrency: u32,
    /// Its connections to the receiver.
    pub(crate) connections: u32,
    /// Silence, in seconds, after which a daemon counts as dead.
    pub(crate) session_ttl: u32,
    /// Outcomes written together.
    pub(crate) settle_batch: u32,
    /// Submissions a second.
    pub(crate) pace: Pace,
    /// How the receiver behaves.
    pub(crate) manners: Manners,
    /// Lines for `[database]`.
    pub(crate) database: String,
    /// More of the configuration.
    pub(crate) more: String,
    /// Under what the daemons run.
    pub(crate) harness: Harness,
    /// Another disk for the tables.
    pub(crate) tablespace: Option<PathBuf>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            replicas: 2,
            concurrency: 64,
            connections: 10,
            // A busy machine must not look like a dead daemon where nothing may come twice.
            session_ttl: 6,
            settle_batch: 50,
            pace: Pace { rate: 60.0, most: 4 },
            manners: Manners { banner: Duration::ZERO, dot: Duration::from_millis(15) },
            database: String::new(),
            more: String::new(),
            harness: Harness::default(),
            tablespace: None,
        }
    }
}

/// A running installation.
pub(crate) struct Stage {
    pub(crate) daemons: Vec<Option<Replica>>,
    pub(crate) api: Replica,
    pub(crate) receiver: Receiver,
    pub(crate) proxy: Proxy,
    pub(crate) server: Server,
    pub(crate) setup: Setup,
    pub(crate) ledger: Ledger,
    pub(crate) tenants: Vec<Tenant>,
    pub(crate) rng: StdRng,
    /// Broken promises that the case itself saw.
    pub(crate) violations: Vec<String>,
    /// Times from the end of a fault to full service.
    pub(crate) recoveries: Vec<Duration>,
    seed: u64,
    probes: u32,
    /// What the processes are told as the database's address.
    url: String,
    folder: TempDir,
}

impl Stage {
    /// Starts everything. Load begins with [`Stage::load`].
    pub(crate) async fn open(template: &Template, setup: Setup, seed: u64) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("s").tempdir_in(template.folder())?;
        let home = folder.path();
        set_enterable(home)?;
        let server = template.server.copy_of(&home.join("pg"))?;
        server.start()?;
        if let Some(disk) = &setup.tablespace {
            move_tables(&server, disk).await?;
        }
        let proxy = Proxy::start(&home.join("net"), &server.socket(), seed)?;
        let receiver = Receiver::start(&home.join("received.tsv"), setup.manners).await?;
        let url = proxy.url(DATABASE);
        let api = start_api(home, &url, &setup)?;
        let mut stage = Self {
            daemons: Vec::new(),
            api,
            receiver,
            proxy,
            server,
            ledger: Ledger::default(),
            tenants: template.tenants.clone(),
            rng: StdRng::seed_from_u64(seed),
            violations: Vec::new(),
            recoveries: Vec::new(),
            seed,
            probes: 0,
            url,
            folder,
            setup,
        };
        for n in 0..stage.setup.replicas {
            stage.daemons.push(None);
            stage.start_daemon(n)?;
        }
        stage.all_ready().await?;
        Ok(stage)
    }

    /// Starts (again) the daemon with this number; does not wait until it is ready.
    pub(crate) fn start_daemon(&mut self, n: usize) -> anyhow::Result<()> {
        let harness = self.setup.harness.clone();
        self.start_daemon_under(n, &harness)
    }

    /// The same under something else.
    pub(crate) fn start_daemon_under(&mut self, n: usize, harness: &Harness) -> anyhow::Result<()> {
        let name = format!("r{n}");
        let config = self.configuration(&name);
        let daemon = Replica::start(Program::Daemon, self.folder.path(), &name, &config, harness)?;
        if n >= self.daemons.len() {
            self.daemons.resize_with(n + 1, || None);
        }
        self.daemons[n] = Some(daemon);
        Ok(())
    }

    /// Waits until the API and every daemon do their work.
    pub(crate) async fn all_ready(&mut self) -> anyhow::Result<()> {
        self.api.ready().await.context("postrider-api")?;
        for (n, daemon) in self.daemons.iter_mut().enumerate() {
            if let Some(daemon) = daemon {
                daemon.ready().await.with_context(|| format!("postriderd r{n}"))?;
            }
        }
        Ok(())
    }

    /// A daemon that must run.
    pub(crate) fn daemon(&mut self, n: usize) -> anyhow::Result<&mut Replica> {
        self.daemons.get_mut(n).and_then(Option::as_mut).context("no such daemon runs")
    }

    /// The number of the daemon that calls itself so towards the receiver.
    pub(crate) fn number_of(sender: &str) -> anyhow::Result<usize> {
        let digits = sender.trim_start_matches('r').split('.').next().unwrap_or_default();
        digits.parse().with_context(|| format!("the receiver was called by {sender:?}"))
    }

    /// Begins to submit at the setup's pace.
    pub(crate) fn load(&self, mark: &str) -> Load {
        let (api, pace) = (self.api.address(), self.setup.pace);
        Load::start(api, &self.tenants, pace, mark, self.seed, &self.ledger)
    }

    /// Waits until the receiver has taken so many mails more.
    pub(crate) async fn receives(&self, more: usize) -> anyhow::Result<()> {
        let (goal, started) = (self.receiver.count() + more, Instant::now());
        while self.receiver.count() < goal {
            if started.elapsed() > PATIENCE {
                bail!("the receiver waits for mail in vain: {}", self.words());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Lets time pass, drawn evenly between the two.
    pub(crate) async fn while_away(&mut self, least: u64, most: u64) {
        let wait = self.rng.random_range(least..=most);
        tokio::time::sleep(Duration::from_millis(wait)).await;
    }

    /// The database's time, straight from the server.
    pub(crate) async fn now(&self) -> anyhow::Result<DateTime<Utc>> {
        Ok(sqlx::query_scalar("select now()").fetch_one(&mut self.connect().await?).await?)
    }

    /// A connection past the proxy.
    pub(crate) async fn connect(&self) -> anyhow::Result<PgConnection> {
        Ok(PgConnection::connect(&self.server.url(DATABASE)).await?)
    }

    /// Waits for full service after a fault that began at `since`: a new mail is taken and
    /// arrives, and nothing that was in hand then still is. The time is kept.
    pub(crate) async fn recovery(&mut self, since: DateTime<Utc>) -> anyhow::Result<()> {
        let started = Instant::now();
        self.probes += 1;
        let mark = format!("probe-{}-{}", self.seed, self.probes);
        let api = self.api.address();
        let recipient = client::probe(api, &self.tenants[0], &mark, &self.ledger).await?;
        while !self.receiver.has(&recipient) {
            self.must_not_take_longer(started, "a new mail does not arrive")?;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let mut database = self.connect().await?;
        loop {
            let held: i64 =
                sqlx::query_scalar("select count(*) from postrider.lease where claimed_at <= $1")
                    .bind(since)
                    .fetch_one(&mut database)
                    .await?;
            if held == 0 {
                break;
            }
            self.must_not_take_longer(started, "work of before the fault is still in hand")?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.recoveries.push(started.elapsed());
        Ok(())
    }

    fn must_not_take_longer(&self, since: Instant, what: &str) -> anyhow::Result<()> {
        if since.elapsed() > PATIENCE {
            bail!("{what} {PATIENCE:?} after the fault: {}", self.words());
        }
        Ok(())
    }

    /// Ends the load, waits until nothing waits any more, and audits.
    pub(crate) async fn finish(
        mut self,
        load: Load,
        allowed: Duplicates,
    ) -> anyhow::Result<(Findings, Vec<Duration>)> {
        load.stop().await?;
        if let Err(error) = self.drained().await {
            self.violations.push(format!("I8: {error}"));
        }
        self.judge(allowed).await
    }

    /// Audits as things stand.
    pub(crate) async fn judge(
        mut self,
        allowed: Duplicates,
    ) -> anyhow::Result<(Findings, Vec<Duration>)> {
        for daemon in self.daemons.iter().flatten() {
            let peak = daemon.peak_memory();
            if peak > MEMORY {
                self.violations.push(format!("I10: a daemon took {} MB", peak / 1_000_000));
            }
        }
        for illegal in self.receiver.illegal() {
            self.violations.push(format!("I9: {illegal}"));
        }
        let ledger = self.ledger.lock().clone();
        let url = self.server.url(DATABASE);
        let mut findings = audit(&url, &ledger, &self.receiver.taken(), allowed).await?;
        findings.violations.append(&mut self.violations);
        if !findings.violations.is_empty() {
            let words = self.words();
            findings.violations.push(format!("the daemons' last words:\n{words}"));
        }
        Ok((findings, std::mem::take(&mut self.recoveries)))
    }

    /// Waits until no delivery waits or is in hand.
    pub(crate) async fn drained(&self) -> anyhow::Result<()> {
        let started = Instant::now();
        let mut database = self.connect().await?;
        loop {
            let waiting: i64 = sqlx::query_scalar(
                "select (select count(*) from postrider.ready) + (select count(*) from postrider.lease)
                      + (select count(*) from postrider.deferred)",
            )
            .fetch_one(&mut database)
            .await?;
            if waiting == 0 {
                return Ok(());
            }
            if started.elapsed() > PATIENCE {
                bail!("{waiting} deliveries still wait after {PATIENCE:?}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Sends processes that start from now on elsewhere for their database.
    pub(crate) fn set_url(&mut self, url: String) {
        self.url = url;
    }

    /// Starts the API anew, at another address.
    pub(crate) async fn restart_api(&mut self) -> anyhow::Result<()> {
        self.api = start_api(self.folder.path(), &self.url, &self.setup)?;
        self.api.ready().await
    }

    /// A place for another server of this stage.
    pub(crate) fn place(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What the daemons and the API said last.
    pub(crate) fn words(&self) -> String {
        let daemons = self.daemons.iter().enumerate().filter_map(|(n, daemon)| {
            daemon.as_ref().map(|daemon| format!("r{n}:\n{}\n", daemon.words()))
        });
        std::iter::once(format!("api:\n{}\n", self.api.words())).chain(daemons).collect()
    }

    fn configuration(&self, name: &str) -> String {
        let Setup { concurrency, connections, session_ttl, settle_batch, database, more, .. } =
            &self.setup;
        format!(
            r#"
[database]
url = "{url}"
{database}

[queue]
beat_interval = "300ms"
session_ttl = "{session_ttl}s"
rescue_delay = "200ms"
settle_batch = {settle_batch}
max_interruptions = 20

[worker]
concurrency = {concurrency}
tenant_concurrency = {concurrency}
shutdown_deadline = "2s"

[stream.transactional]
retry = {{ first = "1s", factor = 1.5, cap = "3s" }}

[[source]]
name = "default"
ehlo = "{name}.faults.example"

[[route]]
name = "receiver"
kind = "relay"
host = "127.0.0.1"
port = {port}
tls = "none"
max_connections_per_host = {connections}

[secrets]
key_file = "key"

{more}
"#,
            url = self.url,
            port = self.receiver.address().port(),
        )
    }
}

/// Puts the database on another disk.
async fn move_tables(server: &Server, disk: &Path) -> anyhow::Result<()> {
    let mut admin = PgConnection::connect(&server.url("postgres")).await?;
    for statement in [
        format!("create tablespace small location '{}'", disk.display()),
        format!("alter database {DATABASE} set tablespace small"),
    ] {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut admin).await?;
    }
    Ok(())
}

fn start_api(folder: &Path, url: &str, setup: &Setup) -> anyhow::Result<Replica> {
    let key = folder.join("key");
    std::fs::write(&key, KEY)?;
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    let database = &setup.database;
    let config = format!(
        "[database]\nurl = \"{url}\"\n{database}\n[api]\ncalls_per_second = 100000\n\
         calls_burst = 100000\n[secrets]\nkey_file = \"key\"\n\
         [[source]]\nname = \"default\"\nehlo = \"api.faults.example\"\n\
         [[route]]\nname = \"direct\"\nkind = \"mx\"\n"
    );
    Replica::start(Program::Api, folder, "api", &config, &Harness::default())
}

fn set_enterable(folder: &Path) -> std::io::Result<()> {
    std::fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o711))
}

/// The key that seals what must be secret: worth nothing, the database is thrown away.
const KEY: &str = "ZmF1bHRzIGZhdWx0cyBmYXVsdHMgZmF1bHRzIGZhdWw=";
