//! Does every promise hold when things break? The proof.
//!
//! For each case a private Postgres (every commit on disk), real daemons and a real API,
//! clients that submit as they should, and a receiver that records; then the fault, at a
//! moment drawn from a printed seed; then, when everything has come to its end, an audit by
//! somebody who believes neither the daemon nor its metrics. The exit code says whether any
//! promise was broken; a failing run can be repeated with its seed.

#[allow(dead_code, reason = "the tests enter by another door")]
mod proof;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, bail};
use clap::Parser;
use postrider::cli::dev::binaries::Binaries;

use crate::proof::cases::{CASES, Case, Ran, Run};
use crate::proof::report::{Row, Table};
use crate::proof::say;
use crate::proof::stage::Template;

/// Breaks what can break, and audits what became of every mail.
#[derive(Debug, Parser)]
struct Args {
    /// Only these cases (`--list` has their names); 4 means 4a and 4b.
    #[arg(long = "case", value_name = "NAME")]
    cases: Vec<String>,
    /// Runs of each case.
    #[arg(long, default_value_t = 1, value_name = "N")]
    runs: u32,
    /// Seed of the first run; each further one takes the next number. Left out: drawn.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Kills of the series.
    #[arg(long, default_value_t = 20, value_name = "N")]
    kills: u32,
    /// The few cases of `make test`.
    #[arg(long)]
    short: bool,
    /// Says what there is.
    #[arg(long)]
    list: bool,
    /// Folder of Postgres's server programs.
    #[arg(long, env = "POSTRIDER_PG_BIN", value_name = "FOLDER")]
    pg_bin: Option<PathBuf>,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.list {
        for Case { name, fault, short, .. } in CASES {
            say(&format!("{name:6} {fault}{}", if *short { " (make test)" } else { "" }));
        }
        return ExitCode::SUCCESS;
    }
    let ended = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start threads")
        .and_then(|runtime| runtime.block_on(run_until_told(&args)));
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "faults: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Stopped by Ctrl-C or SIGTERM it still ends what it started: dropping does that.
async fn run_until_told(args: &Args) -> anyhow::Result<bool> {
    let stop = postrider::boot::shutdown_signal();
    stop.run_until_cancelled(run(args)).await.unwrap_or_else(|| bail!("told to stop"))
}

/// True if every promise held.
async fn run(args: &Args) -> anyhow::Result<bool> {
    let chosen = choose(args)?;
    let first = args.seed.unwrap_or_else(|| rand::random_range(0..1_000_000));
    say(&format!("seed {first}"));
    let template = Template::make(&Binaries::find(args.pg_bin.as_deref())?).await?;
    let mut rows = Vec::new();
    for case in chosen {
        let mut row = Row::new(case.name, case.fault);
        for seed in (first..).take(args.runs as usize) {
            let started = Instant::now();
            let run = Run { template: &template, seed, kills: args.kills };
            let words = match (case.run)(run).await {
                Ok(Ran::Done(findings, recoveries)) => {
                    row.add(seed, &findings, &recoveries);
                    for violation in &findings.violations {
                        say(&format!("    {violation}"));
                    }
                    if findings.violations.is_empty() { "holds" } else { "BROKEN" }.to_owned()
                }
                Ok(Ran::NotRun(why)) => {
                    row.not_run(why.clone());
                    format!("NOT RUN: {why}")
                }
                Err(error) => {
                    row.failed(seed);
                    format!("BROKEN: {error:#}")
                }
            };
            let took = started.elapsed().as_secs_f64();
            say(&format!("case {} seed {seed}: {words} ({took:.1} s)", case.name));
            if row_is_moot(&words) {
                break;
            }
        }
        rows.push(row);
    }
    say(&format!("\n{}", Table(&rows)));
    Ok(!rows.iter().any(Row::is_broken))
}

/// What cannot be run once cannot be run twice.
fn row_is_moot(words: &str) -> bool {
    words.starts_with("NOT RUN")
}

/// By name, or by the number in front of a letter.
fn choose(args: &Args) -> anyhow::Result<Vec<&'static Case>> {
    if args.cases.is_empty() {
        return Ok(CASES.iter().filter(|case| !args.short || case.short).collect());
    }
    let mut chosen = Vec::new();
    for wanted in &args.cases {
        let letters =
            |name: &str| name.trim_end_matches(|c: char| c.is_ascii_lowercase()) == wanted;
        let found: Vec<&Case> =
            CASES.iter().filter(|case| case.name == wanted || letters(case.name)).collect();
        if found.is_empty() {
            bail!("there is no case {wanted:?}; --list says which there are");
        }
        chosen.extend(found);
    }
    Ok(chosen)
}
