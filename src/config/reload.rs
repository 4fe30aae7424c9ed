//! Reads the configuration again and publishes what may change while running.
//!
//! A file with a fault changes nothing. Throttles, rules, routes, sources, streams, mailbox
//! providers, `[adaptive]`, `[replies]`, `[smtp]`, `[scale]`, `alarm` and the log level apply at once to whoever watches; the rest
//! (see [`ReloadOutcome::NeedsRestart`]) keeps its running value until a restart, so that no
//! part sees half of a change. Every reload ends in one [`ReloadOutcome`], is logged and counted.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::fault::ConfigError;
use super::load::Loader;
use super::{Log, Settings};

/// How a reload ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReloadOutcome {
    /// These sections have new values.
    Applied {
        /// Sections, or `section.key`.
        changed: Vec<&'static str>,
    },
    /// The configuration says what it said before.
    Unchanged,
    /// The configuration is at fault; everything stays as it was.
    Refused(ConfigError),
    /// Some of what changed cannot change in a running process.
    NeedsRestart {
        /// What has new values all the same.
        changed: Vec<&'static str>,
        /// What keeps its old value until a restart.
        keys: Vec<&'static str>,
    },
}

impl ReloadOutcome {
    /// The name used in logs and metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Applied { .. } => "applied",
            Self::Unchanged => "unchanged",
            Self::Refused(_) => "refused",
            Self::NeedsRestart { .. } => "needs_restart",
        }
    }
}

/// Holds the running settings and replaces them.
pub struct Reloader {
    loader: Loader,
    settings: watch::Sender<Arc<Settings>>,
    /// One reload at a time: the later one must compare with what the earlier one left.
    turn: Mutex<()>,
}

impl Reloader {
    /// Publishes `initial` and remembers where to read it again.
    pub fn new(loader: Loader, initial: Settings) -> (Self, watch::Receiver<Arc<Settings>>) {
        let (settings, watching) = watch::channel(Arc::new(initial));
        (Self { loader, settings, turn: Mutex::new(()) }, watching)
    }

    /// Reads and checks the configuration, and publishes it if it is sound.
    pub fn reload(&self) -> ReloadOutcome {
        let _turn = self.turn.lock();
        let outcome = match self.loader.load() {
            Ok(loaded) => {
                for warning in &loaded.warnings {
                    tracing::warn!(%warning, "configuration");
                }
                self.apply(loaded.settings)
            }
            Err(error) => ReloadOutcome::Refused(error),
        };
        metrics::counter!("postrider_config_reloads_total", "outcome" => outcome.as_str())
            .increment(1);
        report(&outcome);
        outcome
    }

    fn apply(&self, new: Settings) -> ReloadOutcome {
        let running = Arc::clone(&self.settings.borrow());
        let keys = fixed(&running, &new);
        let changed = live(&running, &new);
        if !changed.is_empty() {
            self.settings.send_replace(Arc::new(merged(&running, new)));
        }
        match (changed.is_empty(), keys.is_empty()) {
            (true, true) => ReloadOutcome::Unchanged,
            (false, true) => ReloadOutcome::Applied { changed },
            (_, false) => ReloadOutcome::NeedsRestart { changed, keys },
        }
    }
}

fn report(outcome: &ReloadOutcome) {
    match outcome {
        ReloadOutcome::Applied { changed } => {
            tracing::info!(?changed, "configuration reloaded");
        }
        ReloadOutcome::Unchanged => tracing::info!("configuration reloaded, nothing changed"),
        ReloadOutcome::Refused(error) => {
            for fault in &error.faults {
                tracing::error!(%fault, "configuration refused, the running one stays");
            }
        }
        ReloadOutcome::NeedsRestart { changed, keys } => {
            tracing::warn!(?changed, ?keys, "configuration reloaded, some keys need a restart");
        }
    }
}

/// What changed and applies at once.
fn live(old: &Settings, new: &Settings) -> Vec<&'static str> {
    differing([
        ("stream", old.streams != new.streams),
        ("mailbox_provider", old.mailbox_providers != new.mailbox_providers),
        ("throttle", old.throttles != new.throttles),
        ("adaptive", old.adaptive != new.adaptive),
        ("replies", old.replies != new.replies),
        ("route", old.routes != new.routes),
        ("rule", old.rules != new.rules),
        ("source", old.sources != new.sources),
        ("smtp", old.smtp != new.smtp),
        ("scale", old.scale != new.scale),
        ("alarm", old.alarm != new.alarm),
        ("log.level", old.log.level != new.log.level),
    ])
}

/// What changed and has to wait for a restart.
fn fixed(old: &Settings, new: &Settings) -> Vec<&'static str> {
    differing([
        ("database", old.database != new.database),
        ("cell", old.cells != new.cells),
        ("queue", old.queue != new.queue),
        ("worker", old.worker != new.worker),
        ("dns", old.dns != new.dns),
        ("api", old.api != new.api),
        ("telemetry", old.telemetry != new.telemetry),
        ("secrets", old.secrets != new.secrets),
        ("log.format", old.log.format != new.log.format),
    ])
}

fn differing<const N: usize>(keys: [(&'static str, bool); N]) -> Vec<&'static str> {
    keys.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
}

/// The new settings with the running values where only a restart may change them.
fn merged(running: &Settings, new: Settings) -> Settings {
    Settings {
        database: running.database.clone(),
        cells: running.cells.clone(),
        queue: running.queue.clone(),
        worker: running.worker.clone(),
        dns: running.dns.clone(),
        api: running.api.clone(),
        telemetry: running.telemetry.clone(),
        secrets: running.secrets.clone(),
        log: Log { level: new.log.level.clone(), format: running.log.format },
        ..new
    }
}
