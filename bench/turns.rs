//! What traces cost, in one run of one daemon: they are switched on and off by reload, in turns.
//!
//! Two runs differ by more than traces cost, for the speed of a shared machine changes within
//! minutes and each daemon finds its own rhythm. Turns of seconds in one process share both.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::ensure;
use sqlx::{Connection, PgConnection};

use crate::daemon::{Daemon, STUCK_AFTER, configuration, settled};
use crate::load::Load;
use crate::{Args, usage};

/// What is not measured of a turn: the reload, and what the turn before left under way.
const SETTLING: Duration = Duration::from_millis(700);

/// What is measured of a turn: some hundred ticks of the kernel's clock of CPU time.
const MEASURED: Duration = Duration::from_millis(1_500);

/// Fewer pairs say nothing.
const FEWEST: usize = 4;

/// What 1 % of the traces may cost, in per cent of the CPU.
const TARGET: f64 = 3.0;

/// Pairs of neighbouring turns, each with the cost of traces in it.
#[derive(Debug)]
pub(crate) struct Turns {
    /// Messages per second with traces, as a share of those without.
    rate: Vec<f64>,
    /// The daemon's CPU per message with traces, as a share of that without.
    cpu: Vec<f64>,
}

/// What a turn did.
#[derive(Debug, Clone, Copy)]
struct Turn {
    rate: f64,
    cpu: f64,
}

/// Switches the traces while the daemon empties the queue, a b b a, until it is nearly empty.
pub(crate) async fn run(
    args: &Args,
    ratio: f64,
    folder: &Path,
    load: &Load,
    sink: SocketAddr,
    receiver: &str,
) -> anyhow::Result<Turns> {
    let mut database = PgConnection::connect(&load.url).await?;
    let config = folder.join("postrider.toml");
    let told = |on: bool| {
        let traces = on.then_some((ratio, receiver));
        fs::write(&config, configuration(args, &load.url, sink, traces))
    };
    told(false)?;
    let mut daemon = Daemon::start(&config, folder)?;
    let started = Instant::now();
    while settled(&mut database).await? == 0 {
        daemon.lives()?;
        ensure!(started.elapsed() < STUCK_AFTER, "nothing was settled in {STUCK_AFTER:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut turns = Turns { rate: Vec::new(), cpu: Vec::new() };
    let mut longest = 0;
    for pair in 0.. {
        let before = settled(&mut database).await?;
        if before + longest * 3 / 2 > i64::from(args.count) {
            break;
        }
        let mut measured = [None; 2];
        for on in [pair % 2 == 1, pair % 2 == 0] {
            told(on)?;
            daemon.reload()?;
            tokio::time::sleep(SETTLING).await;
            measured[usize::from(on)] = Some(turn(&mut daemon, &mut database).await?);
        }
        longest = longest.max(settled(&mut database).await? - before);
        if let [Some(without), Some(with)] = measured {
            turns.rate.push(with.rate / without.rate);
            turns.cpu.push(with.cpu / without.cpu);
        }
    }
    ensure!(turns.cpu.len() >= FEWEST, "too few deliveries for {FEWEST} pairs of turns: --count");
    Ok(turns)
}

async fn turn(daemon: &mut Daemon, database: &mut PgConnection) -> anyhow::Result<Turn> {
    let (count, cpu, at) = (settled(database).await?, usage::cpu(daemon.pid()), Instant::now());
    tokio::time::sleep(MEASURED).await;
    let count = settled(database).await? - count;
    let (cpu, took) = (usage::cpu(daemon.pid()).saturating_sub(cpu), at.elapsed());
    daemon.lives()?;
    ensure!(count > 0, "nothing was settled in {took:?}");
    let count = count as f64;
    Ok(Turn { rate: count / took.as_secs_f64(), cpu: cpu.as_secs_f64() / count })
}

impl fmt::Display for Turns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: f64| 100.0 * (share - 1.0);
        let ([_, rate, _], [low, cpu, high]) = (quartiles(&self.rate), quartiles(&self.cpu));
        let pairs = self.cpu.len();
        let word = if percent(cpu) < TARGET { "met" } else { "MISSED" };
        writeln!(f, "{pairs} pairs of turns; with traces, medians:")?;
        writeln!(f, "messages/s             {:>+10.1} %", percent(rate))?;
        writeln!(
            f,
            "CPU of the daemon      {:>+10.1} % a message (quartiles {:+.1} and {:+.1})",
            percent(cpu),
            percent(low),
            percent(high),
        )?;
        write!(f, "below {TARGET} %: {word}")
    }
}

fn quartiles(values: &[f64]) -> [f64; 3] {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| sorted[(sorted.len() - 1) * quarter / 4])
}
