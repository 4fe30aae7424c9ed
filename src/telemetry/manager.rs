//! What the service manager hears: ready, alive, reloading, stopping (sd_notify(3)).
//!
//! Nothing is said where nobody listens (no `NOTIFY_SOCKET`), and a message that cannot be
//! sent is no reason to fail: the manager restarts a process that it does not hear from.
//!
//! Ready is said once, when every part is ready for the first time; a database that goes away
//! later shows in the status, but restarting the process would not bring it back. The watchdog
//! is fed only while every part that reports its life goes on doing so (telemetry/health.rs):
//! for the daemon, while the pump turns.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

use super::health::Health;

/// How often the parts are looked at when none says that it changed.
const LOOK: Duration = Duration::from_secs(1);

/// The manager that started this process, if one did.
#[derive(Clone, Default)]
pub struct Manager(Arc<Mutex<Said>>);

/// What it was told last.
#[derive(Default)]
struct Said {
    stage: Stage,
    status: String,
    /// How the last reload ended.
    reload: Option<String>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Starting,
    Ready,
    Stopping,
}

impl Manager {
    /// The configuration is being read again. Before the process is ready, and when it stops,
    /// the manager waits for something else.
    pub fn reloading(&self) {
        if self.0.lock().stage == Stage::Ready {
            let mut words = vec![NotifyState::Reloading];
            words.extend(NotifyState::monotonic_usec_now());
            say(&words);
        }
    }

    /// The reload is over; `how` it ended is shown with the status from now on.
    pub fn reloaded(&self, how: &str) {
        let mut said = self.0.lock();
        said.reload = Some(how.to_owned());
        if said.stage == Stage::Ready {
            said.status = shown("ready", said.reload.as_deref());
            say(&[NotifyState::Ready, NotifyState::Status(&said.status)]);
        }
    }

    /// Tells what the parts report, and that the process stops once `stop` is cancelled; goes on
    /// feeding the watchdog until the process ends.
    pub async fn follow(self, health: Health, stop: CancellationToken) {
        let watchdog = sd_notify::watchdog_enabled();
        let every = watchdog.map_or(LOOK, |limit| LOOK.min(limit / 3));
        loop {
            // Asked for before the look: what changes in between is not missed.
            let changed = health.changed();
            tokio::pin!(changed);
            changed.as_mut().enable();
            self.tell(&health, &stop);
            if watchdog.is_some() && is_alive(&health) {
                say(&[NotifyState::Watchdog]);
            }
            let stopping = self.0.lock().stage == Stage::Stopping;
            tokio::select! {
                () = changed => {}
                () = stop.cancelled(), if !stopping => {}
                () = tokio::time::sleep(every) => {}
            }
        }
    }

    fn tell(&self, health: &Health, stop: &CancellationToken) {
        let mut said = self.0.lock();
        let mut words = Vec::new();
        let obstacles: Vec<String> = health
            .readiness()
            .into_iter()
            .filter_map(|(part, report)| Some(format!("{part}: {}", report.reason?)))
            .collect();
        let is_ready = obstacles.is_empty();
        let status = if stop.is_cancelled() {
            "stopping: finishing what is in hand".to_owned()
        } else if is_ready {
            shown("ready", said.reload.as_deref())
        } else {
            shown(&format!("not ready: {}", obstacles.join("; ")), said.reload.as_deref())
        };
        match said.stage {
            Stage::Starting | Stage::Ready if stop.is_cancelled() => {
                said.stage = Stage::Stopping;
                words.push(NotifyState::Stopping);
            }
            Stage::Starting if is_ready => {
                said.stage = Stage::Ready;
                words.push(NotifyState::Ready);
            }
            Stage::Starting | Stage::Ready | Stage::Stopping => {}
        }
        if said.status != status {
            said.status = status;
            words.push(NotifyState::Status(&said.status));
        }
        if !words.is_empty() {
            say(&words);
        }
    }
}

/// Whether the watchdog may be fed: nobody who should speak is silent.
fn is_alive(health: &Health) -> bool {
    health.silent().is_empty()
}

/// A status is one line.
fn shown(state: &str, reload: Option<&str>) -> String {
    let text = match reload {
        Some(how) => format!("{state}; last reload: {how}"),
        None => state.to_owned(),
    };
    text.replace(char::is_control, " ")
}

fn say(words: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(words) {
        tracing::debug!(%error, "the service manager was not told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_said_once_and_a_stop_is_the_last_word() {
        let (manager, health) = (Manager::default(), Health::new());
        let queue = health.part("queue");
        let stop = CancellationToken::new();
        let status = || manager.0.lock().status.clone();
        manager.tell(&health, &stop);
        assert_eq!(status(), "not ready: queue: starting");
        assert!(manager.0.lock().stage == Stage::Starting);
        queue.ready();
        manager.tell(&health, &stop);
        assert_eq!(status(), "ready");
        queue.not_ready("the database does not answer");
        manager.reloaded("refused");
        manager.tell(&health, &stop);
        assert_eq!(
            status(),
            "not ready: queue: the database does not answer; last reload: refused"
        );
        assert!(manager.0.lock().stage == Stage::Ready, "it stays started");
        stop.cancel();
        manager.tell(&health, &stop);
        manager.reloaded("applied");
        assert!(manager.0.lock().stage == Stage::Stopping);
        assert_eq!(status(), "stopping: finishing what is in hand");
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_hangs_starves_the_watchdog() {
        let health = Health::new();
        let pump = health.part("queue");
        pump.ready();
        assert!(is_alive(&health), "nobody has promised to speak");
        pump.alive(Duration::from_secs(100));
        tokio::time::advance(Duration::from_secs(99)).await;
        assert!(is_alive(&health));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(!is_alive(&health), "though it is still called ready");
        pump.alive(Duration::ZERO);
        assert!(is_alive(&health));
    }
}
