//! `quiet_hours` and `quiet_zone` of a stream: when its mail rests.

use std::fmt;

use crate::config::reader::Reader;

/// When mail of a stream rests, and by whose clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quiet {
    /// From when to when, each day.
    pub hours: QuietHours,
    /// By whose clock.
    pub zone: QuietZone,
}

/// A span of each day, from a minute (which is in it) to a minute (which is not). It may
/// run over midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuietHours {
    from: u16,
    to: u16,
}

/// Whose clock tells when hours are quiet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuietZone {
    /// The tenant's: all mail of the stream rests at the same time.
    Tenant,
    /// Each recipient's, where it is known; else the tenant's.
    Recipient,
}

const MINUTES_OF_A_DAY: u16 = 24 * 60;

impl QuietHours {
    /// From one minute of the day to another; `None` when they are equal or there is no such
    /// minute.
    pub fn try_new(from: u16, to: u16) -> Option<Self> {
        (from != to && from < MINUTES_OF_A_DAY && to < MINUTES_OF_A_DAY)
            .then_some(Self { from, to })
    }

    /// Reads `21:00-08:00`.
    pub fn parse(text: &str) -> Option<Self> {
        let (from, to) = text.split_once('-')?;
        Self::try_new(minute(from.trim())?, minute(to.trim())?)
    }

    /// Whether a minute of the day is quiet.
    pub const fn contains(self, minute: u16) -> bool {
        if self.from < self.to {
            self.from <= minute && minute < self.to
        } else {
            minute >= self.from || minute < self.to
        }
    }

    /// The minute of the day at which they end.
    pub const fn end(self) -> u16 {
        self.to
    }
}

impl fmt::Display for QuietHours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to } = self;
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)
    }
}

impl Quiet {
    /// The settings of a stream; `None` when its mail never rests.
    pub(in crate::config) fn read(section: &Reader<'_>, default: Option<Self>) -> Option<Self> {
        let zones = [("tenant", QuietZone::Tenant), ("recipient", QuietZone::Recipient)];
        let zone = section.choice("quiet_zone", &zones);
        let expected = "two times like \"21:00-08:00\", or \"none\"";
        let hours = section.value("quiet_hours", expected, |node| match node.text()? {
            "none" => Some(None),
            text => QuietHours::parse(text).map(Some),
        });
        let hours = hours.unwrap_or(default.map(|quiet| quiet.hours))?;
        let zone = zone.or(default.map(|quiet| quiet.zone)).unwrap_or(QuietZone::Tenant);
        Some(Self { hours, zone })
    }
}

/// `HH:MM` as a minute of the day.
fn minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let number = |text: &str, most: u16| {
        let plain = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u16>().ok().filter(|n| plain && *n <= most)
    };
    Some(number(hour, 23)? * 60 + number(minute, 59)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_read_as_written_and_may_run_over_midnight() {
        let night = QuietHours::parse("21:00-08:00").expect("hours");
        assert_eq!(night.to_string(), "21:00-08:00");
        for (minute, quiet) in
            [(20 * 60 + 59, false), (21 * 60, true), (0, true), (479, true), (480, false)]
        {
            assert_eq!(night.contains(minute), quiet, "{minute}");
        }
        let noon = QuietHours::parse("12:00 - 13:30").expect("hours");
        assert!(noon.contains(12 * 60) && noon.contains(809) && !noon.contains(810));
        assert!(!noon.contains(0));
        for bad in [
            "",
            "21:00",
            "21-08",
            "24:00-08:00",
            "21:00-21:00",
            "9:00-10:00",
            "21:60-08:00",
            "+1:00-08:00",
        ] {
            assert_eq!(QuietHours::parse(bad), None, "{bad}");
        }
    }
}
