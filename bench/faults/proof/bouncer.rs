//! PgBouncer as a process of ours, in transaction mode.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use postrider::cli::dev::binaries::ServerUser;
use tokio::net::UnixStream;

use super::process;
use super::server::Server;

/// What the socket file is called after.
const PORT: u16 = 5432;

/// The first version that hands prepared statements on in transaction mode.
const LEAST: (u32, u32) = (1, 21);

/// A PgBouncer in front of a server; killed when dropped.
pub(crate) struct Bouncer {
    program: PathBuf,
    folder: PathBuf,
    user: ServerUser,
    child: Option<Child>,
}

impl Bouncer {
    /// The program, on PATH, where Debian puts it, or as `make setup` unpacks it; or why
    /// there is none that will do.
    pub(crate) fn find() -> Result<PathBuf, String> {
        let unpacked = process::tools().join("pooler/pgbouncer");
        let mut found = "none".to_owned();
        for program in ["pgbouncer".into(), "/usr/sbin/pgbouncer".into(), unpacked] {
            let asked = process::with_tools(&program).arg("--version").output();
            let Ok(out) = asked else { continue };
            let said = String::from_utf8_lossy(&out.stdout);
            let version = said.lines().next().unwrap_or_default().trim();
            match parse(version) {
                Some(number) if number >= LEAST => return Ok(program),
                Some(_) => version.clone_into(&mut found),
                None => {}
            }
        }
        Err(format!(
            "needs PgBouncer {}.{} or newer (make setup unpacks one), found {found}",
            LEAST.0, LEAST.1
        ))
    }

    /// Writes its configuration.
    pub(crate) fn new(program: PathBuf, folder: &Path, server: &Server) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)?;
        // Its user writes the socket and the log here.
        fs::set_permissions(folder, fs::Permissions::from_mode(0o777))?;
        let (home, own) = (server.home().display(), folder.display());
        let text = format!(
            "[databases]\n* = host={home} port={PORT}\n[pgbouncer]\npool_mode = transaction\n\
             listen_addr =\nlisten_port = {PORT}\nunix_socket_dir = {own}\nauth_type = trust\n\
             auth_file = {own}/users\nlogfile = {own}/log\nmax_client_conn = 500\n\
             default_pool_size = 4\nmax_prepared_statements = 200\n\
             ignore_startup_parameters = extra_float_digits\n"
        );
        fs::write(folder.join("pgbouncer.ini"), text)?;
        fs::write(
            folder.join("users"),
            "\"postgres\" \"\"\n\"bouncer_worker\" \"\"\n\"bouncer_api\" \"\"\n",
        )?;
        Ok(Self { program, folder: folder.to_owned(), user: server.user(), child: None })
    }

    /// Starts it and waits until it takes connections.
    pub(crate) async fn start(&mut self) -> anyhow::Result<()> {
        let mut command = process::with_tools(&self.program);
        command.arg(self.folder.join("pgbouncer.ini")).current_dir(&self.folder);
        if let ServerUser::Other { uid, gid } = self.user {
            command.uid(uid).gid(gid);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start pgbouncer")?;
        self.child = Some(child);
        let started = Instant::now();
        while UnixStream::connect(self.socket()).await.is_err() {
            if started.elapsed() > Duration::from_secs(10) {
                let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                bail!("pgbouncer does not listen:\n{log}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// kill -9; its socket file goes too, so that the next one can bind.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        for left in [self.socket(), self.folder.join(format!(".s.PGSQL.{PORT}.lock"))] {
            // Only the first is always there.
            let _ = fs::remove_file(left);
        }
        Ok(())
    }

    /// Its socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join(format!(".s.PGSQL.{PORT}"))
    }
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        // Nobody is left to tell.
        let _ = self.kill();
    }
}

/// `PgBouncer 1.24.1` into its first two numbers.
fn parse(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.rsplit(' ').next()?.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}
