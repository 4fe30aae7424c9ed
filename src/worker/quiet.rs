//! Quiet hours: whether a lane or a delivery rests now, and for how long.
//!
//! An hour is quiet by the face of the clock in its time zone, so when clocks are put
//! forward or back a quiet span is shorter or longer, and ends when the clock shows its end.
//! Wall-clock time decides nothing but this: expiry stays with the database, which never
//! lets a delivery rest beyond it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{
    DateTime, Days, LocalResult, NaiveTime, Offset, TimeDelta, TimeZone as _, Timelike, Utc,
};
use chrono_tz::Tz;
use parking_lot::RwLock;
use serde::Deserialize;

use crate::config::{Quiet, QuietHours, QuietZone, Settings};
use crate::domain::clock::Clock;
use crate::domain::outcome::{Outcome, WaitReason};
use crate::message::time_zone::TimeZone;
use crate::queue::job::Job;
use crate::queue::lane::Lane;

/// Deliveries that waited for the end of their night come back spread over this time.
const SPREAD: Duration = Duration::from_secs(120);

/// Spans of quiet that may follow each other without a minute between them: a clock put
/// forward can skip the time between two.
const SPANS: usize = 3;

/// The quiet hours of each stream, from the settings in force.
#[derive(Debug)]
pub struct QuietTimes {
    by_stream: RwLock<Arc<HashMap<String, Option<Quiet>>>>,
    clock: Clock,
}

/// The quiet hours of a lane that rests as a whole.
#[derive(Debug, Clone)]
pub struct Nights {
    hours: QuietHours,
    zone: TimeZone,
    clock: Clock,
}

/// What of a delivery's own part matters here.
#[derive(Deserialize)]
struct Place<'a> {
    #[serde(borrow, default)]
    time_zone: Option<std::borrow::Cow<'a, str>>,
}

impl QuietTimes {
    /// The quiet hours of `settings`, by `clock`.
    pub fn new(settings: &Settings, clock: Clock) -> Self {
        Self { by_stream: RwLock::new(Arc::new(read(settings))), clock }
    }

    /// Takes over changed settings.
    pub fn apply(&self, settings: &Settings) {
        *self.by_stream.write() = Arc::new(read(settings));
    }

    /// When the whole lane rests; `None`: never as a whole.
    pub fn of_lane(&self, lane: &Lane) -> Option<Nights> {
        let quiet = self.of(&lane.stream_name)?;
        (quiet.zone == QuietZone::Tenant).then(|| Nights {
            hours: quiet.hours,
            zone: lane.time_zone,
            clock: self.clock.clone(),
        })
    }

    /// Lets a delivery pass, or postpones it to the end of its recipient's night. A recipient
    /// without a time zone has the tenant's.
    pub fn pass(&self, job: &Job, lane: &Lane) -> Result<(), Outcome> {
        let Some(Quiet { hours, zone: QuietZone::Recipient }) = self.of(&lane.stream_name) else {
            return Ok(());
        };
        let zone = zone_of(job.payload.as_deref()).unwrap_or(lane.time_zone);
        match (Nights { hours, zone, clock: self.clock.clone() }).left() {
            None => Ok(()),
            Some(left) => Err(Outcome::Postponed {
                delay: left + SPREAD.mul_f64(rand::random()),
                reason: WaitReason::QuietHours,
            }),
        }
    }

    /// A stream that is not configured follows `bulk`.
    fn of(&self, stream: &str) -> Option<Quiet> {
        let streams = self.by_stream.read();
        streams.get(stream).or_else(|| streams.get("bulk")).copied().flatten()
    }
}

impl Nights {
    /// How long it stays quiet; `None`: it is not.
    pub fn left(&self) -> Option<Duration> {
        let now = self.clock.now().into();
        quiet_until(self.hours, self.zone.rules(), now)
            .map(|end| (end - now).to_std().unwrap_or_default())
    }
}

fn read(settings: &Settings) -> HashMap<String, Option<Quiet>> {
    settings.streams.iter().map(|(name, stream)| (name.clone(), stream.quiet)).collect()
}

