//! How fast deliveries leave the queue, and what they cost.
//!
//! In one run, on one machine: a private Postgres with every commit on disk,
//! N deliveries submitted as the API submits them, then `postriderd` against a
//! sink. Beside it, when Postfix's tools are at hand, smtp-source against
//! smtp-sink with the same number and size of mails: what the machine can do
//! with no queue at all. Absolute numbers depend on the machine; the ratio of
//! the two and the CPU per message say more.

mod api;
mod daemon;
mod load;
mod peer;
mod receiver;
mod report;
mod turns;
mod usage;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::{Parser, ValueEnum};
use postrider::cli::dev::binaries::Binaries;
use postrider::cli::dev::cluster::{Cluster, Durability};
use postrider::cli::dev::lock::FolderLock;

use crate::load::Load;
use crate::peer::Peer;
use crate::receiver::Receiver;
use crate::report::Report;

/// Messages per second and CPU per message, from queue to committed outcome.
#[derive(Debug, Parser)]
struct Args {
    /// Deliveries.
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    count: u32,
    /// About how large each mail is.
    #[arg(long, default_value = "1k")]
    size: Size,
    /// How mails are signed.
    #[arg(long, default_value = "none")]
    dkim: Dkim,
    /// Who takes the mails.
    #[arg(long, default_value = "smtp-sink")]
    sink: SinkKind,
    /// Folder with Postfix's unpacked package, for smtp-sink and the raw limit.
    #[arg(long, value_name = "FOLDER")]
    postfix: Option<PathBuf>,
    /// Connections to the sink, of the daemon and of smtp-source.
    #[arg(long, default_value_t = 50, value_name = "N")]
    connections: u32,
    /// Measure the API too, at so many submissions a second.
    #[arg(long, value_name = "N")]
    api: Option<u32>,
    /// Measure instead what it costs to keep this share of the traces and to tell a receiver of
    /// them, in turns of two seconds with and without.
    #[arg(long, value_name = "RATIO", num_args = 0..=1, default_missing_value = "0.01")]
    traces: Option<f64>,
    /// Folder of Postgres's server programs.
    #[arg(long, env = "POSTRIDER_PG_BIN", value_name = "FOLDER")]
    pg_bin: Option<PathBuf>,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Size of a mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Size {
    /// A short text: 1 KB.
    #[value(name = "1k")]
    Small,
    /// HTML with a text part from a template: 10 KB.
    #[value(name = "10k")]
    Large,
}

impl Size {
    const fn bytes(self) -> usize {
        match self {
            Self::Small => 1_024,
            Self::Large => 10_240,
        }
    }
}

/// Signatures on a mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Dkim {
    /// None.
    None,
    /// Ed25519 alone.
    Ed25519,
    /// RSA-2048 alone.
    Rsa,
    /// Both, as `postrider domain add` sets up.
    Both,
}

/// A peer that takes mails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SinkKind {
    /// Postfix's, in C.
    SmtpSink,
    /// Ours, which also counts and keeps.
    Builtin,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let ended = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start threads")
        .and_then(|runtime| runtime.block_on(run(&args)));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> anyhow::Result<()> {
    let folder = std::env::current_dir()?.join("target/bench");
    let _lock = FolderLock::take(&folder, "wait until that measurement is over")?;
    let binaries = Binaries::find(args.pg_bin.as_deref())?;
    let cluster = Cluster::start(&folder.join("postgres"), Durability::Durable, &binaries)?;

    let load = Load::submit(&cluster, &folder, args).await?;
    say(&format!("{} deliveries submitted in {:.2?}", args.count, load.took));
    let peer = Peer::start(args)?;
    if let Some(ratio) = args.traces {
        return traces(args, ratio, &folder, &load, &peer).await;
    }
    let measured = daemon::run(args, &folder, &cluster, &load, peer.address()).await?;
    drop(peer);
    let raw = peer::raw_limit(args)?;
    say(&Report { args, load: &load, measured, raw, postgres: binaries.major() }.to_string());
    if let Some(rate) = args.api {
        say(&api::run(&folder, &load, rate.max(1)).await?.to_string());
    }
    Ok(())
}

async fn traces(
    args: &Args,
    ratio: f64,
    folder: &Path,
    load: &Load,
    peer: &Peer,
) -> anyhow::Result<()> {
    let receiver = Receiver::start().await?;
    let turns = turns::run(args, ratio, folder, load, peer.address(), &receiver.endpoint()).await?;
    say(&format!("\nratio {ratio}, {} KiB told; {turns}", receiver.bytes() / 1_024));
    ensure!(ratio == 0.0 || receiver.bytes() > 0, "the receiver was told nothing");
    Ok(())
}

fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
