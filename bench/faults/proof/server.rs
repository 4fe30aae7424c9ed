//! A Postgres that may be killed, cut off, filled up and replaced.
//!
//! Unlike the one of `postrider dev` it replicates: it writes the log that a standby
//! needs. Reachable by a unix socket in a folder of its own; commits are on disk before
//! they are acknowledged. Stopped, and its folder removed, when dropped.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use postrider::cli::dev::binaries::{Binaries, ServerUser};

use super::process;

/// What the socket file is called after.
const PORT: u16 = 5432;

/// How a server ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Connections are ended, everything is written.
    Fast,
    /// As in a crash: the next start recovers from the log.
    Immediate,
}

/// A private server.
#[derive(Debug)]
pub(crate) struct Server {
    binaries: Binaries,
    user: ServerUser,
    home: PathBuf,
    data: PathBuf,
}

impl Server {
    /// An empty cluster in `home`, not started.
    pub(crate) fn init(home: &Path, binaries: &Binaries) -> anyhow::Result<Self> {
        let server = Self::folder(home, binaries)?;
        let mut command = server.command("initdb");
        command.arg("-D").arg(&server.data);
        command.args(["-U", "postgres", "-A", "trust", "--locale=C.UTF-8", "-E", "UTF8"]);
        run(command)?;
        server.configure("")?;
        Ok(server)
    }

    /// A copy of a stopped cluster.
    pub(crate) fn copy_of(&self, home: &Path) -> anyhow::Result<Self> {
        let copy = Self::folder(home, &self.binaries)?;
        let mut command = copy.command("cp");
        command.arg("-a").arg(&self.data).arg(&copy.data);
        run(command)?;
        copy.configure("")?;
        Ok(copy)
    }

    /// A standby of this running server, made by a base backup; not started.
    pub(crate) fn standby(&self, home: &Path) -> anyhow::Result<Self> {
        let standby = Self::folder(home, &self.binaries)?;
        let mut command = standby.command("pg_basebackup");
        command.arg("-D").arg(&standby.data).arg("-h").arg(&self.home);
        command.args(["-p", &PORT.to_string(), "-U", "postgres"]);
        command.args(["-R", "-X", "stream", "-c", "fast"]);
        run(command)?;
        standby.configure("")?;
        Ok(standby)
    }

    fn folder(home: &Path, binaries: &Binaries) -> anyhow::Result<Self> {
        let user = ServerUser::choose()?;
        fs::DirBuilder::new()
            .mode(0o700)
            .create(home)
            .with_context(|| format!("cannot make {}", home.display()))?;
        if let ServerUser::Other { uid, gid } = user {
            chown(home, Some(uid), Some(gid))?;
        }
        Ok(Self { binaries: binaries.clone(), user, home: home.into(), data: home.join("data") })
    }

    /// Writes the whole configuration; `more` comes last and wins.
    pub(crate) fn configure(&self, more: &str) -> anyhow::Result<()> {
        let path = self.data.join("postgresql.conf");
        let socket = self.home.display();
        let text = format!(
            "listen_addresses = ''\nunix_socket_directories = '{socket}'\nport = {PORT}\n\
             {SETTINGS}{more}\n"
        );
        fs::write(&path, text).with_context(|| path.display().to_string())
    }

    /// Lets a running server read its configuration again.
    pub(crate) fn reload(&self) -> anyhow::Result<()> {
        self.control(&["reload"])
    }

    /// Starts it and waits until it answers (a standby: until it follows).
    pub(crate) fn start(&self) -> anyhow::Result<()> {
        let log = self.home.join("postgres.log");
        let log = log.to_string_lossy();
        self.control(&["-l", &log, "-w", "-t", "60", "start"])
            .with_context(|| format!("the end of its log:\n{}", tail(Path::new(&*log))))
    }