/// The recipient's time zone, if it was submitted with one that is known.
fn zone_of(payload: Option<&str>) -> Option<TimeZone> {
    let place: Place<'_> = serde_json::from_str(payload?).ok()?;
    place.time_zone?.parse().ok()
}

/// When the quiet span ends in which `now` lies; `None` when it lies in none.
fn quiet_until(hours: QuietHours, zone: Tz, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let mut end = now;
    for _ in 0..SPANS {
        if !is_quiet(hours, zone, end) {
            break;
        }
        end = end_after(hours, zone, end);
    }
    (end > now).then_some(end)
}

fn is_quiet(hours: QuietHours, zone: Tz, at: DateTime<Utc>) -> bool {
    let local = at.with_timezone(&zone);
    hours.contains((local.hour() * 60 + local.minute()) as u16)
}

/// The next moment after `at` when a clock in the zone shows the end of the hours, or jumps
/// over it.
fn end_after(hours: QuietHours, zone: Tz, at: DateTime<Utc>) -> DateTime<Utc> {
    let local = at.with_timezone(&zone);
    let (hour, minute) = (u32::from(hours.end() / 60), u32::from(hours.end() % 60));
    let time = NaiveTime::from_hms_opt(hour, minute, 0).unwrap_or_default();
    let shown = |days| {
        let end = (local.date_naive() + Days::new(days)).and_time(time);
        match zone.from_local_datetime(&end) {
            LocalResult::Single(moment) => [Some(moment.to_utc()), None],
            // Clocks are put back: it is shown twice.
            LocalResult::Ambiguous(first, second) => [Some(first.to_utc()), Some(second.to_utc())],
            // Clocks are put forward: it is never shown.
            LocalResult::None => {
                let unmoved = (end - local.offset().fix()).and_utc();
                [Some(change_of_clocks(zone, at, unmoved)), None]
            }
        }
    };
    // Two days suffice but where a whole day is left out of a calendar.
    let moments = (0..=2).flat_map(shown).flatten();
    let end = moments.filter(|moment| *moment > at).min().unwrap_or(at + TimeDelta::days(1));
    // Clocks that are moved meanwhile may jump out of the hours without showing their end.
    let moved = change_of_clocks(zone, at, end);
    if moved < end && !is_quiet(hours, zone, moved) { moved } else { end }
}

