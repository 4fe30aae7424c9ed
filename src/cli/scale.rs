//! `postrider scale`: as many daemons on this machine as `/scale` suggests.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::Command;

use super::context::Context;
use super::error::CliError;
use super::print::Answer;

/// The answer is made at most once a second and within this.
const LONGEST: Duration = Duration::from_secs(15);

/// Instances that the template has addresses for: postriderd@1 to postriderd@9.
const MOST: u64 = 9;

/// Show how many daemons are suggested, and run so many on this machine
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Asks a daemon's /scale (docs/scaling.md). With --apply, for an installation on one machine,
starts or stops instances of postriderd@ beside postriderd.service; one that stops finishes
what it has in hand. postrider-scale.timer does that every half minute. While the database does
not answer there is no suggestion, and nothing is changed (code 1).

Examples:
  postrider scale
  postrider scale --apply")]
pub struct Args {
    /// The telemetry address of a daemon [default: telemetry.listen]
    #[arg(long, value_name = "IP:PORT")]
    at: Option<SocketAddr>,
    /// Start and stop instances
    #[arg(long)]
    apply: bool,
    /// Most instances beside postriderd.service
    #[arg(long, value_name = "N", default_value_t = MOST, value_parser = clap::value_parser!(u64).range(..=MOST))]
    most: u64,
    /// The program that starts and stops units
    #[arg(long, value_name = "FILE", default_value = "systemctl")]
    systemctl: PathBuf,
}

/// Runs the command.
pub async fn run(args: Args, context: &Context) -> Result<Answer, CliError> {
    let address = match args.at {
        Some(address) => address,
        None => context.settings()?.telemetry.listen,
    };
    let suggested = suggested(address).await?;
    // One of them is postriderd.service itself.
    let instances = suggested.saturating_sub(1).min(args.most);
    if args.apply {
        for n in 1..=args.most {
            let verb = if n <= instances { "start" } else { "stop" };
            order(&args.systemctl, verb, n).await?;
        }
    }
    let did = if args.apply {
        format!("; postriderd@1 to @{instances} run, the others stop")
    } else {
        String::new()
    };
    let words = format!("{suggested} daemons are suggested{did}");
    let facts = json!({"suggested": suggested, "instances": instances, "applied": args.apply});
    Answer::new(words, &facts)
}

async fn suggested(address: SocketAddr) -> Result<u64, CliError> {
    let trouble = |error: reqwest::Error| {
        CliError::failed(format!("could not ask {address}: {error}; is the daemon running?"))
    };
    let client = reqwest::Client::builder().timeout(LONGEST).no_proxy().build();
    let url = format!("http://{address}/scale");
    let answer = client.map_err(trouble)?.get(url).send().await.map_err(trouble)?;
    if !answer.status().is_success() {
        let status = answer.status();
        return Err(CliError::failed(format!("{address} has no suggestion now ({status})")));
    }
    let answer: Value = answer.json().await.map_err(trouble)?;
    let suggested = answer.pointer("/replicas/suggested").and_then(Value::as_u64);
    suggested.ok_or_else(|| CliError::failed(format!("{address} answered without a suggestion")))
}

/// Does not wait: a daemon that stops has up to a minute for what is in hand.
async fn order(systemctl: &Path, verb: &str, n: u64) -> Result<(), CliError> {
    let unit = format!("postriderd@{n}.service");
    let ended = Command::new(systemctl).args([verb, "--no-block", &unit]).status().await;
    match ended {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(CliError::failed(format!("systemctl {verb} {unit}: {status}"))),
        Err(error) => {
            let program = systemctl.display();
            Err(CliError::failed(format!("cannot run {program}: {error}")))
        }
    }
}
