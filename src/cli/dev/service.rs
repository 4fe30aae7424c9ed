//! A child process of a development run: the daemon or the API.
//!
//! It runs in a process group of its own, so that Ctrl-C reaches only us and we
//! stop things in order. Should we be killed hard, the kernel sends it SIGTERM
//! (by `setpriv`, where the system has it).

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use super::database::Database;
use super::place::Place;

/// Time to become ready.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// Time to end after SIGTERM; longer than the daemon's own deadline.
const ENDS_WITHIN: Duration = Duration::from_secs(15);

/// util-linux's program that ties a child's life to its parent's.
const SETPRIV: &str = "/usr/bin/setpriv";

#[derive(Debug)]
pub(super) struct Service {
    program: &'static str,
    address: SocketAddr,
    log: PathBuf,
    child: Child,
}

impl Service {
    /// Starts a program that lies beside our own, with the run's configuration.
    pub(super) fn start(
        program: &'static str,
        address: SocketAddr,
        place: &Place,
        database: &Database,
    ) -> anyhow::Result<Self> {
        let path = std::env::current_exe().context("where am I?")?.with_file_name(program);
        if !path.is_file() {
            return Err(anyhow!("expected {} beside this program: build it", path.display()));
        }
        let log = place.path(&format!("{program}.log"));
        let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = if Path::new(SETPRIV).exists() {
            let mut command = Command::new(SETPRIV);
            command.args(["--pdeathsig", "TERM", "--"]).arg(&path);
            command
        } else {
            Command::new(&path)
        };
        let child = command
            .arg("--config")
            .arg(place.config())
            .env("POSTRIDER__DATABASE__URL", database.url())
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", path.display()))?;
        Ok(Self { program, address, log, child })
    }

    /// Waits until it says that it is ready.
    pub(super) async fn ready(&mut self) -> anyhow::Result<()> {
        let url = format!("http://{}/readyz", self.address);
        let client = reqwest::Client::builder().no_proxy().timeout(READY_WITHIN).build()?;
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Err(self.ended(status));
            }
            if client.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            if started.elapsed() > READY_WITHIN {
                let (program, tail) = (self.program, self.tail());
                return Err(anyhow!("{program} is not ready after {READY_WITHIN:?}{tail}"));
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until it ends, which is an error.
    pub(super) async fn death(&mut self) -> anyhow::Error {
        match self.child.wait().await {
            Ok(status) => self.ended(status),
            Err(error) => anyhow!("cannot wait for {}: {error}", self.program),
        }
    }

    /// Asks it to end, waits, and kills it if it does not.
    pub(super) async fn stop(mut self) {
        if let Some(id) = self.child.id() {
            // The shell's own kill: std has none but SIGKILL, and unsafe code is forbidden.
            let _ = Command::new("sh")
                .args(["-c", "kill -TERM \"$0\"", &id.to_string()])
                .stderr(Stdio::null())
                .status()
                .await;
        }
        if timeout(ENDS_WITHIN, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }

    fn ended(&self, status: ExitStatus) -> anyhow::Error {
        anyhow!("{} ended by itself ({status}){}", self.program, self.tail())
    }

    fn tail(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(64 << 10)..]);
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(20)..].join("\n");
        format!("; the end of {}:\n{tail}", self.log.display())
    }
}
