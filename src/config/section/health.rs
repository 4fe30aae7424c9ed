//! `[health]`: when a tenant's bounces and complaints are too many.

use std::time::Duration;

use crate::config::reader::Reader;
use crate::config::unit;

/// What is counted together, and the limits of each tenant and stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Health {
    /// How far back is looked, shortest first (1 h, 1 day, 7 days).
    pub windows: Vec<Duration>,
    /// Where no rule says more.
    pub limits: HealthLimits,
    /// `[[health.rule]]`; the first that fits holds.
    pub rules: Vec<HealthRule>,
}

/// Limits, as shares of the mails sent.
#[derive(Debug, Clone, PartialEq)]
pub struct HealthLimits {
    /// Whether a stream that reaches a stop is held back (true); otherwise its tenant is warned.
    pub pause: bool,
    /// Mails in a window below which nothing is judged (1,000).
    pub minimum: u64,
    /// Lost recipients from which on the tenant is warned (2 %).
    pub bounce_warn: f64,
    /// Lost recipients from which on the stream is held back (5 %).
    pub bounce_stop: f64,
    /// Complaints from which on the tenant is warned (0.1 %).
    pub complaint_warn: f64,
    /// Complaints from which on the stream is held back (0.3 %).
    pub complaint_stop: f64,
}

/// Other limits for some.
#[derive(Debug, Clone, PartialEq)]
pub struct HealthRule {
    /// By name; none: every tenant.
    pub tenant: Option<String>,
    /// By name; none: every stream.
    pub stream: Option<String>,
    /// All limits that hold; what the rule leaves out is as in `[health]`.
    pub limits: HealthLimits,
}

impl Default for Health {
    fn default() -> Self {
        let hour = Duration::from_secs(3_600);
        Self {
            windows: vec![hour, hour * 24, hour * 24 * 7],
            limits: HealthLimits::default(),
            rules: Vec::new(),
        }
    }
}

impl Default for HealthLimits {
    fn default() -> Self {
        Self {
            pause: true,
            minimum: 1_000,
            bounce_warn: 0.02,
            bounce_stop: 0.05,
            complaint_warn: 0.001,
            complaint_stop: 0.003,
        }
    }
}

/// Most windows.
const MOST_WINDOWS: usize = 4;

impl Health {
    /// The limits of a tenant's stream.
    pub fn limits_of(&self, tenant: &str, stream: &str) -> &HealthLimits {
        let fits = |named: &Option<String>, name: &str| named.as_deref().is_none_or(|n| n == name);
        let rule =
            self.rules.iter().find(|rule| fits(&rule.tenant, tenant) && fits(&rule.stream, stream));
        rule.map_or(&self.limits, |rule| &rule.limits)
    }

    /// How long figures are kept: as long as the longest window reaches, and a little.
    pub fn keep(&self) -> Duration {
        let longest = self.windows.iter().max().copied().unwrap_or_default();
        longest + Duration::from_secs(2 * 3_600)
    }

    pub(in crate::config) fn read(section: Reader<'_>) -> Self {
        let default = Self::default();
        let (shortest, longest) = (Duration::from_secs(600), Duration::from_secs(30 * 86_400));
        let windows = section
            .list("windows", "a duration from \"10m\" to \"30d\"", |text| {
                unit::duration(text).filter(|window| (shortest..=longest).contains(window))
            })
            .unwrap_or_else(|| default.windows.clone());
        section.notes().default_is("[\"1h\", \"1d\", \"7d\"]");
        if windows.is_empty()
            || windows.len() > MOST_WINDOWS
            || !windows.is_sorted_by(|one, next| one < next)
        {
            section.fault("windows", "expected 1 to 4 durations, each longer than the one before");
        }
        let limits = HealthLimits::read(&section, &default.limits);
        let rules = section.entries("rule").unwrap_or_default();
        let rules = rules.into_iter().map(|rule| HealthRule::read(rule, &limits)).collect();
        section.end();
        Self { windows, limits, rules }
    }
}

impl HealthLimits {
    fn read(section: &Reader<'_>, default: &Self) -> Self {
        let limits = Self {
            pause: section.switch("pause", default.pause),
            minimum: section.integer("minimum", default.minimum, 1..=1_000_000_000),
            bounce_warn: section.number("bounce_warn", default.bounce_warn, SHARE),
            bounce_stop: section.number("bounce_stop", default.bounce_stop, SHARE),
            complaint_warn: section.number("complaint_warn", default.complaint_warn, SHARE),
            complaint_stop: section.number("complaint_stop", default.complaint_stop, SHARE),
        };
        for (key, warn, stop) in [
            ("bounce_stop", limits.bounce_warn, limits.bounce_stop),
            ("complaint_stop", limits.complaint_warn, limits.complaint_stop),
        ] {
            if stop < warn {
                section.fault(key, "must not be below the limit from which on is warned");
            }
        }
        limits
    }
}

/// A part of the mails sent.
const SHARE: std::ops::RangeInclusive<f64> = 0.000_01..=1.0;

impl HealthRule {
    fn read(section: Reader<'_>, default: &HealthLimits) -> Self {
        let rule = Self {
            tenant: section.text("tenant"),
            stream: section.text("stream"),
            limits: HealthLimits::read(&section, default),
        };
        if rule.tenant.is_none() && rule.stream.is_none() {
            section.fault("tenant", "expected a tenant, a stream, or both");
        }
        section.end();
        rule
    }
}
