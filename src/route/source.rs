//! Which source a route sends from (pure).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::config::{Source, Stage};

/// The sources of one route, given out in turn.
#[derive(Debug)]
pub(super) struct Sources {
    sources: Vec<Arc<Source>>,
    next: AtomicUsize,
}

impl Sources {
    /// The named ones in the given order, or all when none is named. `Err` is
    /// a name that is no source's; there is no turn without any source, so
    /// that is a name too (empty).
    pub(super) fn try_new(all: &[Arc<Source>], names: &[String]) -> Result<Self, String> {
        let sources: Vec<Arc<Source>> = if names.is_empty() {
            all.to_vec()
        } else {
            let named = |name: &String| {
                all.iter().find(|source| source.name == *name).cloned().ok_or_else(|| name.clone())
            };
            names.iter().map(named).collect::<Result<_, _>>()?
        };
        if sources.is_empty() {
            return Err(String::new());
        }
        Ok(Self { sources, next: AtomicUsize::new(0) })
    }

    /// A provider sends from what it has: a source without a name, which no limit counts.
    pub(super) fn of_a_provider() -> Self {
        let nameless = Source { name: String::new(), ..Source::default() };
        Self { sources: vec![Arc::new(nameless)], next: AtomicUsize::new(0) }
    }

    /// Whose turn it is at a time (seconds since 1970): those in their warm-up come first,
    /// for what they may not take goes to the warm ones; those whose warm-up lies ahead last.
    pub(super) fn next(&self, now: u64) -> Arc<Source> {
        let turn = self.turn();
        let warming = |stage| matches!(stage, Stage::Warming(_));
        self.nth(turn, now, warming)
            .or_else(|| self.nth(turn, now, |stage| stage == Stage::Warm))
            .unwrap_or_else(|| self.sources[turn % self.sources.len()].clone())
    }

    /// Which of the warm ones has its turn, if there is one.
    pub(super) fn next_warm(&self, now: u64) -> Option<Arc<Source>> {
        self.nth(self.turn(), now, |stage| stage == Stage::Warm)
    }

    fn turn(&self) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn nth(&self, turn: usize, now: u64, of: impl Fn(Stage) -> bool) -> Option<Arc<Source>> {
        let those = || self.sources.iter().filter(|source| of(source.stage(now)));
        let number = those().count();
        those().nth(turn.checked_rem(number)?).cloned()
    }
}

#[cfg(test)]
mod tests {
    use chrono::NaiveDate;

    use super::*;
    use crate::config::{Ramp, WarmUp};

    fn sources(names: &[&str]) -> Result<Sources, String> {
        let source = |name: &str| Arc::new(Source { name: name.into(), ..Source::default() });
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        Sources::try_new(&["a", "b", "c"].map(source), &names)
    }

    #[test]
    fn each_has_its_turn() {
        let turns = |names: &[&str]| {
            let sources = sources(names).expect("known names");
            (0..4).map(|_| sources.next(0).name.clone()).collect::<String>()
        };
        assert_eq!(turns(&[]), "abca");
        assert_eq!(turns(&["c", "a"]), "caca");
    }

    #[test]
    fn those_in_their_warm_up_come_first_and_those_ahead_of_it_last() {
        let day = |day| NaiveDate::from_ymd_opt(1970, 1, day).expect("a date");
        let warming =
            |day_number| Some(WarmUp { starts: day(day_number), ramp: Ramp::Days(vec![10]) });
        let source = |name: &str, warm_up| {
            Arc::new(Source { name: name.into(), warm_up, ..Source::default() })
        };
        let all = [source("warm", None), source("new", warming(2)), source("old", None)];
        let sources = Sources::try_new(&all, &[]).expect("there are some");
        let turns =
            |now| (0..4).map(|_| sources.next(now).name.clone()).collect::<Vec<_>>().join(" ");
        assert_eq!(turns(0), "warm old warm old");
        assert_eq!(turns(86_400), "new new new new");
        assert_eq!(
            sources.next_warm(86_400).map(|source| source.name.clone()).as_deref(),
            Some("warm")
        );
        let later = turns(2 * 86_400);
        assert!(later.contains("new") && later.contains("old"), "{later}");
        let alone = Sources::try_new(&all[1..2], &[]).expect("there is one");
        assert_eq!(alone.next(0).name, "new");
        assert!(alone.next_warm(86_400).is_none());
    }

    #[test]
    fn an_unknown_name_is_told() {
        assert_eq!(sources(&["a", "x"]).expect_err("x is no source"), "x");
        assert_eq!(Sources::try_new(&[], &[]).expect_err("nothing to send from"), "");
    }
}
