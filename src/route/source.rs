//! Which source a route sends from (pure).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::config::Source;

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

    /// Whose turn it is.
    pub(super) fn next(&self) -> Arc<Source> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        self.sources[turn % self.sources.len()].clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(names: &[&str]) -> Result<Sources, String> {
        let source = |name: &str| Arc::new(Source { name: name.into(), ..Source::default() });
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        Sources::try_new(&["a", "b", "c"].map(source), &names)
    }

    #[test]
    fn each_has_its_turn() {
        let turns = |names: &[&str]| {
            let sources = sources(names).expect("known names");
            (0..4).map(|_| sources.next().name.clone()).collect::<String>()
        };
        assert_eq!(turns(&[]), "abca");
        assert_eq!(turns(&["c", "a"]), "caca");
    }

    #[test]
    fn an_unknown_name_is_told() {
        assert_eq!(sources(&["a", "x"]).expect_err("x is no source"), "x");
        assert_eq!(Sources::try_new(&[], &[]).expect_err("nothing to send from"), "");
    }
}
