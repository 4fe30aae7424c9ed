//! A database of its own for every test.
//!
//! One private server serves all test binaries of a run: the first to come
//! starts it under `target/test-postgres` (a file lock decides who is first), it
//! stays for the others, and `make test` stops it at the end. A database is
//! migrated once, kept as a template under a name made from the migrations, and
//! copied for every test. A database goes when its [`TestDb`] goes; those of
//! killed test processes are swept by the next.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use postrider::boot::ONE_PLAN;
use postrider::cli::dev::binaries::Binaries;
use postrider::cli::dev::cluster::{Cluster, Durability};
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use tokio::sync::OnceCell;

/// As whom a pool acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The daemon.
    Worker,
    /// The HTTP API.
    Api,
    /// The command line.
    Operator,
    /// The owner of the schema, a superuser here.
    Owner,
}

/// A migrated database that nobody else uses; dropped with this value.
pub struct TestDb {
    name: String,
    server: &'static Server,
}

impl TestDb {
    /// A fresh copy of the migrated template.
    pub async fn new() -> Self {
        let server = Server::shared().await;
        let name = server.next_name();
        server.copy_template(&name).await;
        Self { name, server }
    }

    /// Its address, as superuser; `&options[role]=…` may be added to it.
    pub fn url(&self) -> String {
        self.server.cluster.url(&self.name)
    }

    /// A pool of up to 10 connections that act as `role`.
    pub async fn pool(&self, role: Role) -> PgPool {
        let acts_as = match role {
            Role::Worker => "postrider_worker",
            Role::Api => "postrider_api",
            Role::Operator => "postrider_operator",
            Role::Owner => "postgres",
        };
        let mut options: PgConnectOptions = self.url().parse().expect("an address of ours");
        if matches!(role, Role::Worker) {
            options = options.options([ONE_PLAN]);
        }
        PgPoolOptions::new()
            .max_connections(10)
            .test_before_acquire(false)
            .connect_with(options.options([("role", acts_as)]))
            .await
            .expect("connect to the test's database")
    }
}

impl Drop for TestDb {
    fn drop(&mut self) {
        let (name, url) = (self.name.clone(), self.server.cluster.url("postgres"));
        // A thread with a runtime of its own: the test's may be ending.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("runtime");
            runtime.block_on(async {
                let mut admin = PgConnection::connect(&url).await?;
                drop_database(&mut admin, &name).await
            })
        });
        // A failure here leaves a database for the sweep, and must not hide the test's own.
        let _ = dropped.join();
    }
}

struct Server {
    cluster: Cluster,
    template: String,
    count: AtomicU32,
}

impl Server {
    async fn shared() -> &'static Self {
        static SERVER: OnceCell<Server> = OnceCell::const_new();
        SERVER.get_or_init(Self::open).await
    }

    /// Under the lock: the server runs, leftovers are gone, the template is there.
    async fn open() -> Self {
        let project = Path::new(env!("CARGO_MANIFEST_DIR"));
        let home = target_folder(project).join("test-postgres");
        fs::create_dir_all(&home).expect("make target/test-postgres");
        let lock = File::create(home.join("lock")).expect("make the lock file");
        lock.lock().expect("take the lock");

        let given = std::env::var_os("POSTRIDER_PG_BIN").map(PathBuf::from);
        let binaries = Binaries::find(given.as_deref()).unwrap_or_else(|error| panic!("{error}"));
        let cluster = Cluster::join(&home, Durability::Fast, &binaries)
            .unwrap_or_else(|error| panic!("{error}"));
        let migrator = Migrator::new(project.join("migrations")).await.expect("read migrations/");
        let template = template_name(&migrator);

        let mut admin = PgConnection::connect(&cluster.url("postgres")).await.expect("connect");
        sweep(&mut admin, &template).await.expect("sweep the leftovers of killed tests");
        make_template(&cluster, &mut admin, &migrator, &template).await;
        drop(lock);
        Self { cluster, template, count: AtomicU32::new(0) }
    }

    fn next_name(&self) -> String {
        let n = self.count.fetch_add(1, Ordering::Relaxed);
        format!("test_{}_{n}", std::process::id())
    }

    async fn copy_template(&self, name: &str) {
        let mut admin =
            PgConnection::connect(&self.cluster.url("postgres")).await.expect("connect");
        let statement =
            format!("create database {name} template {} strategy {COPYING}", self.template);
        sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(&mut admin)
            .await
            .expect("copy the template");
        let _ = admin.close().await;
    }
}

/// Without fsync, copying files beats writing them into the log block by block.
const COPYING: &str = "file_copy";

/// Of the same folder as the test binaries, also with CARGO_TARGET_DIR.
fn target_folder(project: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| project.join("target"), PathBuf::from)
}

fn template_name(migrator: &Migrator) -> String {
    // FNV-1a: the same in every build, which std's hasher does not promise.
    let hash = migrator
        .iter()
        .flat_map(|m| m.checksum.iter())
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
    format!("template_{hash:016x}")
}

async fn make_template(
    cluster: &Cluster,
    admin: &mut PgConnection,
    migrator: &Migrator,
    name: &str,
) {
    let exists: bool =
        sqlx::query_scalar("select exists (select 1 from pg_database where datname = $1)")
            .bind(name)
            .fetch_one(&mut *admin)
            .await
            .expect("look for the template");
    if exists {
        return;
    }
    // Renamed only when whole, so that a killed run leaves no half template.
    let half = format!("half_{name}");
    drop_database(admin, &half).await.expect("drop a half template");
    let create = format!("create database {half}");
    sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut *admin).await.expect("create the template");
    let mut owner = PgConnection::connect(&cluster.url(&half)).await.expect("connect");
    migrator.run(&mut owner).await.expect("migrate the template");
    let _ = owner.close().await;
    let rename = format!("alter database {half} rename to {name}");
    sqlx::raw_sql(AssertSqlSafe(rename)).execute(&mut *admin).await.expect("name the template");
}

/// Drops databases of test processes that are gone, and templates of other migrations.
async fn sweep(admin: &mut PgConnection, template: &str) -> Result<(), sqlx::Error> {
    let names: Vec<String> =
        sqlx::query_scalar("select datname from pg_database").fetch_all(&mut *admin).await?;
    for name in names {
        let mut parts = name.split('_');
        let stale = match (parts.next(), parts.next()) {
            (Some("test"), Some(pid)) => !Path::new("/proc").join(pid).exists(),
            (Some("template"), Some(_)) => name != template,
            _ => false,
        };
        if stale {
            drop_database(admin, &name).await?;
        }
    }
    Ok(())
}

async fn drop_database(admin: &mut PgConnection, name: &str) -> Result<(), sqlx::Error> {
    let statement = format!("drop database if exists {name} with (force)");
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(admin).await.map(drop)
}
