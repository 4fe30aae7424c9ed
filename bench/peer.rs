//! Who takes the mails, and the raw limit: smtp-source against smtp-sink.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::{Args, SinkKind, usage};

/// A sink in a process of its own; killed on drop.
pub(crate) struct Peer {
    child: Child,
    address: SocketAddr,
}

/// What smtp-source reached.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Raw {
    /// Messages per second.
    pub(crate) rate: f64,
    /// CPU of smtp-source per message.
    pub(crate) cpu: Duration,
}

impl Peer {
    /// Starts the kind of sink that was asked for.
    pub(crate) fn start(args: &Args) -> anyhow::Result<Self> {
        let port = free_port()?;
        match args.sink {
            SinkKind::SmtpSink => Self::smtp_sink(args, port),
            SinkKind::Builtin => {
                let address = format!("127.0.0.1:{port}");
                let mut command = Command::new(env!("CARGO_BIN_EXE_postrider"));
                command.args(["sink", "--listen", &address]);
                Self::spawn(command, port)
            }
        }
    }

    fn smtp_sink(args: &Args, port: u16) -> anyhow::Result<Self> {
        let mut command = postfix(args, "smtp-sink")?;
        if are_we_root()? {
            command.args(["-u", "nobody"]);
        }
        command.args(["-m", "2000", &format!("127.0.0.1:{port}"), "1000"]);
        Self::spawn(command, port)
    }

    fn spawn(mut command: Command, port: u16) -> anyhow::Result<Self> {
        let name = command.get_program().to_owned();
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}", name.display()))?;
        let peer = Self { child, address: SocketAddr::from(([127, 0, 0, 1], port)) };
        let started = Instant::now();
        while TcpStream::connect(peer.address).is_err() {
            if started.elapsed() > Duration::from_secs(10) {
                bail!("{} does not listen", name.display());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(peer)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The same mails with no queue: as fast as Postfix's load generator sends them.
/// `None` without Postfix's tools.
pub(crate) fn raw_limit(args: &Args) -> anyhow::Result<Option<Raw>> {
    if args.postfix.is_none() {
        return Ok(None);
    }
    let peer = Peer::smtp_sink(args, free_port()?)?;
    let mut source = postfix(args, "smtp-source")?;
    // -d: many mails over one connection, as ours.
    source.args(["-d", "-s", &args.connections.to_string(), "-m", &args.count.to_string()]);
    source.args(["-l", &args.size.bytes().to_string(), "-f", "a@bench.example"]);
    source.args(["-t", "b@example.org", &peer.address().to_string()]);
    let (before, started) = (usage::cpu_of_ended_children(), Instant::now());
    let ended = source.stdin(Stdio::null()).status().context("cannot start smtp-source")?;
    if !ended.success() {
        bail!("smtp-source failed: {ended}");
    }
    let took = started.elapsed();
    let cpu = usage::cpu_of_ended_children().saturating_sub(before);
    Ok(Some(Raw { rate: f64::from(args.count) / took.as_secs_f64(), cpu: cpu / args.count }))
}

fn postfix(args: &Args, program: &str) -> anyhow::Result<Command> {
    let Some(folder) = &args.postfix else {
        bail!(
            "{program} is needed: name Postfix's unpacked package with --postfix, or use --sink builtin"
        );
    };
    let mut command = Command::new(find(folder, program));
    command.env("LD_LIBRARY_PATH", folder.join("usr/lib/postfix"));
    Ok(command)
}

fn find(folder: &Path, program: &str) -> PathBuf {
    folder.join("usr/sbin").join(program)
}

fn are_we_root() -> anyhow::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    Ok(std::fs::metadata("/proc/self")?.uid() == 0)
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
