//! A `postriderd` or `postrider-api` as a real process, with what can befall it.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::process;

/// Longest wait for a process to be ready or gone.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    /// `postriderd`.
    Daemon,
    /// `postrider-api`.
    Api,
}

/// Under what it runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Harness {
    /// A command that is put before the program's, such as `prlimit --nofile=256`.
    pub(crate) wrapper: Vec<String>,
    /// Environment.
    pub(crate) variables: Vec<(String, String)>,
}

/// A running process. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Replica {
    child: Child,
    /// Where it answers `/readyz`.
    address: SocketAddr,
    log: PathBuf,
    peak: u64,
}

impl Replica {
    /// Starts a process named `name`, whose configuration and log are in `folder`.
    pub(crate) fn start(
        program: Program,
        folder: &Path,
        name: &str,
        config: &str,
        harness: &Harness,
    ) -> anyhow::Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        Self::start_at(address, program, folder, name, config, harness)
    }

    /// The same at a given address.
    pub(crate) fn start_at(
        address: SocketAddr,
        program: Program,
        folder: &Path,
        name: &str,
        config: &str,
        harness: &Harness,
    ) -> anyhow::Result<Self> {
        let path = folder.join(format!("{name}.toml"));
        fs::write(&path, config)?;
        let log = folder.join(format!("{name}.log"));
        let out = File::options().create(true).append(true).open(&log)?;
        let binary = match program {
            Program::Daemon => env!("CARGO_BIN_EXE_postriderd"),
            Program::Api => env!("CARGO_BIN_EXE_postrider-api"),
        };
        let mut words = harness.wrapper.iter().map(String::as_str).chain([binary]);
        let mut command = Command::new(words.next().unwrap_or(binary));
        command.args(words).arg("--config").arg(&path);
        match program {
            Program::Daemon => {
                command.args(["--name", name]);
                command.env("POSTRIDER__TELEMETRY__LISTEN", address.to_string());
            }
            Program::Api => {
                command.env("POSTRIDER__API__LISTEN", address.to_string());
            }
        }
        for (key, value) in &harness.variables {
            command.env(key, value);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self { child, address, log, peak: 0 })
    }

    /// Waits until it can do its work.
    pub(crate) async fn ready(&mut self) -> anyhow::Result<()> {
        let started = Instant::now();
        loop {
            if self.is_ready().await {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended with {status}:\n{}", self.words());
            }
            if started.elapsed() > PATIENCE {
                bail!("it is never ready:\n{}", self.words());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Whether it says that it can do its work.
    pub(crate) async fn is_ready(&self) -> bool {
        let url = format!("http://{}/readyz", self.address);
        let asked = tokio::time::timeout(Duration::from_secs(3), reqwest::get(url)).await;
        asked.is_ok_and(|answer| answer.is_ok_and(|answer| answer.status().is_success()))
    }

    /// Where it answers.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends a signal by name.
    pub(crate) fn signal(&self, name: &str) -> anyhow::Result<()> {
        process::signal(self.child.id(), name)
    }

    /// kill -9, and gone when this returns.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        self.peak = self.peak_memory();
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, and waits for the end; the exit code.
    pub(crate) async fn terminate(&mut self) -> anyhow::Result<Option<i32>> {
        self.peak = self.peak_memory();
        self.signal("TERM")?;
        self.end().await
    }

    /// Waits for the end of a process that was told to stop; the exit code.
    pub(crate) async fn end(&mut self) -> anyhow::Result<Option<i32>> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.code());
            }
            if started.elapsed() > PATIENCE {
                bail!("it does not stop:\n{}", self.words());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Most memory it ever held, in bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        self.peak.max(process::peak_memory(self.child.id()))
    }

    /// The end of what it logged.
    pub(crate) fn words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        // Ended already, most likely.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
