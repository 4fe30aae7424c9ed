//! Replies that no rule knows, counted by their shape.

use std::collections::HashMap;

use metrics::counter;
use parking_lot::Mutex;

use super::shape;
use crate::domain::verdict::{PeerReply, Stage};

/// Shapes held until they are written down; what comes beyond is counted together.
const MOST: usize = 200;

/// The shape under which the rest is counted.
const REST: &str = "(others)";

/// Characters of a sample.
const SAMPLE: usize = 300;

/// Replies of one shape that came since the last time they were taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    /// At which stage.
    pub stage: Stage,
    /// With which code.
    pub code: u16,
    /// The text without what is particular, the enhanced status before it.
    pub shape: String,
    /// How many.
    pub count: u64,
    /// One of them, without addresses.
    pub sample: String,
}

/// Collects them.
#[derive(Debug, Default)]
pub struct Unknowns {
    seen: Mutex<HashMap<(Stage, u16, String), (u64, String)>>,
}

impl Unknowns {
    /// A reply came that no rule knows.
    pub fn note(&self, stage: Stage, reply: &PeerReply) {
        let kind = if reply.code >= 500 { "5xx" } else { "4xx" };
        counter!("postrider_replies_unknown_total", "stage" => stage.as_str(), "code" => kind)
            .increment(1);
        let status = reply.enhanced.map(|status| format!("{status} ")).unwrap_or_default();
        let shape = format!("{status}{}", shape::of(&reply.text));
        let mut seen = self.seen.lock();
        let full = seen.len() >= MOST;
        let known = |key: &(Stage, u16, String)| seen.contains_key(key);
        let mut key = (stage, reply.code, shape);
        if full && !known(&key) {
            key = (stage, reply.code / 100 * 100, REST.to_owned());
        }
        let entry = seen.entry(key).or_insert_with(|| {
            let sample = shape::redacted(&reply.to_string(), SAMPLE);
            (0, sample)
        });
        entry.0 += 1;
    }

    /// Takes out what came.
    pub fn take(&self) -> Vec<Unknown> {
        let seen = std::mem::take(&mut *self.seen.lock());
        seen.into_iter()
            .map(|((stage, code, shape), (count, sample))| Unknown {
                stage,
                code,
                shape,
                count,
                sample,
            })
            .collect()
    }

    /// Puts back what could not be written down.
    pub fn put_back(&self, unknown: Vec<Unknown>) {
        let mut seen = self.seen.lock();
        for one in unknown {
            let entry = seen.entry((one.stage, one.code, one.shape)).or_insert((0, one.sample));
            entry.0 += one.count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::read::reply;
    use super::*;

    #[test]
    fn replies_of_one_shape_are_counted_together_and_no_flood_grows_the_memory() {
        let unknown = Unknowns::default();
        for n in 0..50 {
            let line = format!("550 <user{n}@example.org> gone fishing until {n}");
            unknown.note(Stage::Rcpt, &reply(&line).expect("a reply"));
        }
        let seen = unknown.take();
        assert_eq!(seen.len(), 1);
        assert_eq!((seen[0].count, &*seen[0].shape), (50, "<address> gone fishing until <n>"));
        assert!(seen[0].sample.starts_with("550 <address> gone"), "{}", seen[0].sample);
        assert!(unknown.take().is_empty());

        let word = |n: usize| {
            (0..3).map(|k| char::from(b'a' + (n / 26_usize.pow(k) % 26) as u8)).collect::<String>()
        };
        for n in 0..3_000 {
            let line = format!("550 no {}", word(n));
            unknown.note(Stage::Rcpt, &reply(&line).expect("a reply"));
        }
        let seen = unknown.take();
        assert!(seen.len() <= MOST + 2, "{}", seen.len());
        assert_eq!(seen.iter().map(|one| one.count).sum::<u64>(), 3_000);
        unknown.put_back(seen);
        assert_eq!(unknown.take().iter().map(|one| one.count).sum::<u64>(), 3_000);
    }
}
