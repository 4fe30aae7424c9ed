//! What every measurement stands on: one private Postgres with each commit on disk, fresh
//! databases in it, tenants, and the configuration that daemon and API read.

use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use postrider::cli::dev::binaries::Binaries;
use postrider::cli::dev::cluster::{Cluster, Durability};
use postrider::cli::dev::lock::FolderLock;
use postrider::config::Secrets;
use postrider::config::secret::Secret;
use postrider::message::return_path::ReturnKey;
use postrider::message::time_zone::TimeZone;
use postrider::queue::migrate;
use postrider::tenant::isolation::TenantScope;
use postrider::tenant::seal::Sealer;
use postrider::tenant::{domain, store};
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};

/// The key that seals private keys: worth nothing, the database is thrown away.
const KEY: &str = "YmVuY2ggYmVuY2ggYmVuY2ggYmVuY2ggYmVuY2ggYiE=";

/// Mailbox providers of the configuration: pools by which lanes are made.
pub(crate) const PROVIDERS: usize = 9;

/// Connections to the sink where nothing else is said.
pub(crate) const CONNECTIONS: u32 = 50;

/// Postgres and a folder.
pub(crate) struct Stand {
    cluster: Cluster,
    folder: PathBuf,
    major: u32,
    // Dropped behind the server.
    _lock: FolderLock,
}

/// A migrated database.
pub(crate) struct Database {
    /// Its address.
    pub(crate) url: String,
    /// Connections as its owner.
    pub(crate) pool: PgPool,
}

impl Stand {
    /// Starts Postgres below `target/bench`.
    pub(crate) fn start(pg_bin: Option<&Path>) -> anyhow::Result<Self> {
        let folder = std::env::current_dir()?.join("target/bench");
        let lock = FolderLock::take(&folder, "wait until that measurement is over")?;
        let binaries = Binaries::find(pg_bin)?;
        let cluster = Cluster::start(&folder.join("postgres"), Durability::Durable, &binaries)?;
        fs::write(folder.join("key"), KEY)?;
        Ok(Self { cluster, folder, major: binaries.major(), _lock: lock })
    }

    /// Where logs and configurations lie.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Postgres's major version.
    pub(crate) fn major(&self) -> u32 {
        self.major
    }

    /// Process id of the postmaster.
    pub(crate) fn postmaster(&self) -> anyhow::Result<u32> {
        Ok(self.cluster.pid()?)
    }

    /// A database of this name, made anew and migrated.
    pub(crate) async fn database(&self, name: &str) -> anyhow::Result<Database> {
        self.drop(name).await?;
        self.admin(&format!("create database {name}")).await?;
        let url = self.cluster.url(name);
        let pool = PgPoolOptions::new().max_connections(16).connect(&url).await?;
        migrate::up(&pool).await.context("cannot migrate")?;
        Ok(Database { url, pool })
    }

    /// Takes a database away with whoever is in it.
    pub(crate) async fn drop(&self, name: &str) -> anyhow::Result<()> {
        self.admin(&format!("drop database if exists {name} with (force)")).await
    }

    /// Runs one statement as the owner of the cluster.
    pub(crate) async fn admin(&self, statement: &str) -> anyhow::Result<()> {
        let mut admin = PgConnection::connect(&self.cluster.url("postgres")).await?;
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
            .execute(&mut admin)
            .await
            .with_context(|| statement.to_owned())?;
        Ok(())
    }

    /// Writes the configuration `NAME.toml` for a daemon and an API over `database`.
    pub(crate) fn configure(&self, name: &str, wanted: &Wanted<'_>) -> anyhow::Result<PathBuf> {
        let path = self.folder.join(format!("{name}.toml"));
        fs::write(&path, wanted.text()?)?;
        Ok(path)
    }
}

/// What a configuration says.
pub(crate) struct Wanted<'a> {
    /// The database.
    pub(crate) database: &'a Database,
    /// The way out: [`relay`] or [`exchangers`].
    pub(crate) route: String,
    /// Where the API listens.
    pub(crate) api: SocketAddr,
    /// Where the daemon shows its metrics.
    pub(crate) metrics: SocketAddr,
    /// More lines of `[queue]`.
    pub(crate) queue: &'a str,
    /// More sections.
    pub(crate) more: &'a str,
}

/// Everything goes to one host, over so many connections.
pub(crate) fn relay(sink: SocketAddr, connections: u32) -> String {
    format!(
        "[[route]]\nname = \"sink\"\nkind = \"relay\"\nhost = \"{}\"\nport = {}\n\
         tls = \"none\"\nmax_connections_per_host = {connections}\nmessages_per_connection = 1000000\n",
        sink.ip(),
        sink.port(),
    )
}

/// Everything goes to the recipients' exchangers on this port, as `resolver` tells.
pub(crate) fn exchangers(port: u16, resolver: SocketAddr) -> String {
    format!(
        "[dns]\nservers = [\"{resolver}\"]\nallow_private_addresses = true\n\
         [[route]]\nname = \"direct\"\nkind = \"mx\"\nport = {port}\ntls = \"none\"\n"
    )
}

impl Wanted<'_> {
    fn text(&self) -> anyhow::Result<String> {
        let mut text = format!(
            "[database]\nurl = \"{url}\"\n\
             [queue]\n{queue}\n\
             [api]\nlisten = \"{api}\"\ncalls_per_second = 100000\ncalls_burst = 100000\n\
             [telemetry]\nlisten = \"{metrics}\"\n\
             [log]\nlevel = \"warn\"\n\
             [secrets]\nkey_file = \"key\"\n\
             [[source]]\nname = \"bench\"\nehlo = \"mail.bench.example\"\n\
             {route}{more}",
            url = self.database.url,
            queue = self.queue,
            api = self.api,
            metrics = self.metrics,
            route = self.route,
            more = self.more,
        );
        for n in 0..PROVIDERS {
            writeln!(
                text,
                "[[mailbox_provider]]\nname = \"provider{n}\"\ndomains = [\"provider{n}.example\"]"
            )?;
        }
        Ok(text)
    }
}

impl Database {
    /// A tenant of this name who sends from `NAME.example`, unsigned.
    pub(crate) async fn tenant(&self, name: &str) -> anyhow::Result<TenantScope> {
        store::create(&self.pool, name, 100, TimeZone::default()).await?;
        let scope = store::scope(&self.pool, name).await?;
        let sealer = Sealer::new(&Secrets { key: Some(Secret::new(KEY)) })?;
        domain::add(&self.pool, scope, &sealer, &format!("{name}.example"), "bench", &[], "bench")
            .await?;
        Ok(scope)
    }

    /// A key for the API.
    pub(crate) async fn key(&self, scope: TenantScope) -> anyhow::Result<String> {
        Ok(store::create_key(&self.pool, scope, "bench", "bench").await?.reveal().to_owned())
    }

    /// Statistics and visibility maps as after some quiet time, and nothing left to write.
    pub(crate) async fn settle_down(&self) -> anyhow::Result<()> {
        for statement in ["vacuum (analyze)", "checkpoint"] {
            sqlx::raw_sql(statement).execute(&self.pool).await.context(statement)?;
        }
        Ok(())
    }
}

/// The key of return paths in every database here.
pub(crate) fn return_key() -> anyhow::Result<ReturnKey> {
    let secrets = Secrets { key: Some(Secret::new(KEY)) };
    Ok(ReturnKey::derive(&*secrets.key_bytes().context("no key")?))
}

/// An address on this machine that nobody listens on.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
