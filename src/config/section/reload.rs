//! `[reload]`: when the configuration is read again without being asked.

use std::time::Duration;

use crate::config::reader::Reader;

/// Whether the file is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reload {
    /// Whether a change of the file leads to a reload, as SIGHUP does (true).
    pub watch_file: bool,
    /// How often it is looked at; a change is read when it looks the same twice (2 s).
    pub interval: Duration,
}

impl Default for Reload {
    fn default() -> Self {
        Self { watch_file: true, interval: Duration::from_secs(2) }
    }
}

impl Reload {
    pub(in crate::config) fn read(section: Reader<'_>) -> Self {
        let default = Self::default();
        let range = Duration::from_millis(100)..=Duration::from_secs(3_600);
        let reload = Self {
            watch_file: section.switch("watch_file", default.watch_file),
            interval: section.duration("interval", default.interval, range),
        };
        section.end();
        reload
    }
}
