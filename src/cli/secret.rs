//! `postrider secret`: the versions of the installation's key, and what lies under which.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use clap::Subcommand;
use serde::Serialize;
use serde_json::json;
use sqlx::PgPool;

use super::context::Context;
use super::error::CliError;
use super::print::{self, Answer, Table, Verdict};
use crate::cell::Cell;
use crate::config::{Duty, Settings};
use crate::tenant::action::Deed;
use crate::tenant::rewrap::{self, Count, Rewrapped};
use crate::tenant::seal::Sealer;
use crate::webhook::rewrap as webhook_rewrap;

/// Links for unsubscribing must work for 30 days at least (CAN-SPAM Act, 16 CFR 316).
const LINKS_LIVE: Duration = Duration::from_secs(30 * 24 * 3_600);

/// The key under which private keys lie: status, rotation
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  postrider secret status")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show how many private keys and secrets lie under which version of the key
    #[command(after_help = "\
Ends with 1 when something lies under a version that is not configured here.

Example:
  postrider secret status --json | jq '.versions[] | select(.removable)'")]
    Status,
    /// Seal everything anew under the newest version of the key, while daemons run
    ///
    /// Needs the newest version and those before it in secrets.key_file; every daemon and API
    /// must know it by then (docs/operating.md). May be stopped at any time and started again.
    #[command(after_help = "\
Examples:
  postrider secret rotate
  postrider secret rotate --batch 20 --pause 500")]
    Rotate {
        /// How many are sealed in one transaction
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..=10_000))]
        batch: i64,
        /// Rest between two batches, in milliseconds
        #[arg(long, default_value_t = 0, value_name = "MS")]
        pause: u64,
    },
}

/// What lies under one version.
#[derive(Debug, Default, Serialize)]
#[allow(clippy::struct_field_names, reason = "the names are the interface")]
struct Version {
    /// The version; 0: what is there is no seal.
    version: i32,
    /// `seals`, `opens`, or nothing where it is not configured.
    duty: Option<&'static str>,
    dkim_keys: i64,
    webhook_secrets: i64,
    /// Since when it seals, as far as a rotation to it is on record.
    since: Option<DateTime<Utc>>,
    /// Nothing lies under it, and what was made with it has had its time.
    removable: bool,
    /// When that is expected.
    removable_from: Option<DateTime<Utc>>,
}

/// Runs the command.
pub async fn run(args: Args, context: &Context) -> Result<Answer, CliError> {
    let settings = context.settings()?;
    let sealer =
        Sealer::new(&settings.secrets).map_err(|error| CliError::failed(error.to_string()))?;
    let cells = context.cells().await?;
    match args.verb {
        Verb::Status => status(&settings, &sealer, &cells, "").await,
        Verb::Rotate { batch, pause } => {
            let mut all = Rewrapped::default();
            for cell in &cells {
                let done = rotate(&cell.pool, &sealer, batch, pause, context.actor()).await?;
                all.done += done.done;
                all.failed.extend(done.failed);
            }
            let mut words = format!("{} sealed anew under version {}", all.done, sealer.newest());
            for failed in &all.failed {
                words.push('\n');
                words.push_str(failed);
            }
            let answer = status(&settings, &sealer, &cells, &format!("{words}\n\n")).await?;
            Ok(if all.failed.is_empty() { answer } else { answer.with_verdict(Verdict::Bad) })
        }
    }
}

/// Seals what is left in one cell anew. It is on record before anything is opened.
async fn rotate(
    pool: &PgPool,
    sealer: &Sealer,
    batch: i64,
    pause: u64,
    actor: &str,
) -> Result<Rewrapped, CliError> {
    let target = format!("key version {}", sealer.newest());
    let left = |counts: &[Count]| -> i64 {
        let newest = Some(i32::from(sealer.newest()));
        counts.iter().filter(|count| count.version != newest).map(|count| count.values).sum()
    };
    let (dkim, webhook) = (rewrap::dkim_counts(pool).await?, webhook_rewrap::counts(pool).await?);
    let detail = json!({"dkim_keys": left(&dkim), "webhook_secrets": left(&webhook)});
    let begun = Deed::new(actor, "secret rotate", target.clone()).with(detail);
    begun.record(&mut *pool.acquire().await?).await?;
    let mut all = Rewrapped::default();
    let (mut after, mut after_secret) = (Default::default(), Default::default());
    let rest = Duration::from_millis(pause);
    while let Some(done) = rewrap::dkim_keys(pool, sealer, &mut after, batch).await? {
        add(&mut all, done);
        tokio::time::sleep(rest).await;
    }
    while let Some(done) = webhook_rewrap::secrets(pool, sealer, &mut after_secret, batch).await? {
        add(&mut all, done);
        tokio::time::sleep(rest).await;
    }
    let detail = json!({"done": all.done, "failed": all.failed.len()});
    let ended = Deed::new(actor, "secret rotated", target).with(detail);
    ended.record(&mut *pool.acquire().await?).await?;
    Ok(all)
}

