//! One stretch of steady delivery: mails a second, and CPU of both sides of the queue.

use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::program::Program;
use crate::sink::Sink;
use crate::stand::Stand;
use crate::usage;

/// Longest wait for the first mail.
const FIRST_WITHIN: Duration = Duration::from_secs(60);

/// What a stretch reached.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn {
    /// Mails in it.
    pub(crate) mails: f64,
    /// Mails a second at the sink.
    pub(crate) rate: f64,
    /// CPU of the daemon, microseconds a mail.
    pub(crate) daemon: f64,
    /// CPU of Postgres, microseconds a mail.
    pub(crate) postgres: f64,
    /// From the start of the measurement to the first mail.
    pub(crate) first: Duration,
}

impl Turn {
    /// Waits for the first mail and for `warm_up`, then measures for some seconds.
    pub(crate) async fn measure(
        stand: &Stand,
        daemon: &mut Program,
        sink: &Sink,
        warm_up: Duration,
        seconds: u64,
    ) -> anyhow::Result<Self> {
        let started = Instant::now();
        while sink.taken() == 0 {
            daemon.check()?;
            ensure!(started.elapsed() < FIRST_WITHIN, "no mail within {FIRST_WITHIN:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let first = started.elapsed();
        tokio::time::sleep(warm_up).await;
        let length = Duration::from_secs(seconds);
        Ok(Self { first, ..Self::of_now(stand, daemon, sink, length).await? })
    }

    /// Measures what goes on already.
    pub(crate) async fn of_now(
        stand: &Stand,
        daemon: &mut Program,
        sink: &Sink,
        length: Duration,
    ) -> anyhow::Result<Self> {
        let postmaster = stand.postmaster()?;
        let (began, taken) = (Instant::now(), sink.taken());
        let before = (usage::cpu(daemon.pid()), usage::cpu_of_family(postmaster));
        tokio::time::sleep(length).await;
        daemon.check()?;
        let mails = (sink.taken() - taken) as f64;
        let took = began.elapsed().as_secs_f64();
        let micros = |now: Duration, then: Duration| {
            now.saturating_sub(then).as_secs_f64() * 1e6 / mails.max(1.0)
        };
        Ok(Self {
            mails,
            rate: mails / took,
            daemon: micros(usage::cpu(daemon.pid()), before.0),
            postgres: micros(usage::cpu_of_family(postmaster), before.1),
            first: Duration::ZERO,
        })
    }
}
