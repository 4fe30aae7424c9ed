//! Settings: plain, checked values. Knows no feature; each feature builds
//! itself from its section.

pub mod asked;
mod document;
pub mod fault;
pub mod load;
mod notes;
mod reader;
pub mod reference;
pub mod reload;
pub mod schema;
pub mod secret;
pub mod section;
pub mod unit;
mod validate;
mod word;

pub use fault::{ConfigError, Fault, Place};

pub use section::{
    Adaptive, Alarm, Api, Auth, AwsCredentials, Callbacks, Canonicalization, ClientCertificate,
    CodeMask, Database, Dkim, Dns, Dnssec, Duty, Endpoint, Feedback, Form, FurtherRate, Health,
    HealthLimits, HealthRule, Inbound, InboundTls, InstallationKey, KeyFault, Log, LogFormat,
    MailboxProviderRule, MailgunCallbacks, NoProof, Pool, Proof, Provider, Proxy, Queue, Quiet,
    QuietHours, QuietZone, Ramp, Reload, Replies, ReplyRule, Retry, Route, RouteKind, RouteRule,
    Scale, Secrets, SendGridCallbacks, Service, SesCallbacks, Share, Smtp, Source, Stage,
    StatusMask, Stream, Suppression, Telemetry, ThrottleRule, ThrottleScope, TlsMode, TlsPolicies,
    TlsReport, Traces, WarmUp, Webhook, Worker,
};

use std::collections::BTreeMap;

/// All sections in one value. Only a checked file makes one (or a test).
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// `[database]`: the home cell.
    pub database: Database,
    /// `[[cell]]`: further cells.
    pub cells: Vec<Database>,
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
    /// `[adaptive]`
    pub adaptive: Adaptive,
    /// `[replies]`
    pub replies: Replies,
    /// `[[route]]`; at least one.
    pub routes: Vec<Route>,
    /// `[[rule]]`: which deliveries take which route; first match wins, else the first route.
    pub rules: Vec<RouteRule>,
    /// `[[source]]`; at least one.
    pub sources: Vec<Source>,
    /// `[[pool]]`: sources that rules choose.
    pub pools: Vec<Pool>,
    /// `[smtp]`
    pub smtp: Smtp,
    /// `[dkim]`
    pub dkim: Dkim,
    /// `[dns]`
    pub dns: Dns,
    /// `[tls]`
    pub tls: TlsPolicies,
    /// `[tls_report]`; absent when nothing is reported.
    pub tls_report: Option<TlsReport>,
    /// `[api]`
    pub api: Api,
    /// `[callbacks]`
    pub callbacks: Callbacks,
    /// `[feedback]`
    pub feedback: Feedback,
    /// `[inbound]`
    pub inbound: Inbound,
    /// `[suppression]`
    pub suppression: Suppression,
    /// `[health]`
    pub health: Health,
    /// `[scale]`
    pub scale: Scale,
    /// `[webhook]`
    pub webhook: Webhook,
    /// `[reload]`
    pub reload: Reload,
    /// `[telemetry]`
    pub telemetry: Telemetry,
    /// `[traces]`
    pub traces: Traces,
    /// `[log]`
    pub log: Log,
    /// `[secrets]`
    pub secrets: Secrets,
    /// `[alarm]`; absent when no alarm mail is wanted.
    pub alarm: Option<Alarm>,
}

impl Default for Settings {
    /// What is shipped: one route to the recipients' exchangers, one source, two streams, no limit.
    fn default() -> Self {
        Self {
            database: Database::default(),
            cells: Vec::new(),
            queue: Queue::default(),
            worker: Worker::default(),
            streams: BTreeMap::from([
                ("transactional".into(), Stream::transactional()),
                ("bulk".into(), Stream::bulk()),
            ]),
            mailbox_providers: Vec::new(),
            throttles: Vec::new(),
            adaptive: Adaptive::default(),
            replies: Replies::default(),
            routes: vec![Route::default()],
            rules: Vec::new(),
            sources: vec![Source::default()],
            pools: Vec::new(),
            smtp: Smtp::default(),
            dkim: Dkim::default(),
            dns: Dns::default(),
            tls: TlsPolicies::default(),
            tls_report: None,
            api: Api::default(),
            callbacks: Callbacks::default(),
            feedback: Feedback::default(),
            health: Health::default(),
            inbound: Inbound::default(),
            suppression: Suppression::default(),
            scale: Scale::default(),
            webhook: Webhook::default(),
            reload: Reload::default(),
            telemetry: Telemetry::default(),
            traces: Traces::default(),
            log: Log::default(),
            secrets: Secrets::default(),
            alarm: None,
        }
    }
}

impl Settings {
    /// For tests: loopback may be mailed to, ports are chosen by the system, a key is there,
    /// and nothing waits for long.
    pub fn for_testing() -> Self {
        use std::net::SocketAddr;
        use std::time::Duration;

        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut settings = Self::default();
        settings.sources[0].ehlo = "postrider.test".into();
        settings.dns.allow_private_addresses = true;
        settings.dns.timeout = Duration::from_secs(2);
        settings.webhook.allow_http = true;
        settings.webhook.allow_private_addresses = true;
        settings.webhook.poll_interval = Duration::from_millis(20);
        settings.webhook.first_retry = Duration::from_millis(20);
        settings.webhook.longest_retry = Duration::from_millis(100);
        settings.api.listen = any_port;
        settings.telemetry.listen = any_port;
        settings.database.pool_size = 4;
        settings.queue.poll_interval = Duration::from_millis(20);
        settings.queue.beat_interval = Duration::from_millis(200);
        settings.queue.session_ttl = Duration::from_secs(2);
        settings.queue.rescue_delay = Duration::ZERO;
        settings.worker.shutdown_deadline = Duration::from_secs(1);
        settings.worker.concurrency = 64;
        settings.worker.tenant_concurrency = 32;
        settings.secrets.key =
            Some(secret::Secret::new("dGVzdCBrZXkgb2YgMzIgYnl0ZXMsIG5vIHNlY3JldCE="));
        settings
    }

    /// Every cell, the home cell first.
    pub fn all_cells(&self) -> impl Iterator<Item = &Database> {
        std::iter::once(&self.database).chain(&self.cells)
    }

    /// The cells that a daemon with these settings serves.
    pub fn served_cells(&self) -> impl Iterator<Item = &Database> {
        let chosen = &self.worker.cells;
        self.all_cells().filter(move |cell| chosen.is_empty() || chosen.contains(&cell.cell))
    }

    /// The policy of a stream; one that is not configured follows `bulk`.
    pub fn stream(&self, name: &str) -> Stream {
        let known = self.streams.get(name).or_else(|| self.streams.get("bulk"));
        known.cloned().unwrap_or_else(Stream::bulk)
    }
}