fn add(all: &mut Rewrapped, more: Rewrapped) {
    all.done += more.done;
    all.failed.extend(more.failed);
}

async fn status(
    settings: &Settings,
    sealer: &Sealer,
    cells: &[Cell],
    before: &str,
) -> Result<Answer, CliError> {
    let mut versions: BTreeMap<i32, Version> = BTreeMap::new();
    let keys = settings.secrets.keys().map_err(|error| CliError::failed(error.to_string()))?;
    let newest = i32::from(sealer.newest());
    for key in &keys {
        let of = entry(&mut versions, key.version.into());
        of.duty = Some(match key.duty {
            Duty::Seals if of.version == newest => "seals",
            Duty::Seals | Duty::Opens => "opens",
        });
    }
    for Cell { pool, .. } in cells {
        for Count { version, values } in rewrap::dkim_counts(pool).await? {
            entry(&mut versions, version.unwrap_or(0)).dkim_keys += values;
        }
        for Count { version, values } in webhook_rewrap::counts(pool).await? {
            entry(&mut versions, version.unwrap_or(0)).webhook_secrets += values;
        }
        for (version, since) in rotations(pool).await? {
            let of = entry(&mut versions, version);
            of.since = of.since.into_iter().chain([since]).max();
        }
    }
    versions.retain(|_, of| of.duty.is_some() || of.dkim_keys + of.webhook_secrets > 0);
    let changed = versions.get(&newest).and_then(|of| of.since);
    let lives = settings.feedback.honour.max(LINKS_LIVE);
    let lives = TimeDelta::from_std(lives).unwrap_or(TimeDelta::MAX);
    let now = crate::domain::clock::Clock::System.now();
    for of in versions.values_mut() {
        if of.duty == Some("opens") && of.version < newest && of.dkim_keys + of.webhook_secrets == 0
        {
            of.removable_from = changed.and_then(|at| at.checked_add_signed(lives));
            of.removable = of.removable_from.is_some_and(|at| at <= DateTime::<Utc>::from(now));
        }
    }
    let versions: Vec<Version> = versions.into_values().collect();
    answer(&versions, newest, before)
}

fn entry(versions: &mut BTreeMap<i32, Version>, version: i32) -> &mut Version {
    versions.entry(version).or_insert_with(|| Version { version, ..Version::default() })
}

/// Versions to which was rotated, and when that began first.
async fn rotations(pool: &PgPool) -> Result<Vec<(i32, DateTime<Utc>)>, sqlx::Error> {
    sqlx::query_as(
        "select substring(target from '[0-9]+$')::int, min(at) from postrider.operator_action
         where action = 'secret rotate' and target ~ '^key version [0-9]+$' group by 1",
    )
    .fetch_all(pool)
    .await
}

fn answer(versions: &[Version], newest: i32, before: &str) -> Result<Answer, CliError> {
    let mut table = Table::new(&["version", "here", "dkim keys", "webhook secrets", "since"], "");
    let mut notes = Vec::new();
    let mut missing = false;
    for of in versions {
        let name = if of.version == 0 { "damaged".to_owned() } else { of.version.to_string() };
        table.row([
            name,
            of.duty.unwrap_or("not configured").to_owned(),
            of.dkim_keys.to_string(),
            of.webhook_secrets.to_string(),
            print::or_dash(of.since.map(print::time)),
        ]);
        let lie = of.dkim_keys + of.webhook_secrets;
        missing |= of.duty.is_none();
        notes.extend(note(of, lie, newest));
    }
    let mut words = format!("{before}{}", table.text());
    for note in notes {
        words.push_str("\n\n");
        words.push_str(&note);
    }
    let answer = Answer::new(words, &json!({"newest": newest, "versions": versions}))?;
    Ok(if missing { answer.with_verdict(Verdict::Bad) } else { answer })
}

fn note(of: &Version, lie: i64, newest: i32) -> Option<String> {
    let version = of.version;
    if of.duty.is_none() {
        return Some(format!(
            "version {version} is not configured here, and {lie} lie under it: add it to \
             secrets.key_file again, or make these keys anew (postrider domain add --selector …, \
             postrider webhook rotate)"
        ));
    }
    if version >= newest {
        return None;
    }
    if lie > 0 {
        return Some(format!("{lie} lie under version {version} yet: postrider secret rotate"));
    }
    Some(match of.removable_from {
        _ if of.removable => format!("version {version} can be taken away"),
        Some(at) => format!(
            "nothing lies under version {version} any more. Return addresses and unsubscribe links \
             in mail that was sent under it are honoured with it: it can be taken away from {}",
            print::time(at)
        ),
        None => format!(
            "nothing lies under version {version}; no rotation is on record, so nobody can say since \
             when links are made under {newest}: postrider secret rotate"
        ),
    })
}
