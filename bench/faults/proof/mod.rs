//! What the proof is made of; `main.rs` and some tests run it.

pub(crate) mod aftermath;
pub(crate) mod auditor;
pub(crate) mod bouncer;
pub(crate) mod cases;
pub(crate) mod client;
pub(crate) mod consumer;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod receiver;
pub(crate) mod replica;
pub(crate) mod report;
pub(crate) mod reporter;
pub(crate) mod server;
pub(crate) mod setup;
pub(crate) mod stage;
mod template;

use std::io::Write;

use anyhow::{Context, bail};
use postrider::cli::dev::binaries::Binaries;

use self::cases::{CASES, Ran, Run};
use self::stage::Template;

/// Runs one case once. An error tells every broken promise, or why it cannot be run here.
pub(crate) async fn holds(name: &str, seed: u64) -> anyhow::Result<()> {
    let case = CASES.iter().find(|case| case.name == name).context("there is no such case")?;
    let template = Template::make(&Binaries::find(None)?).await?;
    match (case.run)(Run { template: &template, seed, kills: 3 }).await? {
        Ran::Done(findings, _) if findings.violations.is_empty() => Ok(()),
        Ran::Done(findings, _) => bail!("seed {seed}: {}", findings.violations.join("\n")),
        Ran::NotRun(why) => bail!("cannot be run here: {why}"),
    }
}

/// Tells whoever watches.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
