//! The operator's commands, one file per noun.
//!
//! A command reads its arguments, acts, and ends in an [`print::Answer`] or a
//! [`error::CliError`]; only `print` writes. Exit codes: 0 done, 1 it did not work
//! (or an audit or a check found a fault), 2 the command line makes no sense.

pub mod actions;
pub mod audit;
pub mod cell;
pub mod config;
mod console;
pub mod context;
pub mod cost;
pub mod dead_letter;
pub mod dev;
pub mod doctor;
pub mod domain;
pub mod doubt;
pub mod error;
pub mod export;
pub mod file;
pub mod key;
pub mod lanes;
pub mod migrate;
pub mod order;
pub mod print;
pub mod queue;
pub mod recover;
pub mod reload;
pub mod replies;
pub mod report;
pub mod scale;
pub mod secret;
pub mod send;
pub mod show;
pub mod sink;
pub mod suppression;
pub mod tenant;
pub mod tenant_move;
pub mod throttle;
mod throttle_show;
mod trace;
pub mod version;
pub mod webhook;
pub mod why;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::context::{Context, Lent};
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
  postrider why shop                                 why it waits, and how long

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
    /// Only this cell, where there are several (commands on a tenant or an id find theirs)
    #[arg(long, global = true, value_name = "NAME")]
    cell: Option<String>,
    /// Answer in JSON on standard output
    #[arg(long, global = true)]
    json: bool,
    /// Who acts, as recorded with what is done
    #[arg(long, global = true, env = "USER", default_value = "unknown", value_name = "NAME")]
    actor: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Dev(Box<dev::DevArgs>),
    Sink(sink::SinkArgs),
    #[command(flatten)]
    One(One),
}

/// The commands that ask or do one thing and end in an answer.
#[derive(Debug, Subcommand)]
enum One {
    Tenant(tenant::Args),
    Cell(cell::Args),
    Key(key::Args),
    Domain(domain::Args),
    Secret(secret::Args),
    Send(Box<send::Args>),
    Queue(queue::Args),
    Why(why::Args),
    DeadLetter(dead_letter::Args),
    Doubt(doubt::Args),
    Report(report::Args),
    Suppression(suppression::Args),
    Webhook(Box<webhook::Args>),
    Audit(audit::Args),
    Throttle(throttle::Args),
    Replies(replies::Args),
    Actions(actions::Args),
    Migrate(migrate::Args),
    Doctor(doctor::Args),
    Cost(cost::Args),
    Config(config::Args),
    Reload(reload::Args),
    Recover(recover::Args),
    Scale(scale::Args),
    /// Show the version of this program and of the schema it needs
    #[command(after_help = "Example:\n  postrider version --json")]
    Version,
}

/// Does what the command line asks.
pub async fn run(cli: Cli, lent: Lent) -> ExitCode {
    let format = if cli.json { Format::Json } else { Format::Words };
    let ended = match cli.command {
        Command::Dev(args) => {
            return whole(dev::run(*args, cli.database_url, (lent.shutdown)()).await);
        }
        Command::Sink(args) => return whole(sink::run(args, (lent.shutdown)()).await),
        Command::One(command) => {
            let context = Context::new(cli.config, cli.database_url, cli.cell, cli.actor, lent);
            dispatch(command, &context).await
        }
    };
    match ended {
        Ok(answer) => {
            answer.show(format);
            match answer.verdict() {
                Verdict::Fine => ExitCode::SUCCESS,
                Verdict::Bad => ExitCode::from(1),
                Verdict::Code(code) => ExitCode::from(code),
            }
        }
        Err(error) => {
            print::error(&error);
            ExitCode::from(error.code())
        }
    }
}

/// The end of a command that ran until it was told to stop and spoke for itself.
fn whole(ended: anyhow::Result<ExitCode>) -> ExitCode {
    ended.unwrap_or_else(|error| {
        print::error(&CliError::failed(format!("{error:#}")));
        ExitCode::FAILURE
    })
}

async fn dispatch(command: One, context: &Context) -> Result<Answer, CliError> {
    match command {
        One::Tenant(args) => tenant::run(args, context).await,
        One::Cell(args) => cell::run(args, context).await,
        One::Key(args) => key::run(args, context).await,
        One::Domain(args) => domain::run(args, context).await,
        One::Secret(args) => secret::run(args, context).await,
        One::Send(args) => send::run(*args, context).await,
        One::Queue(args) => queue::run(args, context).await,
        One::Why(args) => why::run(args, context).await,
        One::DeadLetter(args) => dead_letter::run(args, context).await,
        One::Doubt(args) => doubt::run(args, context).await,
        One::Report(args) => report::run(args, context).await,
        One::Suppression(args) => suppression::run(args, context).await,
        One::Webhook(args) => webhook::run(*args, context).await,
        One::Audit(args) => audit::run(args, context).await,
        One::Replies(args) => replies::run(args, context).await,
        One::Throttle(args) => throttle::run(args, context).await,
        One::Actions(args) => actions::run(args, context).await,
        One::Migrate(args) => migrate::run(args, context).await,
        One::Cost(args) => cost::run(args, context).await,
        One::Doctor(args) => doctor::run(args, context).await,
        One::Config(args) => config::run(args, context),
        One::Reload(args) => reload::run(args, context).await,
        One::Recover(args) => recover::run(args, context).await,
        One::Scale(args) => scale::run(args, context).await,
        One::Version => version::run(),
    }
}
