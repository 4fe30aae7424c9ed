//! `postrider config`: the configuration.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;

use super::context::Context;
use super::error::CliError;
use super::print::{Answer, Table, Verdict};
use super::replies;
use crate::config::asked::Asked;
use crate::config::load::Loader;
use crate::config::reference;
use crate::config::reload::{applies_live, differences};
use crate::config::schema;

/// The configuration: check it, show it, compare it
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
    /// Show what is set, and where; secrets are not shown
    #[command(after_help = "\
Examples:
  postrider config show
  postrider config show --effective | grep ^queue")]
    Show {
        /// Also what is not set, with the default that holds
        #[arg(long)]
        effective: bool,
    },
    /// Show what would change if another file were in its place
    #[command(after_help = "\
Ends with 1 when something would change.

Example:
  postrider config diff /etc/postrider/postrider.toml.new")]
    Diff {
        /// The other file
        other: PathBuf,
    },
    /// Write the reference of all keys (docs/config.md)
    #[command(after_help = "Example:\n  postrider config reference > docs/config.md")]
    Reference,
    /// Write the schema of all keys for editors (config/postrider.schema.json)
    #[command(after_help = "\
Editors that know TOML (Taplo, Even Better TOML) take it by a first line in the file:
  #:schema /usr/share/postrider/postrider.schema.json

Example:
  postrider config schema > config/postrider.schema.json")]
    Schema,
}

/// Runs the command.
pub fn run(args: Args, context: &Context) -> Result<Answer, CliError> {
    match args.verb {
        Verb::Check { file } => check(file.as_deref(), context),
        Verb::Show { effective } => show(effective, context),
        Verb::Diff { other } => diff(&other, context),
        Verb::Reference => {
            let page = reference::markdown()?;
            Answer::new(page.trim_end(), &json!({"markdown": page}))
        }
        Verb::Schema => {
            let schema = schema::schema()?;
            Answer::new(format!("{schema:#}"), &schema)
        }
    }
}

fn check(file: Option<&Path>, context: &Context) -> Result<Answer, CliError> {
    let loader = file.map_or_else(|| context.loader(), |file| Loader::from_process(Some(file)));
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
    let facts = json!({
        "file": loader.path(), "warnings": warnings, "reply_faults": faults,
    });
    let answer = Answer::new(words, &facts)?;
    Ok(if faults.is_empty() { answer } else { answer.with_verdict(Verdict::Bad) })
}

fn show(effective: bool, context: &Context) -> Result<Answer, CliError> {
    let shipped = shipped_defaults()?;
    let mut table = Table::new(&["key", "value", "from"], "nothing is set");
    let mut facts = Vec::new();
    for key in by_key(&context.loader())?.into_values() {
        let default = default_of(&key, &shipped);
        let (value, from) = match &key.given {
            Some(given) => (given.value.clone(), given.place.to_string()),
            None if effective => match default {
                Some(default) => (default, "default".to_owned()),
                None => continue,
            },
            None => continue,
        };
        table.row([key.key.clone(), value.clone(), from.clone()]);
        facts.push(json!({"key": key.key, "value": value, "from": from}));
    }
    Answer::new(table.text(), &facts)
}

fn diff(other: &Path, context: &Context) -> Result<Answer, CliError> {
    let (ours, theirs) = (context.loader(), Loader::from_process(Some(other)));
    let (old, new) = (ours.load()?.settings, theirs.load()?.settings);
    let shipped = shipped_defaults()?;
    let (before, after) = (by_key(&ours)?, by_key(&theirs)?);
    let value = |keys: &BTreeMap<String, Asked>, key: &str| {
        let asked = keys.get(key)?;
        asked.given.as_ref().map(|given| given.value.clone()).or(default_of(asked, &shipped))
    };
    let (mut lines, mut facts) = (Vec::new(), Vec::new());
    let all: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for key in all {
        let (was, is) = (value(&before, key), value(&after, key));
        if was == is {
            continue;
        }
        let when = if applies_live(key) { "at once" } else { "after a restart" };
        let said = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".to_owned());
        lines.push(format!("{key}: {} -> {} ({when})", said(&was), said(&is)));
        facts.push(json!({"key": key, "was": was, "is": is, "applies": when}));
    }
    // Secrets are compared and not shown.
    let (live, fixed) = differences(&old, &new);
    for section in live.into_iter().chain(fixed) {
        if !lines.iter().any(|line| line.starts_with(section)) {
            lines.push(format!("{section}: something that is not shown differs"));
            facts.push(json!({"key": section, "was": null, "is": null}));
        }
    }
    if lines.is_empty() {
        return Answer::new("nothing would change", &facts);
    }
    Ok(Answer::new(lines.join("\n"), &facts)?.with_verdict(Verdict::Bad))
}

fn by_key(loader: &Loader) -> Result<BTreeMap<String, Asked>, CliError> {
    Ok(loader.survey()?.into_iter().map(|asked| (asked.key.clone(), asked)).collect())
}

/// Defaults that the sections do not tell, as the shipped file says them.
fn shipped_defaults() -> Result<BTreeMap<String, String>, CliError> {
    let entries = reference::entries()?.into_iter();
    Ok(entries
        .filter_map(|entry| Some((format!("{}.{}", entry.section, entry.key), entry.default?)))
        .collect())
}

fn default_of(asked: &Asked, shipped: &BTreeMap<String, String>) -> Option<String> {
    asked.default.clone().or_else(|| shipped.get(&asked.general()).cloned())
}
