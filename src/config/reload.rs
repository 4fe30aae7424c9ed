//! Reads the configuration again and publishes what may change while running.
//!
//! A file with a fault changes nothing. Throttles, rules, routes, sources, streams, mailbox
//! providers, `[adaptive]`, `[replies]`, `[smtp]`, `[dkim]`, `[scale]`, `[traces]`, `[reload]`, `alarm`, `tls_report`
//! and the log level apply at once to whoever watches; the rest
//! (see [`ReloadOutcome::NeedsRestart`]) keeps its running value until a restart, so that no
//! part sees half of a change. Every reload ends in one [`ReloadOutcome`], is logged and counted.

use std::fmt::Write;
use std::path::Path;
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

    /// What is told to whoever asked for the reload.
    pub fn told(&self) -> Told {
        let owned = |keys: &[&str]| keys.iter().map(ToString::to_string).collect();
        let mut told = Told { outcome: self.as_str().to_owned(), ..Told::default() };
        match self {
            Self::Unchanged => {}
            Self::Applied { changed } => told.changed = owned(changed),
            Self::Refused(error) => {
                told.faults = error.faults.iter().map(ToString::to_string).collect();
            }
            Self::NeedsRestart { changed, keys } => {
                (told.changed, told.keys) = (owned(changed), owned(keys));
            }
        }
        told
    }
}

/// A [`ReloadOutcome`] in words, as it goes over the wire.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Told {
    /// `applied`, `unchanged`, `refused` or `needs_restart`.
    pub outcome: String,
    /// Sections and keys with new values.
    #[serde(default)]
    pub changed: Vec<String>,
    /// Sections and keys that keep their old value until a restart.
    #[serde(default)]
    pub keys: Vec<String>,
    /// What is wrong, with file and line.
    #[serde(default)]
    pub faults: Vec<String>,
}

impl Told {
    /// Of a configuration that was refused.
    pub fn refused(error: &ConfigError) -> Self {
        ReloadOutcome::Refused(error.clone()).told()
    }

    /// One line of it.
    pub fn line(&self) -> String {
        let mut line = self.outcome.clone();
        for (what, list) in
            [("changed", &self.changed), ("restart for", &self.keys), ("at fault", &self.faults)]
        {
            if !list.is_empty() {
                let _ = write!(line, "; {what}: {}", list.join(", "));
            }
        }
        line
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
        // What never happened is shown as 0: only what grew from something can be noticed.
        for outcome in ["applied", "unchanged", "refused", "needs_restart"] {
            counted(outcome, 0);
        }
        let (settings, watching) = watch::channel(Arc::new(initial));
        (Self { loader, settings, turn: Mutex::new(()) }, watching)
    }

    /// The file that is read; `None` when there is none.
    pub fn path(&self) -> Option<&Path> {
        self.loader.path()
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
        counted(outcome.as_str(), 1);
        report(&outcome);
        outcome
    }

    fn apply(&self, new: Settings) -> ReloadOutcome {
        let running = Arc::clone(&self.settings.borrow());
        let keys = fixed(&running, &new);
        let changed = differing(live(&running, &new));
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

fn counted(outcome: &'static str, by: u64) {
    metrics::counter!("postrider_config_reloads_total", "outcome" => outcome).increment(by);
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

/// Whether a change of this key (`smtp.dot_timeout`, `route[0].port`) applies without a restart.
pub fn applies_live(key: &str) -> bool {
    let any = Settings::default();
    let section = key.split(['.', '[']).next().unwrap_or(key);
    live(&any, &any).iter().any(|(name, _)| [section, key].contains(name))
}

/// What differs between two configurations: what would apply at once, what needs a restart.
pub fn differences(old: &Settings, new: &Settings) -> (Vec<&'static str>, Vec<&'static str>) {
    (differing(live(old, new)), fixed(old, new))
}

/// What applies at once, and whether it changed.
fn live(old: &Settings, new: &Settings) -> [(&'static str, bool); 19] {
    [
        ("stream", old.streams != new.streams),
        ("mailbox_provider", old.mailbox_providers != new.mailbox_providers),
        ("throttle", old.throttles != new.throttles),
        ("adaptive", old.adaptive != new.adaptive),
        ("replies", old.replies != new.replies),
        ("route", old.routes != new.routes),
        ("rule", old.rules != new.rules),
        ("source", old.sources != new.sources),
        ("pool", old.pools != new.pools),
        ("smtp", old.smtp != new.smtp),
        ("dkim", old.dkim != new.dkim),
        ("feedback", old.feedback != new.feedback),
        ("scale", old.scale != new.scale),
        ("health", old.health != new.health),
        ("traces", old.traces != new.traces),
        ("reload", old.reload != new.reload),
        ("alarm", old.alarm != new.alarm),
        ("tls_report", old.tls_report != new.tls_report),
        ("log.level", old.log.level != new.log.level),
    ]
}

/// What changed and has to wait for a restart.
fn fixed(old: &Settings, new: &Settings) -> Vec<&'static str> {
    differing([
        ("database", old.database != new.database),
        ("cell", old.cells != new.cells),
        ("queue", old.queue != new.queue),
        ("worker", old.worker != new.worker),
        ("dns", old.dns != new.dns),
        ("tls", old.tls != new.tls),
        ("api", old.api != new.api),
        ("callbacks", old.callbacks != new.callbacks),
        ("inbound", old.inbound != new.inbound),
        ("suppression", old.suppression != new.suppression),
        ("webhook", old.webhook != new.webhook),
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
        tls: running.tls.clone(),
        api: running.api.clone(),
        callbacks: running.callbacks.clone(),
        inbound: running.inbound.clone(),
        suppression: running.suppression.clone(),
        webhook: running.webhook.clone(),
        telemetry: running.telemetry.clone(),
        secrets: running.secrets.clone(),
        log: Log { level: new.log.level.clone(), format: running.log.format },
        ..new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_applies_live_is_said_of_each_section() {
        let (one, mut other) = (Settings::default(), Settings::for_testing());
        other.log.level = "debug".into();
        other.scale.max_replicas += 1;
        other.smtp.max_connections += 1;
        other.streams.clear();
        let (live, fixed) = differences(&one, &other);
        assert!(live.len() >= 5 && fixed.len() >= 5, "{live:?} {fixed:?}");
        assert!(live.iter().all(|key| applies_live(key)), "{live:?}");
        assert!(!fixed.iter().any(|key| applies_live(key)), "{fixed:?}");
        assert!(applies_live("route[3].port") && applies_live("feedback.honour"));
        assert!(!applies_live("log.format"));
    }
}
