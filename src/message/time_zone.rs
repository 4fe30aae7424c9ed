//! Time zones by their names in the IANA database: a tenant's, or a recipient's.
//!
//! The rules are compiled in, so that a small container without zone files knows
//! them too; they are as new as the release.

use std::fmt;
use std::str::FromStr;

use chrono_tz::Tz;

/// A known time zone. `UTC` where nothing is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeZone(Tz);

/// A name that no time zone has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a time zone like Europe/Berlin or UTC, found {found:?}")]
pub struct UnknownTimeZone {
    found: String,
}

impl TimeZone {
    /// Its rules.
    pub const fn rules(self) -> Tz {
        self.0
    }
}

impl Default for TimeZone {
    fn default() -> Self {
        Self(Tz::UTC)
    }
}

impl FromStr for TimeZone {
    type Err = UnknownTimeZone;

    fn from_str(name: &str) -> Result<Self, UnknownTimeZone> {
        // What the database would take for one of its own short forms is no name to rely on.
        let plain = name == "UTC" || name.contains('/');
        name.parse()
            .ok()
            .filter(|_| plain)
            .map(Self)
            .ok_or_else(|| UnknownTimeZone { found: name.chars().take(80).collect() })
    }
}

impl fmt::Display for TimeZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_iana_database_are_known_and_nothing_else() {
        for name in ["UTC", "Europe/Berlin", "America/Argentina/Ushuaia", "Etc/GMT+5"] {
            let zone: TimeZone = name.parse().expect(name);
            assert_eq!(zone.to_string(), name);
        }
        for name in ["", "EST", "europe/berlin", "Europe/Bonn", "+02:00", "../etc/passwd"] {
            assert!(name.parse::<TimeZone>().is_err(), "{name}");
        }
    }
}
