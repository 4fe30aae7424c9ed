//! Settings: plain, checked values. Knows no feature; each feature builds
//! itself from its section.

pub mod secret;
pub mod section;

pub use section::{
    Alarm, Api, Auth, Database, Dns, Log, MailboxProviderRule, Queue, Retry, Route, RouteKind,
    RouteRule, Secrets, Smtp, Source, Stream, Telemetry, ThrottleRule, ThrottleScope, TlsMode,
    Worker,
};

use std::collections::BTreeMap;

/// All sections in one value. Only a checked file makes one (or a test).
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// `[database]`
    pub database: Database,
    /// `[queue]`
    pub queue: Queue,
    /// `[worker]`
    pub worker: Worker,
    /// `[stream.NAME]`; always holds `transactional` and `bulk`.
    pub streams: BTreeMap<String, Stream>,
    /// `[[mailbox_provider]]`
    pub mailbox_providers: Vec<MailboxProviderRule>,
    /// `[[throttle]]`
    pub throttles: Vec<ThrottleRule>,
    /// `[[route]]`; at least one.
    pub routes: Vec<Route>,
    /// `[[rule]]`: which deliveries take which route; first match wins, else the first route.
    pub rules: Vec<RouteRule>,
    /// `[[source]]`; at least one.
    pub sources: Vec<Source>,
    /// `[smtp]`
    pub smtp: Smtp,
    /// `[dns]`
    pub dns: Dns,
    /// `[api]`
    pub api: Api,
    /// `[telemetry]`
    pub telemetry: Telemetry,
    /// `[log]`
    pub log: Log,
    /// `[secrets]`
    pub secrets: Secrets,
    /// `[alarm]`; absent when no alarm mail is wanted.
    pub alarm: Option<Alarm>,
}
