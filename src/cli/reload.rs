//! `postrider reload`: a running process reads its configuration again.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::context::Context;
use super::error::CliError;
use super::print::{Answer, Verdict};
use crate::config::Settings;
use crate::config::reload::Told;
use crate::telemetry::pages;

/// The process reads some files; what takes longer hangs.
const LONGEST: Duration = Duration::from_secs(15);

/// The configuration is at fault; the running one stays in force.
const REFUSED: u8 = 3;

/// Some of what changed waits for a restart; the rest applies.
const NEEDS_RESTART: u8 = 4;

/// Make a running process on this machine read its configuration again
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The file is checked here first; one with a fault is not handed on. Then the process reads it
itself and says how that ended.

Exit codes: 0 applied, or nothing changed; 3 refused, the running configuration stays;
4 applied but for some keys that wait for a restart; 1 the process could not be asked.

Examples:
  postrider reload
  postrider reload --api
  postrider reload --at 127.0.0.1:9031 --json")]
pub struct Args {
    /// Ask postrider-api (telemetry.api_listen) instead of postriderd (telemetry.listen)
    #[arg(long, conflicts_with = "at")]
    api: bool,
    /// The telemetry address of the process
    #[arg(long, value_name = "IP:PORT")]
    at: Option<SocketAddr>,
    /// End with 0 also when some keys wait for a restart
    #[arg(long)]
    restart_later: bool,
}

/// Runs the command.
pub async fn run(args: Args, context: &Context) -> Result<Answer, CliError> {
    let told = match context.loader().load() {
        Ok(loaded) => ask(address(&args, &loaded.settings)?).await?,
        Err(error) => Told::refused(&error),
    };
    let (words, verdict) = match told.outcome.as_str() {
        "refused" => {
            let faults = told.faults.join("\n");
            (format!("refused, the running configuration stays:\n{faults}"), Verdict::Code(REFUSED))
        }
        "needs_restart" if !args.restart_later => (told.line(), Verdict::Code(NEEDS_RESTART)),
        _ => (told.line(), Verdict::Fine),
    };
    Ok(Answer::new(words, &told)?.with_verdict(verdict))
}

fn address(args: &Args, settings: &Settings) -> Result<SocketAddr, CliError> {
    let mut address = match args.at {
        Some(address) => address,
        None if args.api => settings.telemetry.api_listen.ok_or_else(|| {
            CliError::failed(
                "postrider-api shows itself nowhere: set telemetry.api_listen, or send it SIGHUP",
            )
        })?,
        None => settings.telemetry.listen,
    };
    // Listening everywhere, it is asked here.
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    Ok(address)
}

async fn ask(address: SocketAddr) -> Result<Told, CliError> {
    let trouble = |error: reqwest::Error| {
        CliError::failed(format!(
            "could not ask the process at {address}: {error}; is it running? \
             (--at IP:PORT names its telemetry address)"
        ))
    };
    let client = reqwest::Client::builder().timeout(LONGEST).no_proxy().build();
    let url = format!("http://{address}{}", pages::RELOAD);
    let answer = client.map_err(trouble)?.post(url).send().await.map_err(trouble)?;
    let status = answer.status();
    match answer.json().await {
        Ok(told) => Ok(told),
        Err(_) => Err(CliError::failed(format!(
            "the process at {address} answered {status}: is it postrider, and of this version?"
        ))),
    }
}
