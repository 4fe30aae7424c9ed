//! `postrider config`: the configuration.

use std::path::PathBuf;

use clap::Subcommand;

use super::context::Context;
use super::error::CliError;
use super::print::{Answer, Verdict};
use super::replies;
use crate::config::load::Loader;

/// The configuration: check it
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  postrider config check /etc/postrider/postrider.toml")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Read a configuration as the daemon would and show every fault in it
    #[command(after_help = "\
Reads FILE, else --config, else POSTRIDER_CONFIG, else /etc/postrider/postrider.toml, with
the variables POSTRIDER__SECTION__KEY over it, and holds the rules about replies to their
samples. Connects to nothing.

Examples:
  postrider config check config/postrider.toml
  postrider config check && systemctl reload postriderd")]
    Check {
        /// The file
        file: Option<PathBuf>,
    },
}

/// Runs the command.
pub fn run(args: Args, context: &Context) -> Result<Answer, CliError> {
    let Verb::Check { file } = args.verb;
    let loader = file.map_or_else(|| context.loader(), |file| Loader::from_process(Some(&file)));
    let loaded = loader.load()?;
    let origin =
        loader.path().map_or_else(|| "the defaults".into(), |path| path.display().to_string());
    let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    let faults = replies::lint(&loaded.settings);
    let mut words = match faults.len() {
        0 => format!("{origin}: fine"),
        n => format!("{origin}: {n} faults in the rules about replies\n{}", faults.join("\n")),
    };
    for warning in &warnings {
        words.push_str("\nwarning: ");
        words.push_str(warning);
    }
    let facts = serde_json::json!({
        "file": loader.path(), "warnings": warnings, "reply_faults": faults,
    });
    let answer = Answer::new(words, &facts)?;
    Ok(if faults.is_empty() { answer } else { answer.with_verdict(Verdict::Bad) })
}