    /// Ends it.
    pub(crate) fn stop(&self, how: Stop) -> anyhow::Result<()> {
        let mode = match how {
            Stop::Fast => "fast",
            Stop::Immediate => "immediate",
        };
        self.control(&["-w", "-t", "60", "-m", mode, "stop"])
    }

    /// kill -9 of the postmaster and every process of its: the machine is gone.
    pub(crate) fn kill(&self) -> anyhow::Result<()> {
        let postmaster = self.pid().context("the server does not run")?;
        let children = process::children(postmaster);
        for pid in std::iter::once(postmaster).chain(children) {
            process::signal(pid, "KILL")?;
        }
        Ok(())
    }

    /// Makes a standby the server that takes writes.
    pub(crate) fn promote(&self) -> anyhow::Result<()> {
        self.control(&["-w", "-t", "60", "promote"])
    }

    /// Its socket, for who connects by hand.
    pub(crate) fn socket(&self) -> PathBuf {
        self.home.join(format!(".s.PGSQL.{PORT}"))
    }

    /// Its folder: data, socket and log.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// What it logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.home.join("postgres.log")).unwrap_or_default()
    }

    /// As whom it runs.
    pub(crate) fn user(&self) -> ServerUser {
        self.user
    }

    /// The address of one of its databases, as superuser, straight.
    pub(crate) fn url(&self, database: &str) -> String {
        url(&self.home, database)
    }

    fn pid(&self) -> Option<u32> {
        let text = fs::read_to_string(self.data.join("postmaster.pid")).ok()?;
        text.lines().next()?.trim().parse().ok()
    }

    fn control(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let mut command = self.command("pg_ctl");
        command.arg("-D").arg(&self.data).arg("-s").args(arguments);
        run(command)
    }

    /// A program as the server's user, without settings that are meant for another server.
    fn command(&self, program: &str) -> Command {
        let found = self.binaries.program(program);
        let mut command = Command::new(if found.exists() { found } else { program.into() });
        command.current_dir(&self.home).env("LC_ALL", "C").env("HOME", &self.home);
        for name in ["PGDATA", "PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGOPTIONS"] {
            command.env_remove(name);
        }
        if let ServerUser::Other { uid, gid } = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nobody is left to tell; a server that does not run needs no stopping.
        let _ = self.stop(Stop::Immediate);
        let _ = fs::remove_dir_all(&self.home);
    }
}

/// The address of a database behind the socket in `folder`.
pub(crate) fn url(folder: &Path, database: &str) -> String {
    let folder = folder.display();
    format!("postgres:///{database}?host={folder}&port={PORT}&user=postgres&sslmode=disable")
}

/// A folder that the server's user may enter, for servers and sockets: short, because an
/// address holds 107 bytes.
pub(crate) fn run_folder() -> anyhow::Result<tempfile::TempDir> {
    let folder = tempfile::Builder::new().prefix("prf-").tempdir_in("/var/tmp")?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711))?;
    Ok(folder)
}

fn run(mut command: Command) -> anyhow::Result<()> {
    // Not by pipes: a server that pg_ctl starts would keep them open.
    let said = tempfile::tempfile()?;
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(said.try_clone()?)
        .status()
        .with_context(|| format!("cannot run {}", command.get_program().display()))?;
    if status.success() {
        return Ok(());
    }
    let mut said = said;
    std::io::Seek::rewind(&mut said)?;
    let text = std::io::read_to_string(said)?;
    bail!("{} failed: {}", command.get_program().display(), text.trim())
}

fn tail(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

/// Durable as in production, and what a standby needs.
const SETTINGS: &str = "\
    max_connections = 200\n\
    shared_buffers = 128MB\n\
    wal_level = replica\n\
    max_wal_senders = 5\n\
    wal_keep_size = 64MB\n\
    hot_standby = on\n\
    max_wal_size = 1GB\n\
    wal_sender_timeout = 5s\n\
    wal_receiver_timeout = 5s\n\
    timezone = 'UTC'\n\
    log_line_prefix = '%m [%p] %q%a '\n\
    jit = off\n";
