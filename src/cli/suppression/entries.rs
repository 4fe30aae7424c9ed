//! Single entries: add, remove, show, list.

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::which::Which;
use super::{TITLES, row};
use crate::cli::context::Context;
use crate::cli::error::CliError;
use crate::cli::print::{self, Answer, Table};
use crate::config::unit;
use crate::domain::clock::Clock;
use crate::tenant::suppression::{Entry, Removal, Subject, is_stream, plain};

/// Bounds the size of one statement.
const ADDRESSES_A_STATEMENT: usize = 10_000;

/// Putting on.
#[derive(Debug, clap::Args)]
pub(super) struct Add {
    #[command(flatten)]
    which: Which,
    /// Addresses, or domains as @example.org
    #[arg(required_unless_present = "file")]
    addresses: Vec<String>,
    /// A file with one address a line; - reads standard input
    #[arg(long)]
    file: Option<PathBuf>,
    /// Why
    #[arg(long, default_value = "added by an operator")]
    reason: String,
    /// Only for this stream
    #[arg(long, value_parser = stream)]
    stream: Option<String>,
    /// For how long, like 90d; without it for ever
    #[arg(long = "for", value_parser = duration)]
    time: Option<Duration>,
}

/// Taking off.
#[derive(Debug, clap::Args)]
pub(super) struct Remove {
    #[command(flatten)]
    which: Which,
    /// The address, or a domain as @example.org
    address: String,
    /// Only the entry about this stream
    #[arg(long, value_parser = stream)]
    stream: Option<String>,
    /// Why
    #[arg(long, default_value = "removed by an operator")]
    reason: String,
    /// Leave nothing of it, nor of entries before: for a request of erasure
    #[arg(long)]
    forget: bool,
}

/// Looking up.
#[derive(Debug, clap::Args)]
pub(super) struct Show {
    #[command(flatten)]
    which: Which,
    /// The address, or a domain as @example.org
    address: String,
}

/// Paging.
#[derive(Debug, clap::Args)]
pub(super) struct Page {
    #[command(flatten)]
    which: Which,
    /// Most rows
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..=100_000))]
    limit: i64,
    /// Only those after this address: the last one of the page before
    #[arg(long, default_value = "")]
    after: String,
}

pub(super) async fn add(args: Add, context: &Context) -> Result<Answer, CliError> {
    let mut addresses = args.addresses;
    if let Some(path) = args.file {
        addresses.extend(crate::cli::file::lines(&path)?);
    }
    let subjects: Vec<Subject> =
        addresses.iter().map(|text| read(text)).collect::<Result<_, _>>()?;
    let now = DateTime::<Utc>::from(Clock::System.now());
    let expires_at = args.time.map(|time| now + time);
    let mut added = 0;
    for list in args.which.lists(context).await? {
        let mut here = 0;
        for part in subjects.chunks(ADDRESSES_A_STATEMENT) {
            let entries = part.iter().map(|subject| Entry {
                address: list.keeper.entry(subject),
                stream: args.stream.clone(),
                reason: plain(&args.reason),
                source: "operator",
                expires_at,
            });
            here += list.add(entries.collect()).await?;
        }
        added = added.max(here);
    }
    let facts = serde_json::json!({"given": subjects.len(), "added": added});
    Answer::new(format!("{added} added, {} given", subjects.len()), &facts)
}

pub(super) async fn remove(args: &Remove, context: &Context) -> Result<Answer, CliError> {
    let subject = read(&args.address)?;
    let mut removed = Vec::new();
    for list in args.which.lists(context).await? {
        let removal = Removal {
            stream: args.stream.clone(),
            by: context.actor().to_owned(),
            why: plain(&args.reason),
            forget: args.forget,
        };
        removed.extend(list.remove(&subject, removal).await?);
    }
    if removed.is_empty() && !args.forget {
        return Err(CliError::failed(format!(
            "{subject} is not on the list: see `postrider suppression list`"
        )));
    }
    let facts = serde_json::json!({"removed": subject.as_str(), "entries": removed, "forgotten": args.forget});
    let words = if args.forget {
        format!("{subject} may be written to again, and nothing of it is kept")
    } else {
        format!("{subject} may be written to again")
    };
    Answer::new(words, &facts)
}

pub(super) async fn show(args: &Show, context: &Context) -> Result<Answer, CliError> {
    let subject = read(&args.address)?;
    let shown = args.which.list(context).await?.show(&subject).await?;
    let mut now = Table::new(&TITLES, "not on the list");
    for one in &shown.entries {
        now.row(row(one));
    }
    let mut words = vec![subject.to_string(), now.text()];
    if !shown.everywhere.is_empty() {
        let mut table = Table::new(&TITLES, "");
        for one in &shown.everywhere {
            table.row(row(one));
        }
        words.extend(["for all tenants:".to_owned(), table.text()]);
    }
    if !shown.past.is_empty() {
        let mut table = Table::new(&["stream", "reason", "since", "removed", "by", "why"], "");
        for one in &shown.past {
            table.row([
                one.was.stream.clone().unwrap_or_else(|| "all".to_owned()),
                one.was.reason.clone(),
                print::time(one.was.created_at),
                print::time(one.removed_at),
                one.removed_by.clone(),
                one.removal.clone(),
            ]);
        }
        words.extend(["once:".to_owned(), table.text()]);
    }
    if shown.soft_failures > 0 {
        words.push(format!("{} days on which its mailbox took no mail", shown.soft_failures));
    }
    Answer::new(words.join("\n"), &shown)
}

pub(super) async fn list(args: &Page, context: &Context) -> Result<Answer, CliError> {
    let list = args.which.list(context).await?;
    // Every entry about the address itself comes before: a stream's name is no higher than this.
    let after = if args.after.is_empty() { ("", "") } else { (args.after.trim(), "\u{7f}") };
    let rows = list.page(after, args.limit).await?;
    let mut table = Table::new(&TITLES, "none");
    for one in &rows {
        table.row(row(one));
    }
    Answer::new(table.text(), &rows)
}

fn read(text: &str) -> Result<Subject, CliError> {
    if text.chars().any(char::is_control) {
        return Err(CliError::usage("an address holds no control characters"));
    }
    Subject::try_new(text).map_err(|error| CliError::usage(error.to_string()))
}

pub(super) fn stream(text: &str) -> Result<String, String> {
    let expected = "expected the name of a stream";
    is_stream(text).then(|| text.to_owned()).ok_or_else(|| expected.to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    let expected = "expected a time like 12h or 90d";
    unit::duration(text).filter(|time| !time.is_zero()).ok_or_else(|| expected.to_owned())
}
