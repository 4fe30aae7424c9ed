//! Live and ready: parts report, the probes read.
//!
//! A part is ready when it says so, until it says otherwise or is dropped: a task that
//! panicked is not ready. A part that once said it is alive must go on saying so; silence
//! beyond what it announced, and [`PATIENCE`] at least, means that the process hangs and should
//! be restarted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

/// How long a part may be silent, at least, after it began to report that it is alive.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The health of one process.
#[derive(Clone, Default)]
pub struct Health {
    parts: Arc<Mutex<BTreeMap<Arc<str>, State>>>,
    changed: Arc<Notify>,
}

#[derive(Clone)]
struct State {
    /// Why it is not ready.
    obstacle: Option<String>,
    /// Silent until then, it hangs; `None`: it never said that it is alive.
    overdue_from: Option<Instant>,
    /// Which holder of the name reports; a successor is not undone by its predecessor's end.
    term: u64,
}

/// One part's voice.
pub struct Part {
    name: Arc<str>,
    term: u64,
    health: Health,
}

/// What a probe sees of a part.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// Whether it is ready.
    pub ready: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Health {
    /// Of a process without parts: live and ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a part; it is not ready before it says so. A part of the same name is replaced.
    pub fn part(&self, name: impl Into<Arc<str>>) -> Part {
        let name = name.into();
        let mut parts = self.parts.lock();
        let term = parts.get(&name).map_or(0, |state| state.term + 1);
        let state = State { obstacle: Some("starting".into()), overdue_from: None, term };
        parts.insert(Arc::clone(&name), state);
        Part { name, term, health: self.clone() }
    }

    /// Every part and whether it is ready.
    pub fn readiness(&self) -> BTreeMap<String, Report> {
        let report = |state: &State| Report {
            ready: state.obstacle.is_none(),
            reason: state.obstacle.clone(),
        };
        self.parts.lock().iter().map(|(name, state)| (name.to_string(), report(state))).collect()
    }

    /// Resolves when a part became ready or ceased to be. Only a hint: look now and then, too.
    pub fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Parts that have been silent for too long; none in a live process.
    pub fn silent(&self) -> Vec<String> {
        let now = Instant::now();
        let silent = |state: &State| state.overdue_from.is_some_and(|overdue| now > overdue);
        let parts = self.parts.lock();
        parts.iter().filter(|(_, state)| silent(state)).map(|(name, _)| name.to_string()).collect()
    }
}

impl Part {
    /// It does its work.
    pub fn ready(&self) {
        let mut new = false;
        self.change(|state| new = state.obstacle.take().is_some());
        self.say_changed(new);
    }

    /// It cannot do its work for now.
    pub fn not_ready(&self, why: &str) {
        let mut new = false;
        self.change(|state| {
            // The same again costs nothing.
            if state.obstacle.as_deref() != Some(why) {
                state.obstacle = Some(why.to_owned());
                new = true;
            }
        });
        self.say_changed(new);
    }

    /// It still runs, whatever the outside does, and will say so again within `longest`, or
    /// [`PATIENCE`] where that is more.
    pub fn alive(&self, longest: Duration) {
        let overdue = Instant::now() + longest.max(PATIENCE);
        self.change(|state| state.overdue_from = Some(overdue));
    }

    fn say_changed(&self, new: bool) {
        if new {
            self.health.changed.notify_waiters();
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut parts = self.health.parts.lock();
        if let Some(state) = parts.get_mut(&self.name).filter(|state| state.term == self.term) {
            change(state);
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.change(|state| {
            state.obstacle = Some("stopped".into());
            state.overdue_from = None;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_ready_from_its_word_to_its_end() {
        let health = Health::new();
        let queue = health.part("queue");
        assert!(!health.readiness()["queue"].ready);
        queue.ready();
        assert!(health.readiness()["queue"].ready);
        queue.not_ready("the database does not answer");
        let reason = health.readiness()["queue"].reason.clone();
        assert_eq!(reason.as_deref(), Some("the database does not answer"));
        queue.ready();
        drop(queue);
        assert_eq!(health.readiness()["queue"].reason.as_deref(), Some("stopped"));
    }

    #[test]
    fn the_end_of_a_predecessor_does_not_undo_its_successor() {
        let health = Health::new();
        let first = health.part("queue");
        let second = health.part("queue");
        second.ready();
        drop(first);
        assert!(health.readiness()["queue"].ready);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_noticed_only_of_those_who_spoke() {
        let health = Health::new();
        let pump = health.part("pump");
        let _quiet = health.part("quiet");
        pump.alive(Duration::ZERO);
        tokio::time::advance(PATIENCE).await;
        assert_eq!(health.silent(), Vec::<&str>::new());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(health.silent(), ["pump"]);
        pump.alive(Duration::ZERO);
        assert_eq!(health.silent(), Vec::<&str>::new());
    }
}
