//! `postrider report`: what came back by mail.

mod grade;
mod kept;
mod score;

use std::path::PathBuf;

use clap::Subcommand;

use super::context::Context;
use super::error::CliError;
use super::file;
use super::print::{self, Answer, Table};
use crate::domain::ids::DeliveryId;
use crate::feedback::{self, report::Finding};

/// Bounces, complaints and other reports: list, show, read a file, score the rules
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  postrider report list")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List what came in by mail, the newest first
    #[command(after_help = "\
Examples:
  postrider report list --limit 20
  postrider report list --delivery dlv_0R8KQW3YD4X1M --json")]
    List {
        /// Only what came for this delivery
        #[arg(long)]
        delivery: Option<DeliveryId>,
        /// Only those before this report: the last one of the page before
        #[arg(long)]
        before: Option<i64>,
        /// Most rows
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=10_000))]
        limit: i64,
    },
    /// Show a report: what was made of it, and the mail as it came
    #[command(after_help = "Example:\n  postrider report show 918273645546372819")]
    Show {
        /// Its number
        report: i64,
    },
    /// Say what a mail in a file is taken for, and by which rule
    #[command(after_help = "\
Nothing is stored and nobody is suppressed.

Examples:
  postrider report read bounce.eml
  postrider report read - --json < bounce.eml")]
    Read {
        /// The mail; - reads standard input
        file: PathBuf,
    },
    /// Compare what the rules say of labelled mails with their labels
    #[command(after_help = "\
DIR holds mails and expected.jsonl, one object a mail: {\"file\", \"contested\", \"expected\":
[{\"index\", \"reason\", \"hardbounce\"}]}, in the vocabulary of Sisimai.

Examples:
  postrider report score corpus/
  postrider report score corpus/ --misses --half odd")]
    Score {
        /// The folder
        dir: PathBuf,
        /// Also list what was judged otherwise than its label
        #[arg(long)]
        misses: bool,
        /// Only every other mail, to see whether rules hold beyond those they were made from
        #[arg(long)]
        half: Option<score::Half>,
    },
}

/// Runs the command.
pub async fn run(args: Args, context: &Context) -> Result<Answer, CliError> {
    match args.verb {
        Verb::List { delivery, before, limit } => {
            kept::list(context, delivery, before, limit).await
        }
        Verb::Show { report } => kept::show(context, report).await,
        Verb::Read { file } => read(&file),
        Verb::Score { dir, misses, half } => score::run(&dir, misses, half),
    }
}

fn read(path: &std::path::Path) -> Result<Answer, CliError> {
    let mail = file::bytes(path)?;
    let report = feedback::understand(&mail);
    let mut table = Table::new(
        &["recipient", "action", "class", "hardness", "rule", "code", "status", "text"],
        "it speaks of no recipient",
    );
    for finding in &report.findings {
        table.row(cells(finding));
    }
    let facts = serde_json::json!({
        "kind": report.kind.as_str(),
        "message_id": report.original.message_id,
        "envelope_sender": report.original.envelope_sender,
        "findings": report.findings.iter().map(facts).collect::<Vec<_>>(),
    });
    Answer::new(format!("{}\n{}", report.kind.as_str(), table.text()), &facts)
}

fn cells(finding: &Finding) -> [String; 8] {
    [
        print::or_dash(finding.recipient.as_deref()),
        finding.action.as_str().into(),
        finding.class.as_str().into(),
        finding.hardness.as_str().into(),
        finding.rule.into(),
        print::or_dash(finding.code),
        print::or_dash(finding.status),
        finding.text.chars().take(120).collect(),
    ]
}

fn facts(finding: &Finding) -> serde_json::Value {
    serde_json::json!({
        "recipient": finding.recipient,
        "original_recipient": finding.original_recipient,
        "action": finding.action.as_str(),
        "class": finding.class.as_str(),
        "hardness": finding.hardness.as_str(),
        "rule": finding.rule,
        "code": finding.code,
        "status": finding.status.map(|status| status.to_string()),
        "stage": finding.stage.map(crate::domain::verdict::Stage::as_str),
        "text": finding.text,
    })
}
