//! `postrider queue export`: a day's attempts into a file, before the database drops them.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use chrono::{NaiveDate, Utc};

use super::error::CliError;
use super::print::Answer;
use crate::cell::Cell;
use crate::domain::clock::Clock;
use crate::queue::admin::history::DayOfAttempts;

/// What is exported, and where to.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The day (UTC), like 2026-11-24
    #[arg(long)]
    day: NaiveDate,
    /// The file to write: one JSON object a line. It must not be there yet
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Writes the day. The file appears under its name when it is whole.
pub async fn run(args: &Args, cells: &[Cell]) -> Result<Answer, CliError> {
    let Args { day, out } = args;
    if out.exists() {
        return Err(CliError::failed(format!("{} is there already: name another", out.display())));
    }
    let half = half_of(out);
    let attempts = write(cells, *day, &half)
        .await
        .map_err(|error| CliError::failed(format!("{}: {error:#}", half.display())))?;
    fs::rename(&half, out)
        .map_err(|error| CliError::failed(format!("{}: {error}", out.display())))?;
    let today = chrono::DateTime::<Utc>::from(Clock::System.now()).date_naive();
    let note = if *day >= today { "; the day is not over, so more may follow" } else { "" };
    Answer::new(
        format!("{attempts} attempts of {day} are in {}{note}", out.display()),
        &serde_json::json!({"day": day, "attempts": attempts, "file": out}),
    )
}

async fn write(cells: &[Cell], day: NaiveDate, file: &Path) -> anyhow::Result<u64> {
    let mut out = BufWriter::new(File::create(file)?);
    let mut attempts = 0;
    for Cell { pool, .. } in cells {
        let mut history = DayOfAttempts::open(pool, day).await?;
        while let Some(lines) = history.step(pool).await? {
            for line in lines {
                out.write_all(line.as_bytes())?;
                out.write_all(b"\n")?;
                attempts += 1;
            }
        }
    }
    out.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
    Ok(attempts)
}

fn half_of(out: &Path) -> PathBuf {
    let mut name = out.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    out.with_file_name(name)
}
