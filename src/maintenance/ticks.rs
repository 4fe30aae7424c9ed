//! Ticks that run exactly once per cluster: every process's apalis-cron ticks at the same
//! moments, and the first to insert the tick's row in `cron_fire` has the right to run.

use std::sync::Arc;
use std::time::Duration;

use apalis_core::monitor::Monitor;
use apalis_core::task::data::Data;
use apalis_core::worker::builder::WorkerBuilder;
use apalis_cron::timezone::Utc;
use apalis_cron::{CronScheduler, Schedule, Tick};
use chrono::DateTime;
use sqlx::PgPool;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::alarm::Alarms;
use super::health;
use super::tls_report::Reporter;
use crate::config::Settings;
use crate::domain::clock::Clock;
use crate::domain::ids::SessionId;
use crate::event::{days, track};
use crate::queue::{Generation, deadline, upkeep};
use crate::route::planner::Planner;

/// Rows of an old generation that are parked by one statement.
const COMPACT_ROWS: i64 = 5_000;

/// Longest time for one run: beyond it the server is gone.
const LONGEST: Duration = Duration::from_secs(600);

/// MTA-STS policies that one tick fetches again.
const STS_AT_ONCE: i64 = 100;

/// Rows of bookkeeping that one statement deletes.
const PRUNE_ROWS: i64 = 10_000;

/// What ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    /// Turns the ring of generations; parks what is left in old ones and truncates them.
    Generations,
    /// Creates and drops partitions; deletes old bookkeeping.
    Partitions,
    /// Looks for what an operator must be told of.
    Alarms,
    /// Sums up how tenants' mail is received, and acts on it.
    Health,
    /// In the home cell: reports to receivers on how TLS with them went.
    TlsReports,
    /// In the home cell: fetches MTA-STS policies again before they run out.
    StsPolicies,
}

impl Task {
    const ALL: [Self; 6] = [
        Self::Generations,
        Self::Partitions,
        Self::Alarms,
        Self::Health,
        Self::TlsReports,
        Self::StsPolicies,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Generations => "generations",
            Self::Partitions => "partitions",
            Self::Alarms => "alarms",
            Self::Health => "health",
            Self::TlsReports => "tls_reports",
            Self::StsPolicies => "sts_policies",
        }
    }

    const fn every(self) -> Duration {
        Duration::from_secs(match self {
            Self::Generations => 30,
            Self::Partitions => 3600,
            Self::Alarms => 60,
            Self::Health => health::EVERY.as_secs(),
            Self::TlsReports => 300,
            Self::StsPolicies => 600,
        })
    }

    /// Whether it is about receivers, of whom the home cell knows for all.
    const fn is_for_home(self) -> bool {
        matches!(self, Self::TlsReports | Self::StsPolicies)
    }
}

/// What a tick needs.
#[derive(Debug, Clone)]
pub struct Ticks {
    /// Connections.
    pub pool: PgPool,
    /// Settings in force.
    pub settings: watch::Receiver<Arc<Settings>>,
    /// Who asks for the right to run.
    pub session: SessionId,
    /// Mail to operators.
    pub alarms: Alarms,
    /// What is done in the home cell only.
    pub at_home: Option<AtHome>,
}

/// What is done once for all cells.
#[derive(Debug, Clone)]
pub struct AtHome {
    /// Reports to receivers.
    pub reporter: Reporter,
    /// Knows the policies of receivers.
    pub planner: Arc<Planner>,
}

