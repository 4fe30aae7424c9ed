//! What a turn means for the endpoint (pure).
//!
//! It took something: it works. What it refused goes to the list of retries and the cursor
//! goes on. It took nothing of what is new: it fails; the cursor stays and it is left alone for
//! longer each time. What is told again says nothing about the endpoint when it is refused: it
//! may be the event.

use std::time::Duration;

use super::lease::{Again, Lease, Mood, Report, Retry};
use crate::domain::backoff::Backoff;
use crate::event::cursor::Place;
use crate::event::log::{Entry, Page};
use crate::event::payload::Event;

/// How long an endpoint rests whose list of retries is full.
const FULL_REST: Duration = Duration::from_secs(5);

/// An event in a turn.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) place: Place,
    pub(super) job: Option<i64>,
    /// `None`: its day was dropped.
    pub(super) event: Option<Event>,
    /// How often it was refused before; 0: it is new.
    pub(super) tries: u32,
    age: Duration,
    pub(super) fate: Fate,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing yet.
    Unsent,
    /// It waits behind a retry of its delivery.
    Behind,
    /// It was taken.
    Taken,
    /// It was not; with the wait that was asked for.
    Refused(Option<Duration>),
    /// Nothing is wanted any more.
    Gone,
}

impl Item {
    pub(super) fn new(entry: &Entry) -> Self {
        Self {
            place: entry.place,
            job: entry.event.delivery.map(crate::domain::ids::DeliveryId::get),
            event: Some(entry.event.clone()),
            tries: 0,
            age: Duration::ZERO,
            fate: Fate::Unsent,
        }
    }

    pub(super) fn again(retry: Retry) -> Self {
        Self {
            place: retry.place,
            job: retry.job,
            event: retry.entry.map(|entry| entry.event),
            tries: retry.tries.max(1),
            age: retry.age,
            fate: Fate::Unsent,
        }
    }

    /// Whether it is to be sent.
    pub(super) fn is_open(&self) -> bool {
        self.fate == Fate::Unsent && self.event.is_some()
    }
}

/// What is written after a turn. `full`: the list of retries is, so nothing new was read.
pub(super) fn judge(
    lease: &Lease,
    page: &Page,
    items: &[Item],
    error: Option<String>,
    backoff: &Backoff,
    give_up_after: Duration,
    full: bool,
) -> Report {
    let fresh = || items.iter().filter(|item| item.tries == 0);
    let taken = items.iter().any(|item| item.fate == Fate::Taken);
    let refused = |item: &Item| matches!(item.fate, Fate::Refused(_) | Fate::Gone);
    let failed = !taken && fresh().any(refused);
    // Nothing was begun although there is something: the time was over, or it is shut down.
    let untouched = !taken && !failed && fresh().any(|item| item.fate == Fate::Unsent);
    let mut report = Report {
        at: if failed || untouched { lease.at } else { page.end },
        mood: if failed { Mood::Bad } else { Mood::Same },
        wait: if full { FULL_REST } else { Duration::ZERO },
        error,
        gone: items.iter().any(|item| item.fate == Fate::Gone),
        over: Vec::new(),
        again: Vec::new(),
    };
    if taken {
        report.mood = Mood::Good;
    }
    if failed {
        let asked = items.iter().filter_map(Item::asked).max().unwrap_or_default();
        report.wait = backoff.delay(lease.failures + 1, rand::random()).max(asked);
    }
    for item in items {
        let wait = || {
            let drawn = backoff.delay(item.tries + 1, rand::random());
            drawn.max(item.asked().unwrap_or_default())
        };
        let again = |wait| Again { place: item.place, job: item.job, wait };
        match (item.fate, item.tries) {
            (Fate::Taken, 0) => {}
            (Fate::Taken, _) => report.over.push(item.place),
            (Fate::Unsent, 1..) if item.event.is_none() => report.over.push(item.place),
            (Fate::Refused(_), 1..) if item.age > give_up_after => report.over.push(item.place),
            (Fate::Unsent | Fate::Behind | Fate::Gone, 1..) => {}
            // What is new: the cursor goes past it only where it is told again.
            (_, 0) if failed || untouched => {}
            (Fate::Refused(_), _) | (Fate::Gone, 0) => report.again.push(again(wait())),
            (Fate::Unsent | Fate::Behind, 0) => report.again.push(again(Duration::ZERO)),
        }
    }
    report
}

impl Item {
    const fn asked(&self) -> Option<Duration> {
        match self.fate {
            Fate::Refused(asked) => asked,
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{TenantId, WebhookId};

    fn lease(failures: u32) -> Lease {
        Lease::for_testing(WebhookId::new(1), TenantId::new(1), failures)
    }

    fn place(n: i64) -> Place {
        Place { xid: n, event: n }
    }

    fn item(n: i64, job: i64, tries: u32, fate: Fate) -> Item {
        let event = Some(Event::test(WebhookId::new(1), 0));
        Item { place: place(n), job: Some(job), event, tries, age: Duration::ZERO, fate }
    }

    fn judged(failures: u32, items: &[Item]) -> Report {
        let page = Page { events: Vec::new(), end: place(9), more: false };
        let give_up = Duration::from_secs(60);
        judge(&lease(failures), &page, items, None, &Backoff::default(), give_up, false)
    }

    #[test]
    fn where_something_was_taken_the_cursor_goes_on_and_the_rest_is_told_again() {
        let report = judged(
            3,
            &[
                item(1, 1, 0, Fate::Refused(None)),
                item(2, 2, 0, Fate::Taken),
                item(3, 1, 0, Fate::Unsent),
                item(4, 7, 0, Fate::Behind),
            ],
        );
        assert_eq!((report.mood, report.at), (Mood::Good, place(9)));
        let again: Vec<_> =
            report.again.iter().map(|one| (one.place, one.wait.is_zero())).collect();
        assert_eq!(again, [(place(1), false), (place(3), true), (place(4), true)]);
    }

    #[test]
    fn where_nothing_was_taken_the_cursor_stays_and_the_wait_grows() {
        let asked = Duration::from_secs(100_000);
        let report = judged(0, &[item(1, 1, 0, Fate::Refused(Some(asked)))]);
        assert_eq!((report.mood, report.at, report.wait), (Mood::Bad, lease(0).at, asked));
        assert!(report.again.is_empty());
        let later = judged(9, &[item(1, 1, 0, Fate::Refused(None))]);
        assert!(later.wait > Duration::from_secs(3_600), "{:?}", later.wait);
    }

    #[test]
    fn a_retry_says_nothing_about_the_endpoint_and_ends_when_it_is_too_old() {
        let mut old = item(1, 1, 4, Fate::Refused(None));
        old.age = Duration::from_secs(61);
        let report = judged(0, &[old, item(2, 2, 1, Fate::Refused(None))]);
        assert_eq!((report.mood, report.over.as_slice()), (Mood::Same, &[place(1)][..]));
        assert_eq!(report.again.len(), 1);
    }

    #[test]
    fn what_was_not_begun_changes_nothing() {
        let report = judged(0, &[item(1, 1, 0, Fate::Unsent)]);
        assert_eq!((report.mood, report.at), (Mood::Same, lease(0).at));
        assert!(report.again.is_empty());
    }
}
