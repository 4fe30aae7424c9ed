//! Where the database's clock stands on this process's (pure).
//!
//! Each exchange shows that the database looked at its clock between the question and the
//! answer. What all of them allow together is far narrower than a slow one of them, so an
//! exchange that took long makes no token unusable. The bounds are widened as time passes by
//! more than clocks drift or are slewed; a clock that was set begins anew.

/// How much faster one clock may go than the other.
const DRIFT: f64 = 0.0005;

/// Nanoseconds to add to the database's time, at least and at most.
#[derive(Debug, Default)]
pub(super) struct Offset {
    known: Option<(i64, i64)>,
    at: u64,
}

impl Offset {
    /// The database's clock said `theirs` between `sent` and `now`. When that was, at the
    /// earliest and at the latest.
    pub(super) fn place(&mut self, sent: u64, now: u64, theirs: i64) -> (u64, u64) {
        let (least, most) = (sent as i64 - theirs, now as i64 - theirs);
        let drift = (now.saturating_sub(self.at) as f64 * DRIFT).min(1e9) as i64;
        let known = self
            .known
            .map(|(low, high)| (least.max(low - drift), most.min(high + drift)))
            .filter(|(low, high)| low <= high)
            .unwrap_or((least, most));
        self.known = Some(known);
        self.at = now;
        (theirs.saturating_add(known.0) as u64, theirs.saturating_add(known.1) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: u64 = 1_000_000;
    const NOW: u64 = 1 << 62;
    const THEIRS: i64 = 1_800_000_000_000_000_000;

    #[test]
    fn a_slow_exchange_is_placed_by_the_quick_ones() {
        let mut offset = Offset::default();
        assert_eq!(offset.place(NOW, NOW + MILLI, THEIRS), (NOW, NOW + MILLI));
        let later = NOW + 100 * MILLI;
        let theirs = THEIRS + 100 * MILLI as i64;
        let (earliest, latest) = offset.place(later - 40 * MILLI, later + 60 * MILLI, theirs);
        assert!(latest - earliest < 2 * MILLI, "{}", latest - earliest);
        assert!(earliest <= later && later <= latest);
    }

    #[test]
    fn a_clock_that_was_set_begins_anew() {
        let mut offset = Offset::default();
        offset.place(NOW, NOW + MILLI, THEIRS);
        let set = THEIRS - 3_600_000 * MILLI as i64;
        let (sent, now) = (NOW + 5 * MILLI, NOW + 9 * MILLI);
        assert_eq!(offset.place(sent, now, set), (sent, now));
    }
}
