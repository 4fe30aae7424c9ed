//! `[stream.NAME]`: how mail of one kind is treated, for every tenant.

use std::time::Duration;

use super::quiet::Quiet;
use crate::config::reader::Reader;

/// A stream's policy. `transactional` and `bulk` always exist; a stream that is
/// not configured follows `bulk`.
#[derive(Debug, Clone, PartialEq)]
pub struct Stream {
    /// Bulk mail carries List-Unsubscribe headers.
    pub bulk: bool,
    /// 0 goes first, 3 last.
    pub priority: u8,
    /// Age at which a delivery is given up.
    pub expires_after: Duration,
    /// What to do with a delivery that may have been taken already: send again (true) or hold
    /// as a dead letter. Written `in_doubt = "resend"` or `"hold"`.
    pub resend_in_doubt: bool,
    /// How long a delivery in doubt waits for the route that may have taken it (6 h); then any
    /// route may send it again.
    pub doubt_wait: Duration,
    /// Waits between tries.
    pub retry: Retry,
    /// When its mail rests; `None`: never. A stream of bulk mail takes it from `bulk`.
    pub quiet: Option<Quiet>,
    /// Whether a picture tells that a mail was opened (false).
    pub track_opens: bool,
    /// Whether links lead over the tenant's own host, which tells that they were followed (false).
    pub track_clicks: bool,
}

/// Exponential backoff with full jitter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retry {
    /// Longest first wait (2 min).
    pub first: Duration,
    /// Growth from one wait to the next (1.8).
    pub factor: f64,
    /// Longest wait (4 h).
    pub cap: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { first: Duration::from_secs(120), factor: 1.8, cap: Duration::from_secs(4 * 3600) }
    }
}

impl Stream {
    /// The shipped policy of `transactional`.
    pub fn transactional() -> Self {
        Self {
            bulk: false,
            priority: 0,
            expires_after: Duration::from_secs(48 * 3600),
            resend_in_doubt: true,
            doubt_wait: Duration::from_secs(6 * 3600),
            retry: Retry::default(),
            quiet: None,
            track_opens: false,
            track_clicks: false,
        }
    }

    /// The shipped policy of `bulk`.
    pub fn bulk() -> Self {
        Self {
            bulk: true,
            priority: 3,
            expires_after: Duration::from_secs(72 * 3600),
            ..Self::transactional()
        }
    }
}

impl Stream {
    pub(in crate::config) fn read(section: Reader<'_>, default: &Self) -> Self {
        let second = Duration::from_secs(1);
        let doubt = [("resend", true), ("hold", false)];
        let bulk = section.switch("bulk", default.bulk);
        let stream = Self {
            bulk,
            priority: section.integer("priority", default.priority, 0..=3),
            expires_after: section.duration(
                "expires_after",
                default.expires_after,
                second * 60..=second * 86_400 * 30,
            ),
            resend_in_doubt: section.choice("in_doubt", &doubt).unwrap_or(default.resend_in_doubt),
            doubt_wait: section.duration(
                "doubt_wait",
                default.doubt_wait,
                Duration::ZERO..=second * 86_400 * 30,
            ),
            retry: Retry::read(section.section("retry"), default.retry),
            // What is not bulk is awaited: it rests only where that is said of itself.
            quiet: Quiet::read(&section, default.quiet.filter(|_| bulk)),
            track_opens: section.switch("track_opens", default.track_opens),
            track_clicks: section.switch("track_clicks", default.track_clicks),
        };
        section.end();
        stream
    }
}

impl Retry {
    fn read(section: Reader<'_>, default: Self) -> Self {
        let second = Duration::from_secs(1);
        let range = second..=second * 86_400 * 7;
        let retry = Self {
            first: section.duration("first", default.first, range.clone()),
            factor: section.number("factor", default.factor, 1.0..=10.0),
            cap: section.duration("cap", default.cap, range),
        };
        if retry.cap < retry.first {
            section.fault("cap", "the longest wait must not be below the first");
        }
        section.end();
        retry
    }
}
