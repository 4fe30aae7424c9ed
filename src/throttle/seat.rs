//! A replica's part of one concurrency limit (pure).
//!
//! The cluster deals the slots of a limit so that the allotments never exceed it. A
//! replica uses no more than it was allotted, and of that no more than its target: what
//! it should come down to when others are hungry. It reports how many it keeps, which
//! is never less than it may come to use before the answer; so allotments can shrink
//! with no moment in which two replicas use the same slot.
//!
//! An allotment is used for [`TRUST`] after the question that renewed it was sent; the
//! cluster gives it to others no earlier than a second after that.

/// How long an allotment is used without being renewed.
const TRUST: u64 = 2_000_000_000;

/// Between two exchanges while slots are in use.
const RENEW: u64 = 400_000_000;

/// The same while somebody waits for slots.
const INTERVAL: u64 = 80_000_000;

/// The same when nothing was ever answered, or slots are to be passed on.
const HURRY: u64 = super::stock::HURRY;

/// Without demand for so long the allotment is given up.
const IDLE: u64 = 500_000_000;

/// See the file's header.
#[derive(Debug, Default)]
pub(super) struct Seat {
    allotted: u32,
    target: u32,
    trusted_until: u64,
    asked_at: Option<u64>,
    /// Most in use since the last exchange, and how many more were wanted.
    peak: u32,
    missed: u32,
    want: u32,
    touched_at: u64,
    /// The cluster may hold something for us.
    known: bool,
}

/// What a replica asks for one concurrency limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SeatAsk {
    /// It goes on to use at most so many until it is answered.
    pub(super) keep: u32,
    /// It could use so many; 0 with a `keep` of 0 gives everything up.
    pub(super) want: u32,
}

impl Seat {
    /// Slots that may be in use now.
    pub(super) fn cap(&self, now: u64) -> u32 {
        if now < self.trusted_until { self.allotted.min(self.target) } else { 0 }
    }

    /// So many are in use after some were taken.
    pub(super) fn took(&mut self, now: u64, used: u32) {
        self.touched_at = now;
        self.peak = self.peak.max(used);
    }

    /// So many more were wanted than there were.
    pub(super) fn miss(&mut self, now: u64, more: u32) {
        self.touched_at = now;
        self.missed = self.missed.max(more);
    }

    /// Whether there are slots that others should have, with `used` in use.
    pub(super) fn passes_on(&self, used: u32) -> bool {
        self.known && self.allotted > self.target.max(used)
    }

    /// When to exchange, if there is a reason. `used` slots are in use.
    pub(super) fn due(&self, now: u64, used: u32) -> Option<u64> {
        if used == 0 && self.missed == 0 && !self.known {
            return None;
        }
        let stale = now >= self.trusted_until && self.missed > 0;
        let idle = used == 0 && now > self.touched_at + IDLE;
        let wait = if stale || self.passes_on(used) || idle {
            HURRY
        } else if self.missed > 0 {
            INTERVAL
        } else {
            RENEW
        };
        Some(self.asked_at.map_or(now, |at| at + wait))
    }

    /// What to ask the cluster for now.
    pub(super) fn ask(&mut self, now: u64, used: u32, limit: u32) -> SeatAsk {
        let idle = used == 0 && self.missed == 0 && now > self.touched_at + IDLE;
        self.want = if idle {
            0
        } else if self.missed > 0 {
            self.peak.max(used).saturating_add(self.missed)
        } else {
            self.peak.max(used).max(self.want / 2).max(1)
        }
        .min(limit);
        if idle {
            self.allotted = 0;
        }
        self.peak = used;
        self.missed = 0;
        self.asked_at = Some(now);
        SeatAsk { keep: self.cap(now).max(used), want: self.want }
    }

    /// The answer to a question of `sent`. Whether there is more than before.
    pub(super) fn receive(&mut self, sent: u64, allotted: u32, target: u32) -> bool {
        let before = self.cap(sent);
        self.allotted = allotted;
        self.target = target;
        self.trusted_until = sent + TRUST;
        self.known = allotted > 0 || self.want > 0;
        self.cap(sent) > before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const NOW: u64 = 1 << 62;

    #[test]
    fn an_allotment_ends_unless_it_is_renewed() {
        let mut seat = Seat::default();
        assert_eq!(seat.cap(NOW), 0, "nothing before the first answer");
        seat.miss(NOW, 9);
        assert_eq!(seat.due(NOW, 0), Some(NOW));
        assert_eq!(seat.ask(NOW, 0, 5), SeatAsk { keep: 0, want: 5 });
        assert!(seat.receive(NOW, 5, 5));
        assert_eq!(seat.cap(NOW + 2 * SECOND - 1), 5);
        assert_eq!(seat.cap(NOW + 2 * SECOND), 0);
        assert_eq!(seat.ask(NOW + 3 * SECOND, 2, 5).keep, 2, "what is in use is in use");
    }

    #[test]
    fn who_is_above_its_target_shrinks_as_slots_come_back() {
        let mut seat = Seat::default();
        seat.miss(NOW, 4);
        seat.ask(NOW, 0, 4);
        seat.receive(NOW, 4, 4);
        seat.took(NOW, 4);
        seat.ask(NOW, 4, 4);
        seat.receive(NOW, 4, 2);
        assert_eq!(seat.cap(NOW), 2, "no new ones above the target");
        assert_eq!(seat.due(NOW, 4), Some(NOW + RENEW), "nothing to pass on yet");
        assert_eq!(seat.due(NOW, 3), Some(NOW + HURRY), "one is");
        assert_eq!(seat.ask(NOW, 3, 4).keep, 3);
        seat.receive(NOW, 3, 2);
        assert_eq!(seat.ask(NOW, 1, 4).keep, 2, "may come to use its target again");
    }

    #[test]
    fn without_demand_it_is_given_up() {
        let mut seat = Seat::default();
        seat.miss(NOW, 1);
        seat.ask(NOW, 0, 4);
        seat.receive(NOW, 1, 1);
        let later = NOW + SECOND;
        assert!(seat.due(later, 0).is_some());
        assert_eq!(seat.ask(later, 0, 4), SeatAsk { keep: 0, want: 0 });
        seat.receive(later, 0, 0);
        assert_eq!(seat.due(later, 0), None);
    }
}