impl Ticks {
    /// Ticks until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut monitor = Monitor::new();
        let at_home = self.at_home.is_some();
        for task in Task::ALL.into_iter().filter(|task| at_home || !task.is_for_home()) {
            let ticks = self.clone();
            monitor = monitor.register(move |_restart| {
                WorkerBuilder::new(format!("postrider-{}", task.name()))
                    .backend(CronScheduler::new(Beat::new(task.every())))
                    .data(ticks.clone())
                    .build(move |tick: Tick, ticks: Data<Ticks>| async move {
                        ticks.fire(task, tick.get_timestamp()).await;
                    })
            });
        }
        tokio::select! {
            () = stop.cancelled() => {}
            ended = monitor.run() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "the maintenance's clock stopped");
                }
            }
        }
    }

    async fn fire(&self, task: Task, at: u64) {
        let Some(at) = DateTime::from_timestamp(at as i64, 0) else { return };
        let asked = upkeep::may_fire(&self.pool, task.name(), at, self.session);
        let ran = match deadline::within(LONGEST, asked).await {
            Ok(true) => deadline::within(LONGEST, self.perform(task)).await,
            Ok(false) => return,
            Err(error) => Err(error),
        };
        match ran {
            Ok(()) => {
                metrics::counter!("postrider_maintenance_ticks_total", "task" => task.name())
                    .increment(1);
            }
            Err(error) => {
                tracing::warn!(task = task.name(), %error, "maintenance tick failed; the next one repeats it");
                metrics::counter!("postrider_maintenance_errors_total", "task" => task.name())
                    .increment(1);
            }
        }
    }

    async fn perform(&self, task: Task) -> Result<(), sqlx::Error> {
        let (queue, kept) = {
            let settings = self.settings.borrow();
            (settings.queue.clone(), settings.webhook.retention)
        };
        match task {
            Task::Generations => {
                upkeep::switch_generation(&self.pool, queue.generation_switch).await?;
                retire(&self.pool).await
            }
            Task::Partitions => {
                let rolled =
                    upkeep::roll_partitions(&self.pool, queue.retention, queue.history_retention)
                        .await;
                while upkeep::prune(&self.pool, PRUNE_ROWS).await? >= PRUNE_ROWS as u64 {}
                while upkeep::expire_suppressions(&self.pool, PRUNE_ROWS as i32).await?
                    >= PRUNE_ROWS as u64
                {}
                while track::forget(&self.pool, PRUNE_ROWS as i32).await? >= PRUNE_ROWS as u64 {}
                upkeep::forget_sessions(&self.pool).await?;
                let (events_made, events_dropped) = days::roll(&self.pool, kept).await?;
                let (made, dropped) = rolled?;
                let (made, dropped) = (made + events_made, dropped + events_dropped);
                tracing::info!(made, dropped, "partitions rolled");
                Ok(())
            }
            Task::Alarms => self.alarms.look(&self.pool, self.session).await,
            Task::Health => {
                let limits = self.settings.borrow().health.clone();
                health::look(&self.pool, &limits).await
            }
            Task::TlsReports => match &self.at_home {
                Some(at_home) => at_home.reporter.report(&self.pool).await,
                None => Ok(()),
            },
            Task::StsPolicies => match &self.at_home {
                Some(at_home) => at_home.planner.refresh_policies(STS_AT_ONCE).await.map(drop),
                None => Ok(()),
            },
        }
    }
}

/// Empties all generations but the current one and the one before it, and truncates those
/// that were in use. The one before is left to be claimed from until the ring turns again:
/// what flows is never copied. A writer may have read the number of a generation just before
/// it was retired, so those that are not in use are looked at too. One that is busy is left
/// to the next tick.
async fn retire(pool: &PgPool) -> Result<(), sqlx::Error> {
    let live = upkeep::live_generations(pool).await?;
    let kept = &live[live.len().saturating_sub(2)..];
    if kept.is_empty() {
        return Ok(());
    }
    for generation in Generation::ring().filter(|generation| !kept.contains(generation)) {
        upkeep::park(pool, generation, COMPACT_ROWS).await?;
        if live.contains(&generation) && upkeep::retire_generation(pool, generation).await? {
            tracing::debug!(generation = generation.number(), "generation truncated");
        }
    }
    Ok(())
}

/// Ticks at whole multiples of a period since 1970, so at the same moments everywhere.
#[derive(Debug, Clone)]
struct Beat {
    period: u64,
    last: u64,
    clock: Clock,
}

impl Beat {
    fn new(period: Duration) -> Self {
        Self { period: period.as_secs().max(1), last: 0, clock: Clock::System }
    }
}

impl Schedule<Utc> for Beat {
    fn next_tick(&mut self, _: &Utc) -> Option<Tick<Utc>> {
        let now = self.clock.unix_seconds();
        // A clock set back must not stop the ticks for as long as it was set back.
        let from = if self.last > now + self.period { now } else { now.max(self.last) };
        self.last = (from / self.period + 1) * self.period;
        Some(Tick::new(self.last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_fall_on_whole_periods_and_never_twice() {
        let clock = Clock::fixed(95);
        let mut beat = Beat { period: 30, last: 0, clock: clock.clone() };
        let mut next = || beat.next_tick(&Utc).map(|tick| tick.get_timestamp());
        assert_eq!(next(), Some(120));
        assert_eq!(next(), Some(150));
        if let Clock::Fixed(seconds) = &clock {
            seconds.store(1_000, std::sync::atomic::Ordering::Relaxed);
        }
        assert_eq!(next(), Some(1_020));
        if let Clock::Fixed(seconds) = &clock {
            seconds.store(100, std::sync::atomic::Ordering::Relaxed);
        }
        assert_eq!(next(), Some(120), "after the clock was set back");
    }
}
