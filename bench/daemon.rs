//! One run of `postriderd` over a full queue.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use postrider::cli::dev::cluster::Cluster;
use sqlx::{Connection, PgConnection};

use crate::load::Load;
use crate::{Args, usage};

/// Longest time without a settlement.
pub(crate) const STUCK_AFTER: Duration = Duration::from_secs(60);

/// What was measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    /// Messages per second, from the first settlement to the last.
    pub(crate) rate: f64,
    /// CPU per message.
    pub(crate) daemon: Duration,
    /// CPU per message of the postmaster and all its processes.
    pub(crate) postgres: Duration,
    /// Most memory of the daemon, in bytes.
    pub(crate) memory: u64,
}

/// The daemon; killed on drop.
pub(crate) struct Daemon {
    process: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts it with this configuration; its log goes to the folder.
    pub(crate) fn start(config: &Path, folder: &Path) -> anyhow::Result<Self> {
        let log = folder.join("postriderd.log");
        let process = spawn(env!("CARGO_BIN_EXE_postriderd"), config, &log)?;
        Ok(Self { process, log })
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// An error if it has ended.
    pub(crate) fn lives(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.process.try_wait()? {
            bail!("postriderd ended ({status}): see {}", self.log.display());
        }
        Ok(())
    }

    /// Has it read its configuration again.
    pub(crate) fn reload(&self) -> anyhow::Result<()> {
        let told = Command::new("kill").args(["-HUP", &self.pid().to_string()]).status()?;
        ensure!(told.success(), "kill: {told}");
        Ok(())
    }
}

/// Starts one of our programs with this configuration; what it says goes to `log`.
pub(crate) fn spawn(program: &str, config: &Path, log: &Path) -> anyhow::Result<Child> {
    let log = File::create(log)?;
    Command::new(program)
        .arg("--config")
        .arg(config)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot start {program}"))
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Lets the daemon empty the queue into `sink` and measures it.
pub(crate) async fn run(
    args: &Args,
    folder: &Path,
    cluster: &Cluster,
    load: &Load,
    sink: SocketAddr,
) -> anyhow::Result<Measured> {
    let mut database = PgConnection::connect(&load.url).await?;
    let config = folder.join("postrider.toml");
    fs::write(&config, configuration(args, &load.url, sink, None))?;
    let postmaster = cluster.pid()?;

    let before = usage::cpu_of_family(postmaster);
    let mut daemon = Daemon::start(&config, folder)?;
    let pid = daemon.pid();
    let (mut seen, mut moved) = (0, Instant::now());
    while seen < i64::from(args.count) {
        daemon.lives()?;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = settled(&mut database).await?;
        if now > seen {
            (seen, moved) = (now, Instant::now());
        }
        if moved.elapsed() > STUCK_AFTER {
            bail!("stuck at {seen} of {} deliveries", args.count);
        }
    }
    let (daemon_cpu, memory) = (usage::cpu(pid), usage::peak_memory(pid));
    let postgres_cpu = usage::cpu_of_family(postmaster).saturating_sub(before);
    drop(daemon);

    let (delivered, seconds): (i64, f64) = sqlx::query_as(
        "select count(*), extract(epoch from max(at) - min(at))::float8
         from postrider.attempt where kind = 1",
    )
    .fetch_one(&mut database)
    .await?;
    if delivered != i64::from(args.count) {
        bail!("expected {} deliveries, found {delivered}: the sink refused some", args.count);
    }
    Ok(Measured {
        rate: f64::from(args.count) / seconds.max(0.001),
        daemon: daemon_cpu / args.count,
        postgres: postgres_cpu / args.count,
        memory,
    })
}

/// Ends so far. An estimate would be cheaper, but this costs a scan of memory twice a second.
pub(crate) async fn settled(database: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("select count(*) from postrider.attempt where kind between 1 and 6")
        .fetch_one(database)
        .await
}

/// The daemon's configuration; with traces: the share of them that is kept, and who is told.
pub(crate) fn configuration(
    args: &Args,
    url: &str,
    sink: SocketAddr,
    traces: Option<(f64, &str)>,
) -> String {
    let traces = traces.map_or_else(String::new, |(ratio, receiver)| {
        format!("[traces]\nendpoint = \"{receiver}\"\nratio = {ratio:?}\n")
    });
    format!(
        "[database]\nurl = \"{url}\"\n\
         [telemetry]\nlisten = \"127.0.0.1:0\"\n\
         [log]\nlevel = \"warn\"\n\
         [secrets]\nkey_file = \"key\"\n\
         [[source]]\nname = \"bench\"\nehlo = \"mail.bench.example\"\n\
         [[route]]\nname = \"sink\"\nkind = \"relay\"\nhost = \"{host}\"\nport = {port}\n\
         tls = \"none\"\nmax_connections_per_host = {connections}\n\
         messages_per_connection = 1000000\n{traces}",
        host = sink.ip(),
        port = sink.port(),
        connections = args.connections,
    )
}
