//! A private Postgres for development, tests and benchmarks.
//!
//! Made with the system's binaries in a folder of its own, reachable only by a
//! unix socket in a folder that only the server's user and root may enter: no
//! port is opened, so it cannot meet a system cluster and nobody on the machine
//! can talk to it. That is why it may do without passwords.
//!
//! * Root hands over to the user `postgres`, because Postgres refuses root. If
//!   that user cannot enter the folder (a project below `/root`), the data goes
//!   to `/var/tmp`, and a link `moved` in the folder tells where.
//! * An existing data folder is used again. A server that a killed run left
//!   behind is stopped first ([`Cluster::start`]) or joined ([`Cluster::join`]).
//! * A started cluster is stopped when its value is dropped, so a panic or an
//!   early return leaves nothing. After `kill -9` the server lives on until the
//!   next start in the same folder, or `make stop`.
//! * A failure carries what the program said and the end of the server's log.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::binaries::{Binaries, ServerUser};
use super::folder::{own_folder, settle_home, socket_folder};

/// What the socket file is called after; no port is opened.
const PORT: u16 = 5432;

/// Seconds that starting and stopping may take.
const PATIENCE: &str = "60";

/// What must survive a crash of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// As in production: a commit is on disk.
    Durable,
    /// Nothing need survive: for tests.
    Fast,
}

/// How a server is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Connections are ended, everything is written.
    Fast,
    /// As in a crash: the next start recovers from the log.
    Immediate,
}

/// What can go wrong with a private Postgres.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// No server programs.
    #[error(
        "expected Postgres's initdb and pg_ctl, found none in {looked}: run `make setup` or \
         `apt-get install postgresql`, or name their folder in POSTRIDER_PG_BIN"
    )]
    NoBinaries {
        /// Where we looked.
        looked: String,
    },
    /// Root needs another user to run the server as.
    #[error(
        "Postgres refuses to run as root and there is no user {user:?} to run it as: \
         run as an ordinary user, or make one with `useradd --system {user}`"
    )]
    NoServerUser {
        /// Who is missing.
        user: &'static str,
    },
    /// Somebody else's folder stands where our socket should be.
    #[error(
        "expected {path} to be ours alone, found a folder of user {owner} with mode {mode:o}: remove it"
    )]
    ForeignFolder {
        /// The folder.
        path: PathBuf,
        /// User id of its owner.
        owner: u32,
        /// Its permissions.
        mode: u32,
    },
    /// A file could not be made, read or run.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// One of Postgres's programs failed.
    #[error("{program} failed: {said}{log}")]
    Program {
        /// Which.
        program: &'static str,
        /// Its own words.
        said: String,
        /// The end of the server's log.
        log: String,
    },
}

impl ClusterError {
    pub(super) fn file(path: &Path, source: io::Error) -> Self {
        Self::File { path: path.to_owned(), source }
    }
}

/// A private server. Stopped on drop, unless it was joined.
#[derive(Debug)]
pub struct Cluster {
    server: Server,
    ending: Ending,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    StopsOnDrop,
    LivesOn,
}

impl Cluster {
    /// Starts a server with its data below `home`. One that a killed run left there is stopped first.
    pub fn start(
        home: &Path,
        durability: Durability,
        binaries: &Binaries,
    ) -> Result<Self, ClusterError> {
        let server = Server::prepare(home, durability, binaries)?;
        if server.runs()? {
            server.stop(Stop::Fast)?;
        }
        server.start()?;
        Ok(Self { server, ending: Ending::StopsOnDrop })
    }

    /// Uses the server that runs in `home`, or starts one; it lives on after us.
    /// Callers that may meet here take a lock first.
    pub fn join(
        home: &Path,
        durability: Durability,
        binaries: &Binaries,
    ) -> Result<Self, ClusterError> {
        let server = Server::prepare(home, durability, binaries)?;
        if !server.runs()? {
            server.start()?;
        }
        Ok(Self { server, ending: Ending::LivesOn })
    }

    /// The address of one of its databases, as superuser.
    pub fn url(&self, database: &str) -> String {
        let folder = self.server.socket.to_string_lossy();
        format!("postgres:///{database}?host={folder}&port={PORT}&user=postgres&sslmode=disable")
    }

    /// Where its data and log really are.
    pub fn folder(&self) -> &Path {
        &self.server.home
    }

    /// Process id of the postmaster: parent of all its processes.
    pub fn pid(&self) -> Result<u32, ClusterError> {
        let path = self.server.data.join("postmaster.pid");
        let text = fs::read_to_string(&path).map_err(|source| ClusterError::file(&path, source))?;
        text.lines().next().and_then(|line| line.trim().parse().ok()).ok_or_else(|| {
            ClusterError::file(&path, io::Error::other("expected a process id in its first line"))
        })
    }

    /// Stops and starts it; connections break.
    pub fn restart(&self, stop: Stop) -> Result<(), ClusterError> {
        self.server.stop(stop)?;
        self.server.start()
    }

    /// Stops it, also a joined one.
    pub fn stop(mut self, stop: Stop) -> Result<(), ClusterError> {
        self.ending = Ending::LivesOn;
        self.server.stop(stop)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.ending == Ending::StopsOnDrop {
            // Nobody is left to tell; the next start stops what still runs.
            let _ = self.server.stop(Stop::Fast);
        }
    }
}

