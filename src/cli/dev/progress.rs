//! How far a campaign is, and its sum.

use std::fmt::{self, Write};
use std::time::Duration;

use serde::Deserialize;

use crate::sink::Stats;

/// What the API says of the message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Status {
    accepted: u64,
    suppressed: u64,
    deliveries: Counts,
}

/// Deliveries by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Counts {
    queued: u64,
    scheduled: u64,
    sending: u64,
    deferred: u64,
    delivered: u64,
    bounced: u64,
    expired: u64,
    suppressed: u64,
    cancelled: u64,
    dead_lettered: u64,
}

impl Status {
    /// Deliveries that have not come to an end.
    pub(super) fn waiting(&self) -> u64 {
        let Counts { queued, scheduled, sending, deferred, .. } = self.deliveries;
        queued + scheduled + sending + deferred
    }

    fn ended(&self) -> u64 {
        let Counts { delivered, bounced, expired, suppressed, cancelled, dead_lettered, .. } =
            self.deliveries;
        delivered + bounced + expired + suppressed + cancelled + dead_lettered
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { delivered, bounced, deferred, .. } = self.deliveries;
        write!(
            f,
            "{} accepted: {delivered} delivered, {bounced} bounced, {deferred} deferred, {} waiting",
            self.accepted,
            self.waiting() - deferred,
        )
    }
}

/// A campaign that is over, or stuck.
#[derive(Debug)]
pub(super) struct Summary {
    pub(super) recipients: u64,
    pub(super) refused: u64,
    pub(super) status: Status,
    pub(super) took: Duration,
}

impl Summary {
    /// Whether every recipient is accounted for: none lost, none invented.
    pub(super) fn adds_up(&self) -> bool {
        let Status { accepted, suppressed, .. } = self.status;
        accepted + suppressed + self.refused == self.recipients
            && accepted == self.status.ended() + self.status.waiting()
    }

    /// Whether nothing waits any more.
    pub(super) fn all_ended(&self) -> bool {
        self.status.waiting() == 0
    }

    /// The sum as a table, with what the mailbox saw.
    pub(super) fn render(&self, sink: Option<&Stats>) -> String {
        let Counts {
            delivered,
            bounced,
            expired,
            suppressed,
            cancelled,
            dead_lettered,
            deferred,
            ..
        } = self.status.deliveries;
        let mut text = format!("\nafter {:.2?}:\n", self.took);
        for (name, count) in [
            ("accepted", self.status.accepted),
            ("delivered", delivered),
            ("bounced", bounced),
            ("expired", expired),
            ("suppressed", self.status.suppressed + suppressed),
            ("cancelled", cancelled),
            ("dead-lettered", dead_lettered),
            ("deferred", deferred),
            ("waiting", self.status.waiting() - deferred),
            ("refused", self.refused),
        ] {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "  {name:<14}{count:>10}");
        }
        let verdict = match (self.adds_up(), self.all_ended()) {
            (true, true) => "adds up: every recipient came to an end",
            (true, false) => "adds up, but some still wait",
            (false, _) => "DOES NOT ADD UP: recipients were lost or counted twice",
        };
        text.push_str(verdict);
        if let Some(sink) = sink {
            let _ = write!(
                text,
                "\nthe mailbox got {} mails for {} recipients ({} duplicates); it deferred {}, \
                 refused {} and dropped {} connections",
                sink.accepted,
                sink.distinct_recipients,
                sink.duplicates,
                sink.deferred,
                sink.refused,
                sink.dropped
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(delivered: u64, bounced: u64, queued: u64) -> Summary {
        let deliveries = Counts { queued, delivered, bounced, ..Counts::default() };
        let status = Status { accepted: 8, suppressed: 1, deliveries };
        Summary { recipients: 10, refused: 1, status, took: Duration::from_secs(1) }
    }

    #[test]
    fn a_sum_is_right_only_if_every_recipient_is_in_it_once() {
        assert!(summary(7, 1, 0).adds_up() && summary(7, 1, 0).all_ended());
        assert!(summary(6, 1, 1).adds_up() && !summary(6, 1, 1).all_ended());
        assert!(!summary(7, 2, 0).adds_up());
        assert!(!summary(6, 1, 0).adds_up());
    }
}
