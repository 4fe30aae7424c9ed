//! The limits of sources in their warm-up (pure).
//!
//! A source that warms up has a daily volume for each mailbox provider. It holds as one
//! more rate of the source's limits there, beside those that are configured, and so over
//! all daemons. When the day changes the rates change; what was spent stays spent.

use crate::config::{FurtherRate, Source, Stage, ThrottleRule, ThrottleScope};

/// Seconds of a day.
pub const DAY: u64 = 86_400;

/// The configured limits with those of the sources that warm up at a time (seconds since
/// 1970). A source whose warm-up lies ahead, and which is used because there is no other,
/// has one mail a day.
pub fn rules(configured: &[ThrottleRule], sources: &[Source], now: u64) -> Vec<ThrottleRule> {
    let mut rules = Vec::new();
    for source in sources {
        let volume = match source.stage(now) {
            Stage::Warm => continue,
            Stage::Warming(volume) => volume,
            Stage::Ahead => 1,
        };
        let day = daily(volume);
        let theirs = configured.iter().filter_map(|rule| named(rule, &source.name));
        let everywhere = ThrottleRule {
            scope: scope(&source.name, None),
            rate: None,
            burst: None,
            further: Vec::new(),
            concurrency: None,
        };
        // Rules that name the source come before those for each source, as everywhere.
        let (exact, wide): (Vec<_>, Vec<_>) = theirs.partition(|(_, is_exact)| *is_exact);
        let both = exact.into_iter().chain(wide).map(|(rule, _)| rule);
        for rule in both.chain([everywhere]) {
            if !rules.iter().any(|known: &ThrottleRule| known.scope == rule.scope) {
                rules.push(with_daily(rule, day));
            }
        }
    }
    // Of rules for the same the first holds.
    rules.extend_from_slice(configured);
    rules
}

/// The rate that lets no more than so many through on any day: its burst, a tenth of it,
/// comes on top.
fn daily(volume: u32) -> FurtherRate {
    let volume = f64::from(volume);
    let steady = if volume > 11.0 { volume / 1.1 } else { (volume - 1.0).max(0.5) };
    FurtherRate { per_second: steady / DAY as f64, unit: DAY as f64 }
}

/// A rule of a source at mailbox providers, as one of this source alone; and whether it
/// names the source. `None`: it is about something else.
fn named(rule: &ThrottleRule, source: &str) -> Option<(ThrottleRule, bool)> {
    let ThrottleScope::SourceMailboxProvider { source: named, mailbox_provider } = &rule.scope
    else {
        return None;
    };
    if named.as_ref().is_some_and(|named| named != source) {
        return None;
    }
    let scope = scope(source, mailbox_provider.clone());
    Some((ThrottleRule { scope, ..rule.clone() }, named.is_some()))
}

fn scope(source: &str, mailbox_provider: Option<String>) -> ThrottleScope {
    ThrottleScope::SourceMailboxProvider { source: Some(source.to_owned()), mailbox_provider }
}

/// The rule with a daily rate; the lower of two such.
fn with_daily(mut rule: ThrottleRule, day: FurtherRate) -> ThrottleRule {
    if rule.rate.is_none() {
        let burst = (day.per_second * day.unit / 10.0) as u32;
        return ThrottleRule { rate: Some(day.per_second), burst: Some(burst.max(1)), ..rule };
    }
    match rule.further.last_mut() {
        Some(last) if last.unit >= day.unit => {
            last.per_second = last.per_second.min(day.per_second);
        }
        _ => rule.further.push(day),
    }
    rule
}

#[cfg(test)]
mod tests {
    use chrono::NaiveDate;

    use super::*;
    use crate::config::{Ramp, WarmUp};
    use crate::domain::ids::MailboxProvider;
    use crate::throttle::key::{Key, Plan};
    use crate::throttle::limiter::Limiter;
    use proptest::prelude::*;

    fn source(name: &str, days: Option<Vec<u32>>) -> Source {
        let starts = NaiveDate::default();
        let warm_up = days.map(|days| WarmUp { starts, ramp: Ramp::Days(days) });
        Source { name: name.into(), warm_up, ..Source::default() }
    }

    fn rule(source: Option<&str>, provider: Option<&str>) -> ThrottleRule {
        ThrottleRule {
            scope: ThrottleScope::SourceMailboxProvider {
                source: source.map(Into::into),
                mailbox_provider: provider.map(Into::into),
            },
            rate: None,
            burst: None,
            further: Vec::new(),
            concurrency: Some(5),
        }
    }

    fn limits(rules: &[ThrottleRule], source: &str, provider: &'static str) -> (f64, Option<u32>) {
        let limiter = Limiter::new(rules);
        let key = Key::SourceMailboxProvider(source.into(), MailboxProvider::new(provider));
        let Some(rule) = limiter.rule(&key) else { return (f64::INFINITY, None) };
        let rates = rule.rate.into_iter().chain(rule.further.iter().map(|rate| rate.per_second));
        (rates.fold(f64::INFINITY, f64::min) * 86_400.0, rule.concurrency)
    }

    #[test]
    fn a_warming_source_has_its_day_at_each_provider_beside_what_is_configured() {
        let configured = [
            rule(None, Some("google")),
            ThrottleRule { rate: Some(10.0), ..rule(Some("new"), Some("apple")) },
        ];
        let sources = [source("new", Some(vec![110, 220])), source("old", None)];
        let today = rules(&configured, &sources, 0);
        let near = |found: (f64, Option<u32>), volume: f64, slots| {
            assert!((found.0 - volume).abs() < 1e-6 && found.1 == slots, "{found:?}");
        };
        near(limits(&today, "new", "google"), 100.0, Some(5));
        near(limits(&today, "new", "apple"), 100.0, Some(5));
        near(limits(&today, "new", "yahoo"), 100.0, None);
        near(limits(&rules(&configured, &sources, DAY), "new", "yahoo"), 200.0, None);
        assert_eq!(limits(&today, "old", "google"), (f64::INFINITY, Some(5)));
        assert_eq!(rules(&configured, &sources, 2 * DAY), configured, "warm");
    }

    proptest! {
        /// From a full bucket, all day long: no day sees more than its volume.
        #[test]
        fn no_day_sees_more_than_its_volume(volume in 2u32..5_000) {
            let day = daily(volume);
            let burst = (day.per_second * day.unit / 10.0).max(1.0).floor();
            prop_assert!(day.per_second * day.unit + burst <= f64::from(volume) + 1e-6);
        }
    }

    #[tokio::test]
    async fn the_limiter_refuses_what_is_beyond_the_day() {
        let sources = [source("new", Some(vec![110]))];
        let limiter = Limiter::new(&rules(&[], &sources, 0));
        let gate = limiter.gate(&Plan {
            tenant: "acme".into(),
            mailbox_provider: MailboxProvider::new("google"),
            source: "new".into(),
            route: "direct".into(),
        });
        let mut taken = gate.take(50);
        assert_eq!(taken.permits.len(), 10, "a tenth of the day at once");
        assert!(matches!(taken.blocked_by, Some(Key::SourceMailboxProvider(..))));
        taken.permits.iter_mut().for_each(crate::throttle::gate::Permit::spend);
    }
}