/// The folders and programs of one server, whether it runs or not.
#[derive(Debug)]
struct Server {
    binaries: Binaries,
    user: ServerUser,
    durability: Durability,
    home: PathBuf,
    data: PathBuf,
    socket: PathBuf,
}

impl Server {
    /// Makes folders, data and configuration; starts nothing.
    fn prepare(
        wanted: &Path,
        durability: Durability,
        binaries: &Binaries,
    ) -> Result<Self, ClusterError> {
        let user = ServerUser::choose()?;
        let home = settle_home(wanted, user)?;
        // One data folder per major version: an upgraded Postgres cannot read the old one.
        let data = home.join(format!("data-{}", binaries.major()));
        let socket = socket_folder(&home);
        let server = Self { binaries: binaries.clone(), user, durability, home, data, socket };
        if !server.data.join("PG_VERSION").exists() {
            server.init()?;
        }
        own_folder(&server.socket, user)?;
        server.configure()?;
        Ok(server)
    }

    fn init(&self) -> Result<(), ClusterError> {
        if self.data.exists() {
            // What an interrupted initdb left.
            fs::remove_dir_all(&self.data)
                .map_err(|source| ClusterError::file(&self.data, source))?;
        }
        let mut command = self.command("initdb");
        command.arg("-D").arg(&self.data);
        command.args(["-U", "postgres", "-A", "trust", "--locale=C.UTF-8", "-E", "UTF8"]);
        if self.durability == Durability::Fast {
            command.arg("--no-sync");
        }
        self.run("initdb", command)
    }

    /// The whole configuration is ours, so it is written anew at each start.
    fn configure(&self) -> Result<(), ClusterError> {
        let path = self.data.join("postgresql.conf");
        let socket = self.socket.to_string_lossy().replace('\'', "''");
        let kind = match self.durability {
            Durability::Durable => DURABLE,
            Durability::Fast => FAST,
        };
        let text = format!(
            "# Written by postrider at each start.\n\
             listen_addresses = ''\n\
             unix_socket_directories = '{socket}'\n\
             port = {PORT}\n\
             {COMMON}{kind}"
        );
        fs::write(&path, text).map_err(|source| ClusterError::file(&path, source))
    }

    fn runs(&self) -> Result<bool, ClusterError> {
        let mut command = self.command("pg_ctl");
        command.arg("-D").arg(&self.data).arg("status");
        // 0: runs; 3: does not.
        Ok(output(command)?.status.success())
    }

    fn start(&self) -> Result<(), ClusterError> {
        let mut command = self.command("pg_ctl");
        command.arg("-D").arg(&self.data).arg("-l").arg(self.log());
        command.args(["-w", "-s", "-t", PATIENCE, "start"]);
        self.run("pg_ctl start", command)
    }

    fn stop(&self, stop: Stop) -> Result<(), ClusterError> {
        let mode = match stop {
            Stop::Fast => "fast",
            Stop::Immediate => "immediate",
        };
        let mut command = self.command("pg_ctl");
        command.arg("-D").arg(&self.data).args(["-w", "-s", "-t", PATIENCE, "-m", mode, "stop"]);
        self.run("pg_ctl stop", command)
    }

    fn log(&self) -> PathBuf {
        self.home.join("postgres.log")
    }

    /// A program as the server's user, in a folder that this user can read, and
    /// without settings of ours that are meant for another server.
    fn command(&self, program: &'static str) -> Command {
        let mut command = Command::new(self.binaries.program(program));
        command.current_dir(&self.home).env("LC_ALL", "C").env("HOME", &self.home);
        for name in ["PGDATA", "PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGOPTIONS"] {
            command.env_remove(name);
        }
        if let ServerUser::Other { uid, gid } = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }

    fn run(&self, program: &'static str, command: Command) -> Result<(), ClusterError> {
        let out = output(command)?;
        if out.status.success() {
            return Ok(());
        }
        Err(ClusterError::Program {
            program,
            said: String::from_utf8_lossy(&out.stderr).trim().to_owned(),
            log: self.log_tail(),
        })
    }

    fn log_tail(&self) -> String {
        let path = self.log();
        let Ok(text) = fs::read_to_string(&path) else { return String::new() };
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(15)..].join("\n");
        format!("\nthe end of {}:\n{tail}", path.display())
    }
}

fn output(mut command: Command) -> Result<Output, ClusterError> {
    command.stdin(std::process::Stdio::null());
    command
        .output()
        .map_err(|source| ClusterError::File { path: PathBuf::from(command.get_program()), source })
}

/// Settings for every use: room for many pools, and nothing of a cluster's network life.
const COMMON: &str = "\
    max_connections = 300\n\
    shared_buffers = 256MB\n\
    max_wal_senders = 0\n\
    wal_level = minimal\n\
    timezone = 'UTC'\n\
    log_timezone = 'UTC'\n\
    log_line_prefix = '%m [%p] %q%a@%d '\n\
    jit = off\n";

/// Close to what docs recommend for production; nothing that weakens a commit.
const DURABLE: &str = "\
    max_wal_size = 4GB\n\
    checkpoint_timeout = 15min\n\
    wal_compression = on\n";

/// Never for data that anyone wants back.
const FAST: &str = "\
    fsync = off\n\
    synchronous_commit = off\n\
    full_page_writes = off\n\
    autovacuum = off\n\
    max_wal_size = 4GB\n\
    checkpoint_timeout = 1h\n";
