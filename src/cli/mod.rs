//! The operator's commands, one file per noun.
//!
//! A command reads its arguments, acts, and ends in an [`print::Answer`] or a
//! [`error::CliError`]; only `print` writes. Exit codes: 0 done, 1 it did not work
//! (or an audit or a check found a fault), 2 the command line makes no sense.

pub mod audit;
pub mod config;
mod console;
pub mod context;
pub mod dead_letter;
pub mod dev;
pub mod domain;
pub mod error;
pub mod file;
pub mod key;
pub mod migrate;
pub mod print;
pub mod queue;
pub mod send;
pub mod show;
pub mod suppression;
pub mod tenant;
pub mod version;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio_util::sync::CancellationToken;

use self::context::{Connect, Context};
use self::error::CliError;
use self::print::{Answer, Format, Verdict};

/// The operator's tool of postrider
#[derive(Debug, Parser)]
#[command(
    name = "postrider",
    version,
    about,
    after_help = "\
First steps:
  postrider migrate                                  make the schema
  postrider tenant create shop                       a tenant
  postrider domain add --tenant shop shop.example    its domain, with the DNS records to publish
  postrider key create --tenant shop                 a key for the HTTP API
  postrider send --key-file shop.key --from a@shop.example --to you@example.org \\
                 --subject Hello --text 'It works.'
  postrider queue status                             what waits

Every command has --help with an example, and --json for scripts.
Exit codes: 0 done, 1 it did not work, 2 the command line makes no sense."
)]
pub struct Cli {
    /// Configuration file [else POSTRIDER_CONFIG, else /etc/postrider/postrider.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Database to use instead of the configured one (keep passwords out of it: others see
    /// the command line)
    #[arg(long, global = true, value_name = "URL")]
    database_url: Option<String>,
    /// Answer in JSON on standard output
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Dev(dev::DevArgs),
    Sink(sink::SinkArgs),
    #[command(flatten)]
    Once(Once),
}

/// Commands that do one thing, answer and end.
#[derive(Debug, Subcommand)]
enum Once {
    Tenant(tenant::Args),
    Key(key::Args),
    Domain(domain::Args),
    Send(Box<send::Args>),
    Queue(queue::Args),
    DeadLetter(dead_letter::Args),
    Suppression(suppression::Args),
    Audit(audit::Args),
    Migrate(migrate::Args),
    Config(config::Args),
    /// Show the version of this program and of the schema it needs
    #[command(after_help = "Example:\n  postrider version --json")]
    Version,
}

/// Listens for the signals that stop a process from now on; the binary knows how.
pub type Stop = fn() -> CancellationToken;

/// Does what the command line asks.
pub async fn run(cli: Cli, connect: Connect, stop: Stop) -> ExitCode {
    let Cli { config, database_url, json, command } = cli;
    let format = if json { Format::Json } else { Format::Words };
    let ended = match command {
        Command::Dev(args) => dev::run(args, database_url, stop()).await.map_err(CliError::from),
        Command::Sink(args) => sink::run(args, stop()).await.map_err(CliError::from),
        Command::Once(command) => {
            let context = Context::new(config, database_url, connect);
            dispatch(command, &context).await.map(|answer| {
                answer.show(format);
                match answer.verdict() {
                    Verdict::Fine => ExitCode::SUCCESS,
                    Verdict::Bad => ExitCode::from(1),
                }
            })
        }
    };
    ended.unwrap_or_else(|error| {
        print::error(&error);
        ExitCode::from(error.code())
    })
}

async fn dispatch(command: Once, context: &Context) -> Result<Answer, CliError> {
    match command {
        Once::Tenant(args) => tenant::run(args, context).await,
        Once::Key(args) => key::run(args, context).await,
        Once::Domain(args) => domain::run(args, context).await,
        Once::Send(args) => send::run(*args, context).await,
        Once::Queue(args) => queue::run(args, context).await,
        Once::DeadLetter(args) => dead_letter::run(args, context).await,
        Once::Suppression(args) => suppression::run(args, context).await,
        Once::Audit(args) => audit::run(args, context).await,
        Once::Migrate(args) => migrate::run(args, context).await,
        Once::Config(args) => config::run(args, context),
        Once::Version => version::run(),
    }
}
