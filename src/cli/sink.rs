//! `postrider sink`: a mailbox that takes every mail, in a process of its own.

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use super::console::Console;
use crate::sink::{FaultMix, Options, Sink};

/// Take every mail on a port, keep the last ones, and count what came.
#[derive(Debug, clap::Args)]
pub struct SinkArgs {
    /// Where mail is taken (SMTP).
    #[arg(long, default_value = "127.0.0.1:2525", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Where mails and counts are shown: `/`, `/mails`, `/mails/1`, `/stats`.
    #[arg(long, value_name = "ADDRESS")]
    http: Option<SocketAddr>,
    /// What goes wrong: `default`, or parts like `seed=1,rcpt-defer=5,drop-after-dot=1`
    /// (per cent).
    #[arg(long, num_args = 0..=1, default_missing_value = "default", value_name = "MIX")]
    faults: Option<FaultMix>,
    /// How many of the last mails are kept.
    #[arg(long, default_value_t = 200, value_name = "N")]
    keep: usize,
}

/// Runs until `stop` is cancelled, then prints the counts as JSON.
pub async fn run(args: SinkArgs, stop: CancellationToken) -> anyhow::Result<ExitCode> {
    let mut console = Console::new();
    let SinkArgs { listen, http, faults, keep } = args;
    let sink = Sink::start(Options { listen, http, faults, keep })
        .await
        .with_context(|| format!("cannot listen on {listen} or the address of --http"))?;
    console.line(&format!("SMTP on {}", sink.smtp()));
    if let Some(http) = sink.http() {
        console.line(&format!("http://{http}/"));
    }
    stop.cancelled().await;
    let stats = sink.stats();
    sink.stop().await;
    console.line(&serde_json::to_string(&stats)?);
    Ok(ExitCode::SUCCESS)
}
