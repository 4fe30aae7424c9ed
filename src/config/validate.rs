//! Raw values into [`Settings`], and the checks that span sections.

use std::collections::BTreeSet;
use std::time::Duration;

use super::document::Node;
use super::notes::Notes;
use super::reader::Reader;
use super::secret::Secret;
use super::word::{NAME, is_name};
use super::{
    Adaptive, Alarm, Api, Callbacks, Database, Dkim, Dns, Feedback, Health, Inbound, Log,
    MailboxProviderRule, Pool, Queue, Reload, Replies, Route, RouteKind, RouteRule, Scale, Secrets,
    Settings, Smtp, Source, Stream, Suppression, Telemetry, ThrottleRule, TlsMode, TlsPolicies,
    TlsReport, Traces, Webhook, Worker,
};
use crate::domain::ids::MailboxProvider;

/// Secrets that came in by their own variables or as systemd credentials.
#[derive(Default)]
pub(super) struct Outside {
    pub(super) database_password: Option<Secret>,
    pub(super) key: Option<Secret>,
    pub(super) suppression_key: Option<Secret>,
}

/// Reads all sections and checks them. What is wrong goes to `notes`; the value
/// is good only if no fault is there afterwards.
pub(super) fn settings(document: &Node, outside: Outside, notes: &Notes) -> Settings {
    let root = Reader::new(document, notes);
    let shipped = Settings::default();
    let database = Database::read(root.section("database"), outside.database_password);
    let cells = entries(&root, "cell", |section| Database::read_cell(section, &database));
    let settings = Settings {
        cells: cells.unwrap_or_default(),
        database,
        queue: Queue::read(root.section("queue")),
        worker: Worker::read(root.section("worker")),
        streams: streams(&root, shipped.streams),
        mailbox_providers: entries(&root, "mailbox_provider", MailboxProviderRule::read)
            .unwrap_or_default(),
        throttles: entries(&root, "throttle", ThrottleRule::read)
            .into_iter()
            .flatten()
            .flatten()
            .collect(),
        adaptive: Adaptive::read(root.section("adaptive")),
        replies: Replies::read(root.section("replies")),
        routes: entries(&root, "route", Route::read).unwrap_or(shipped.routes),
        rules: entries(&root, "rule", RouteRule::read).unwrap_or_default(),
        sources: entries(&root, "source", Source::read).unwrap_or(shipped.sources),
        pools: entries(&root, "pool", Pool::read).unwrap_or_default(),
        smtp: Smtp::read(root.section("smtp")),
        dkim: Dkim::read(root.section("dkim")),
        dns: Dns::read(root.section("dns")),
        tls: TlsPolicies::read(root.section("tls")),
        tls_report: root.optional_section("tls_report").and_then(TlsReport::read),
        api: Api::read(root.section("api")),
        callbacks: Callbacks::read(root.section("callbacks")),
        feedback: Feedback::read(root.section("feedback")),
        inbound: Inbound::read(root.section("inbound")),
        suppression: Suppression::read(root.section("suppression"), outside.suppression_key),
        health: Health::read(root.section("health")),
        scale: Scale::read(root.section("scale")),
        webhook: Webhook::read(root.section("webhook")),
        reload: Reload::read(root.section("reload")),
        telemetry: Telemetry::read(root.section("telemetry")),
        traces: Traces::read(root.section("traces")),
        log: Log::read(root.section("log")),
        secrets: Secrets::read(root.section("secrets"), outside.key),
        alarm: root.optional_section("alarm").and_then(Alarm::read),
    };
    root.end();
    let check = Check { settings: &settings, document, notes };
    check.names();
    check.cells();
    check.references();
    check.throttles();
    check.times();
    check.feedback();
    check.habits();
    settings
}

fn entries<'d, T>(
    root: &Reader<'d>,
    key: &'static str,
    read: impl Fn(Reader<'d>) -> T,
) -> Option<Vec<T>> {
    root.entries(key).map(|entries| entries.into_iter().map(read).collect())
}

