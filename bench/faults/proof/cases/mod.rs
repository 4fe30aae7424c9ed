//! The cases: what is injected, what is promised, and whether it held.

mod database;
mod environment;
mod failover;
mod pooler;
mod process;
mod replicas;
mod storm;

use std::time::Duration;

use futures_util::future::BoxFuture;

use super::auditor::{Duplicates, Findings};
use super::client::Load;
use super::stage::{Stage, Template};

/// What one run is given.
#[derive(Clone, Copy)]
pub(crate) struct Run<'a> {
    /// A cluster to copy.
    pub(crate) template: &'a Template,
    /// Decides every random moment of this run.
    pub(crate) seed: u64,
    /// Kills of the long series.
    pub(crate) kills: u32,
}

/// How one run went.
pub(crate) enum Ran {
    /// To its end: what the audit found, and how long service took to come back.
    Done(Findings, Vec<Duration>),
    /// Not at all, because something is missing here.
    NotRun(String),
}

/// One fault case.
pub(crate) struct Case {
    /// How it is called on the command line.
    pub(crate) name: &'static str,
    /// What befalls the installation.
    pub(crate) fault: &'static str,
    /// Whether it is part of `make test`.
    pub(crate) short: bool,
    /// Carries one run out.
    pub(crate) run: for<'a> fn(Run<'a>) -> BoxFuture<'a, anyhow::Result<Ran>>,
}

macro_rules! case {
    ($name:literal, $run:path, $fault:literal) => {
        case!($name, $run, $fault, false)
    };
    ($name:literal, $run:path, $fault:literal, $short:literal) => {
        Case { name: $name, fault: $fault, short: $short, run: |run| Box::pin($run(run)) }
    };
}

/// All, in the order in which they are run.
pub(crate) const CASES: &[Case] = &[
    case!("1", process::after_the_reply, "kill -9 when the receiver has said 250", true),
    case!("2", process::before_connecting, "kill -9 between claim and connect"),
    case!("3", process::inside_data, "kill -9 inside DATA, before the dot", true),
    case!("4a", database::restart_immediate, "Postgres stopped immediately, started again", true),
    case!("4b", database::restart_fast, "Postgres stopped fast, started again"),
    case!("5", failover::synchronous, "primary killed, synchronous standby promoted"),
    case!("6", database::lost_answers, "connections cut after the commit, before its answer", true),
    case!("6b", database::silence, "the network to Postgres falls silent; no connection closes"),
    case!("7", environment::disk_full, "the disk of Postgres is full for a while"),
    case!("8", database::exhausted, "pool too small, deadlocks and serialization failures"),
    case!("8b", pooler::restarted, "PgBouncer killed and started again"),
    case!("9", database::deaf, "LISTEN connections killed over and over"),
    case!("9b", pooler::transaction_mode, "everything behind PgBouncer in transaction mode"),
    case!("10", process::terminate, "SIGTERM while mail is being sent", true),
    case!("10b", replicas::come_and_go, "replicas added and removed under load"),
    case!("11", process::frozen, "SIGSTOP for longer than the lease, then SIGCONT"),
    case!("12", replicas::from_one_to_eight, "1 to 8 replicas at once, a deep backlog, a limit"),
    case!("13", environment::clock_jumps, "the clock of one replica jumps by hours and days"),
    case!("14", environment::few_descriptors, "256 file descriptors, 400 connections allowed"),
    case!("15", environment::held_snapshot, "a foreign transaction holds its snapshot"),
    case!("16", environment::next_version, "the schema is one version newer"),
    case!("42a", database::restart_during_terminate, "4 during 10"),
    case!("42b", environment::full_then_jump, "7, then 13"),
    case!(
        "storm",
        storm::of_bounces,
        "kill -9 of daemons, API and Postgres in a storm of bounces and events"
    ),
    case!("kills", process::kills, "kill -9 of random replicas, over and over"),
    case!("terms", process::terms, "SIGTERM of random replicas, over and over"),
];

/// Ends a run in the usual way.
async fn end(stage: Stage, load: Load, allowed: Duplicates) -> anyhow::Result<Ran> {
    let (findings, recoveries) = stage.finish(load, allowed).await?;
    Ok(Ran::Done(findings, recoveries))
}
