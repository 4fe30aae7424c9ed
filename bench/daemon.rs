//! One run of `postriderd` over a full queue.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use postrider::cli::dev::cluster::Cluster;
use sqlx::{Connection, PgConnection};

use crate::load::Load;
use crate::{Args, usage};

/// Longest time without a settlement.
const STUCK_AFTER: Duration = Duration::from_secs(60);

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
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Lets the daemon empty the queue into `sink` and measures it.
pub(crate) async fn run(
    args: &Args,
    folder: &Path,
    cluster: &Cluster,
    load: &Load,
    sink: SocketAddr,
    receiver: &str,
) -> anyhow::Result<Measured> {
    let mut database = PgConnection::connect(&load.url).await?;
    let config = folder.join("postrider.toml");
    fs::write(&config, configuration(args, &load.url, sink, receiver))?;
    let postmaster = cluster.pid()?;

    let before = usage::cpu_of_family(postmaster);
    let mut daemon = Daemon(start(&config, folder)?);
    let pid = daemon.0.id();
    let (mut seen, mut moved) = (0, Instant::now());
    while seen < i64::from(args.count) {
        if let Some(status) = daemon.0.try_wait()? {
            bail!("postriderd ended ({status}): see {}", folder.join("postriderd.log").display());
        }
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
async fn settled(database: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("select count(*) from postrider.attempt where kind between 1 and 6")
        .fetch_one(database)
        .await
}

fn start(config: &Path, folder: &Path) -> anyhow::Result<Child> {
    let log = File::create(folder.join("postriderd.log"))?;
    Command::new(env!("CARGO_BIN_EXE_postriderd"))
        .arg("--config")
        .arg(config)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot start postriderd")
}

fn configuration(args: &Args, url: &str, sink: SocketAddr, receiver: &str) -> String {
    let traces = args.traces.map_or_else(String::new, |ratio| {
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
