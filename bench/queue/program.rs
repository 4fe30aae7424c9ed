//! The product's own programs as child processes.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// Time to become ready.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Time to end after SIGTERM.
const ENDS_WITHIN: Duration = Duration::from_secs(40);

/// A running daemon or API; killed on drop.
pub(crate) struct Program {
    child: Child,
    name: &'static str,
    log: PathBuf,
}

impl Program {
    /// Starts `postriderd` and waits until it is ready.
    pub(crate) async fn daemon(config: &Path, metrics: SocketAddr) -> anyhow::Result<Self> {
        let program = Self::start("postriderd", env!("CARGO_BIN_EXE_postriderd"), config)?;
        program.ready(metrics).await
    }

    /// Starts `postrider-api` and waits until it is ready.
    pub(crate) async fn api(config: &Path, listen: SocketAddr) -> anyhow::Result<Self> {
        let program = Self::start("postrider-api", env!("CARGO_BIN_EXE_postrider-api"), config)?;
        program.ready(listen).await
    }

    fn start(name: &'static str, path: &str, config: &Path) -> anyhow::Result<Self> {
        let log = config.with_extension(format!("{name}.log"));
        let file = File::create(&log)?;
        let child = Command::new(path)
            .arg("--config")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self { child, name, log })
    }

    async fn ready(mut self, address: SocketAddr) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder().no_proxy().build()?;
        let began = Instant::now();
        loop {
            self.check()?;
            let answer = client.get(format!("http://{address}/readyz")).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(self);
            }
            if began.elapsed() > READY_WITHIN {
                bail!("{} is not ready: see {}", self.name, self.log.display());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// An error if it has ended.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("{} ended ({status}): see {}", self.name, self.log.display()),
            None => Ok(()),
        }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end, and waits until it has.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        // The shell's own kill: std has none but SIGKILL, and unsafe code is forbidden.
        Command::new("sh").args(["-c", "kill -TERM \"$0\"", &self.pid().to_string()]).status()?;
        let began = Instant::now();
        while self.child.try_wait()?.is_none() {
            if began.elapsed() > ENDS_WITHIN {
                bail!("{} does not end: see {}", self.name, self.log.display());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command of the operator's tool to its end.
pub(crate) fn operate(config: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    let out = Command::new(env!("CARGO_BIN_EXE_postrider"))
        .args(arguments)
        .arg("--config")
        .arg(config)
        .stdin(Stdio::null())
        .output()
        .context("cannot start postrider")?;
    if !out.status.success() {
        bail!("postrider {}: {}", arguments.join(" "), String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(())
}