/// A stream takes what it leaves out from `bulk` as configured.
fn streams(
    root: &Reader<'_>,
    mut streams: std::collections::BTreeMap<String, Stream>,
) -> std::collections::BTreeMap<String, Stream> {
    let mut named = root.named("stream");
    named.sort_by_key(|(name, _)| *name != "bulk");
    for (name, section) in named {
        if !is_name(name) {
            section.fault(name, format_args!("expected {NAME}"));
        }
        let default = streams.get(name).or_else(|| streams.get("bulk")).cloned();
        let stream = Stream::read(section, &default.unwrap_or_else(Stream::bulk));
        streams.insert(name.to_owned(), stream);
    }
    streams
}

/// Checks over finished sections; knows by path where each value was written.
struct Check<'s> {
    settings: &'s Settings,
    document: &'s Node,
    notes: &'s Notes,
}

impl Check<'_> {
    fn fault(&self, path: &str, message: &str) {
        self.notes.fault(self.document.place_of(path), format!("{path}: {message}"));
    }

    fn warn(&self, path: &str, message: &str) {
        self.notes.warn(self.document.place_of(path), format!("{path}: {message}"));
    }

    /// Nothing is called the same twice, and there is something to send by.
    fn names(&self) {
        let settings = self.settings;
        self.unique("route", settings.routes.iter().map(|route| &*route.name));
        self.unique("source", settings.sources.iter().map(|source| &*source.name));
        self.unique("pool", settings.pools.iter().map(|pool| &*pool.name));
        self.unique("mailbox_provider", settings.mailbox_providers.iter().map(|rule| &*rule.name));
        if settings.routes.is_empty() {
            self.fault("route", "expected at least one [[route]]");
        }
        if settings.sources.is_empty() {
            self.fault("source", "expected at least one [[source]]");
        }
        let mut domains = BTreeSet::new();
        for (n, rule) in settings.mailbox_providers.iter().enumerate() {
            if rule.name == MailboxProvider::OTHER {
                let message =
                    "\"other\" is everyone that no [[mailbox_provider]] names; choose another name";
                self.fault(&format!("mailbox_provider[{n}].name"), message);
            }
            for domain in rule.domains.iter().chain(&rule.mx_suffixes) {
                if !domains.insert(domain) {
                    let message = format!("{domain} belongs to a mailbox provider already");
                    self.fault(&format!("mailbox_provider[{n}]"), &message);
                }
            }
        }
    }

    /// Each cell is told apart by name, number and address.
    fn cells(&self) {
        let settings = self.settings;
        for (n, cell) in settings.cells.iter().enumerate() {
            for earlier in settings.all_cells().take(n + 1) {
                let same = |key: &str, what: &str| {
                    let message = format!("{what} is that of the cell {:?} already", earlier.cell);
                    self.fault(&format!("cell[{n}].{key}"), &message);
                };
                if earlier.cell == cell.cell {
                    same("name", &format!("{:?}", cell.cell));
                }
                if earlier.number == cell.number {
                    same("number", &cell.number.to_string());
                }
                if earlier.url == cell.url {
                    same("url", "this database");
                }
            }
        }
        let known: Vec<&str> = settings.all_cells().map(|cell| &*cell.cell).collect();
        for name in &settings.worker.cells {
            if !known.contains(&name.as_str()) {
                let hint = super::fault::perhaps(name, known.iter().copied());
                let message = format!(
                    "expected the name of a cell ({}), found {name:?}{hint}",
                    known.join(", ")
                );
                self.fault("worker.cells", &message);
            }
        }
    }

    fn unique<'n>(&self, key: &str, names: impl Iterator<Item = &'n str>) {
        let mut seen = BTreeSet::new();
        for (n, name) in names.enumerate().filter(|(_, name)| !name.is_empty()) {
            if !seen.insert(name) {
                let message = format!("{name:?} is the name of another [[{key}]] already");
                self.fault(&format!("{key}[{n}].name"), &message);
            }
        }
    }

    /// Whatever is named exists.
    fn references(&self) {
        let settings = self.settings;
        for (n, route) in settings.routes.iter().enumerate() {
            for source in &route.sources {
                self.known_source(&format!("route[{n}].sources"), source);
            }
            if let Some(fallback) = &route.fallback {
                let path = format!("route[{n}].fallback");
                self.known_route(&path, fallback);
                if *fallback == route.name {
                    self.fault(&path, "a route cannot take over from itself");
                }
            }
        }
        for (n, pool) in settings.pools.iter().enumerate() {
            for source in &pool.sources {
                self.known_source(&format!("pool[{n}].sources"), source);
            }
        }
        let pools: Vec<&str> = settings.pools.iter().map(|pool| &*pool.name).collect();
        for (n, rule) in settings.rules.iter().enumerate() {
            self.shares(n, rule);
            if let Some(pool) = &rule.pool {
                self.known(&format!("rule[{n}].pool"), "pool", pool, &pools);
            }
            if let Some(name) = &rule.mailbox_provider {
                self.known_mailbox_provider(&format!("rule[{n}].mailbox_provider"), name);
            }
            if let Some(earlier) = settings.rules[..n].iter().position(|other| hides(other, rule)) {
                let message = format!("never reached: rule[{earlier}] matches all of it before");
                self.fault(&format!("rule[{n}]"), &message);
            }
        }
    }

    /// A rule leads to routes that exist, to each once.
    fn shares(&self, n: usize, rule: &RouteRule) {
        let single = rule.split.len() == 1;
        for (nth, share) in rule.split.iter().enumerate() {
            let path = if single {
                format!("rule[{n}].route")
            } else {
                format!("rule[{n}].split[{nth}].route")
            };
            if !share.route.is_empty() {
                self.known_route(&path, &share.route);
            }
            let route = self.settings.routes.iter().find(|route| route.name == share.route);
            if rule.pool.is_some()
                && route.is_some_and(|route| matches!(route.kind, RouteKind::Provider(_)))
            {
                let message = "a provider sends from addresses of its own";
                self.fault(&format!("rule[{n}].pool"), message);
            }
            if rule.split.iter().take(nth).any(|earlier| earlier.route == share.route) {
                self.fault(&path, &format!("{:?} has a share already", share.route));
            }
        }
    }

    fn throttles(&self) {
        let rules = &self.settings.throttles;
        for (n, rule) in rules.iter().enumerate() {
            let key = |name| format!("throttle[{n}].{name}");
            let (_, mailbox_provider, source, route) = rule.scope.names();
            if let Some(name) = source {
                self.known_source(&key("source"), name);
            }
            if let Some(name) = mailbox_provider {
                self.known_mailbox_provider(&key("mailbox_provider"), name);
            }
            if let Some(name) = route {
                self.known_route(&key("route"), name);
            }
            if let Some(earlier) = rules[..n].iter().position(|other| other.scope == rule.scope) {
                let message = format!("limits the same as throttle[{earlier}]; keep one of them");
                self.fault(&format!("throttle[{n}]"), &message);
            }
        }
    }

    fn known_route(&self, path: &str, name: &str) {
        let known: Vec<&str> = self.settings.routes.iter().map(|route| &*route.name).collect();
        self.known(path, "route", name, &known);
    }

    fn known_source(&self, path: &str, name: &str) {
        let known: Vec<&str> = self.settings.sources.iter().map(|source| &*source.name).collect();
        self.known(path, "source", name, &known);
    }

    fn known_mailbox_provider(&self, path: &str, name: &str) {
        let rules = self.settings.mailbox_providers.iter().map(|rule| &*rule.name);
        let known: Vec<&str> = rules.chain([MailboxProvider::OTHER]).collect();
        self.known(path, "mailbox_provider", name, &known);
    }

    fn known(&self, path: &str, kind: &str, name: &str, known: &[&str]) {
        if !known.contains(&name) {
            let hint = super::fault::perhaps(name, known.iter().copied());
            let message = format!("expected the name of a [[{kind}]], found {name:?}{hint}");
            self.fault(path, &message);
        }
    }

    /// Times that only make sense beside each other.
    fn times(&self) {
        let queue = &self.settings.queue;
        if queue.beat_interval * 2 >= queue.session_ttl {
            let message = "must be less than half of queue.session_ttl, or one late beat fences a healthy worker";
            self.fault("queue.beat_interval", message);
        }
        if queue.history_retention < queue.retention {
            let message = "must not be less than queue.retention: without its attempts nobody knows how a delivery ended";
            self.fault("queue.history_retention", message);
        }
        if self.settings.worker.shutdown_deadline > queue.session_ttl + queue.rescue_delay {
            let message = "must not exceed queue.session_ttl + queue.rescue_delay";
            self.fault("worker.shutdown_deadline", message);
        }
        let webhook = &self.settings.webhook;
        if webhook.give_up_after >= webhook.retention {
            let message = "must be less than webhook.retention, or an endpoint loses events before it is given up";
            self.fault("webhook.give_up_after", message);
        }
        if webhook.longest_retry < webhook.first_retry {
            self.fault("webhook.longest_retry", "must not be below webhook.first_retry");
        }
        let scale = &self.settings.scale;
        if scale.min_replicas > scale.max_replicas {
            self.fault("scale.min_replicas", "must not exceed scale.max_replicas");
        }
        if self.settings.api.listen == self.settings.telemetry.listen
            && self.settings.api.listen.port() != 0
        {
            self.fault("telemetry.listen", "is the address of api.listen; choose another port");
        }
    }

    /// Return paths are signed, and reports need somebody who takes them.
    fn feedback(&self) {
        let settings = self.settings;
        if settings.inbound.is_on() && settings.secrets.key.is_none() {
            let message = "needs the key of secrets.key_file: without it no return path can be told from a forged one";
            self.fault("inbound", message);
        }
        if settings.feedback.honour < settings.queue.retention {
            let message = "is less than queue.retention: reports on mail that is still known would be refused";
            self.warn("feedback.honour", message);
        }
        let hour = Duration::from_secs(3_600);
        if settings.callbacks.is_on()
            && settings.feedback.keep_reports < settings.callbacks.max_age + hour
        {
            let message = "must exceed callbacks.max_age by an hour, or a callback could be repeated once it is forgotten";
            self.fault("feedback.keep_reports", message);
        }
    }

    /// What works, but is likely not meant.
    fn habits(&self) {
        let settings = self.settings;
        let direct =
            settings.routes.iter().any(|route| matches!(route.kind, RouteKind::Mx { port: 25 }));
        for (n, source) in settings.sources.iter().enumerate() {
            let host = source.ehlo.to_ascii_lowercase();
            let nobody = [".localdomain", ".example.com", ".example"];
            if direct && nobody.iter().any(|end| host.ends_with(end)) {
                let message = format!(
                    "{} is not this machine's name; receivers want one with forward and reverse DNS",
                    source.ehlo
                );
                self.warn(&format!("source[{n}].ehlo"), &message);
            }
        }
        for (n, route) in settings.routes.iter().enumerate() {
            if let RouteKind::Relay { auth: Some(_), .. } = route.kind
                && route.tls == TlsMode::Required
            {
                let message = "\"required\" takes any certificate, so whoever sits between can read the password; use \"verified\"";
                self.warn(&format!("route[{n}].tls"), message);
            }
        }
        if settings.smtp.dot_timeout < Duration::from_secs(600) {
            let message =
                "below 10m: a slow receiver may have taken the mail already, and it is sent twice";
            self.warn("smtp.dot_timeout", message);
        }
        if settings.worker.tenant_concurrency > settings.worker.concurrency {
            let message = "above worker.concurrency: one tenant can take every place";
            self.warn("worker.tenant_concurrency", message);
        }
    }
}

/// Whether everything that `later` matches is matched by `earlier` first.
fn hides(earlier: &RouteRule, later: &RouteRule) -> bool {
    let covers = |wide: &Option<String>, narrow: &Option<String>| wide.is_none() || wide == narrow;
    covers(&earlier.tenant, &later.tenant)
        && covers(&earlier.stream, &later.stream)
        && covers(&earlier.mailbox_provider, &later.mailbox_provider)
}