/// The second at which the zone's clocks are moved, between two that go differently.
fn change_of_clocks(
    zone: Tz,
    mut before: DateTime<Utc>,
    mut after: DateTime<Utc>,
) -> DateTime<Utc> {
    let offset = |at: DateTime<Utc>| at.with_timezone(&zone).offset().fix();
    let old = offset(before);
    while after - before > TimeDelta::seconds(1) {
        let middle = before + TimeDelta::seconds((after - before).num_seconds() / 2);
        if offset(middle) == old {
            before = middle;
        } else {
            after = middle;
        }
    }
    after
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn until(hours: &str, zone: Tz, now: &str) -> Option<String> {
        let hours = QuietHours::parse(hours).expect("hours");
        let now = now.parse().expect("a time");
        quiet_until(hours, zone, now).map(|end| end.format("%FT%RZ").to_string())
    }

    #[test]
    fn a_night_ends_by_the_clock_on_the_wall() {
        let berlin = |now| until("21:00-08:00", Tz::Europe__Berlin, now);
        assert_eq!(berlin("2026-07-01T18:59:59Z"), None);
        assert_eq!(berlin("2026-07-01T19:00:00Z").as_deref(), Some("2026-07-02T06:00Z"));
        assert_eq!(berlin("2026-07-02T05:59:59Z").as_deref(), Some("2026-07-02T06:00Z"));
        assert_eq!(berlin("2026-07-02T06:00:00Z"), None);
        // Clocks are put forward on 29 March at 1:00 UTC, and back on 25 October.
        assert_eq!(berlin("2026-03-28T20:30:00Z").as_deref(), Some("2026-03-29T06:00Z"));
        assert_eq!(berlin("2026-10-24T19:30:00Z").as_deref(), Some("2026-10-25T07:00Z"));
    }

    #[test]
    fn an_end_that_is_never_shown_or_shown_twice_is_kept() {
        let berlin = |hours, now| until(hours, Tz::Europe__Berlin, now);
        // 2:30 is jumped over at 1:00 UTC.
        let skipped = berlin("22:00-02:30", "2026-03-28T22:00:00Z");
        assert_eq!(skipped.as_deref(), Some("2026-03-29T01:00Z"));
        // 2:30 is shown at 0:30 and at 1:30 UTC.
        let first = berlin("22:00-02:30", "2026-10-24T23:00:00Z");
        assert_eq!(first.as_deref(), Some("2026-10-25T00:30Z"));
        let again = berlin("22:00-02:30", "2026-10-25T01:10:00Z");
        assert_eq!(again.as_deref(), Some("2026-10-25T01:30Z"));
        // The minutes between two nights are jumped over: it stays quiet for a day more.
        let joined = berlin("03:00-02:00", "2026-03-28T23:00:00Z");
        assert_eq!(joined.as_deref(), Some("2026-03-30T00:00Z"));
        // A whole day is left out of the calendar.
        let samoa = until("21:00-08:00", Tz::Pacific__Apia, "2011-12-30T08:00:00Z");
        assert_eq!(samoa.as_deref(), Some("2011-12-30T18:00Z"));
    }

    #[test]
    fn the_recipients_zone_is_read_and_nothing_else_of_its_part() {
        let zone = |payload| zone_of(Some(payload)).map(|zone| zone.to_string());
        let known = r#"{"vars":{"time_zone":"UTC"},"time_zone":"America\/New_York"}"#;
        assert_eq!(zone(known).as_deref(), Some("America/New_York"));
        for none in ["{}", r#"{"vars":{"a":1}}"#, r#"{"time_zone":"Mars/Base"}"#, "nonsense"] {
            assert_eq!(zone(none), None, "{none}");
        }
        assert_eq!(zone_of(None), None);
    }

    proptest! {
        #[test]
        fn it_is_quiet_until_the_end_and_not_at_the_end(
            zone in 0..chrono_tz::TZ_VARIANTS.len(),
            from in 0_u16..1440, to in 0_u16..1440,
            seconds in 631_152_000_i64..2_145_916_800,
        ) {
            prop_assume!(from != to);
            let hours = QuietHours::try_new(from, to).expect("hours");
            let zone = chrono_tz::TZ_VARIANTS[zone];
            let now = DateTime::from_timestamp(seconds, 0).expect("a time");
            match quiet_until(hours, zone, now) {
                None => prop_assert!(!is_quiet(hours, zone, now)),
                Some(end) => {
                    prop_assert!(!is_quiet(hours, zone, end), "{zone} {hours} {now} {end}");
                    prop_assert!(is_quiet(hours, zone, end - TimeDelta::seconds(1)));
                    let mut at = now;
                    while at < end {
                        prop_assert!(is_quiet(hours, zone, at), "{zone} {hours} {now} {at} {end}");
                        at += TimeDelta::seconds(59);
                    }
                }
            }
        }

        #[test]
        fn around_a_change_of_clocks_too(
            from in 0_u16..240, length in 1_u16..1439, offset in -90_000_i64..90_000, spring: bool,
        ) {
            let hours = QuietHours::try_new(from, (from + length) % 1440).expect("hours");
            let change = if spring { "2026-03-29T01:00:00Z" } else { "2026-10-25T01:00:00Z" };
            let change: DateTime<Utc> = change.parse().expect("a time");
            let now = change + TimeDelta::seconds(offset);
            let zone = Tz::Europe__Berlin;
            let Some(end) = quiet_until(hours, zone, now) else {
                prop_assert!(!is_quiet(hours, zone, now));
                return Ok(());
            };
            prop_assert!(!is_quiet(hours, zone, end));
            let mut at = now;
            while at < end {
                prop_assert!(is_quiet(hours, zone, at), "{hours} {now} {at} {end}");
                at += TimeDelta::seconds(59);
            }
        }
    }
}
