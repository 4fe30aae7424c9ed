//! Reports to receivers on how TLS with them went (RFC 8460): one a day and receiver.
//!
//! Every process [stores](results) what it counted; once per cluster ([`Reporter`] runs in a
//! tick) the days that are over are reported. Promises: a report goes to each of a receiver's
//! collectors once. By mail it is exactly once, for the queue knows a repeated submission; by
//! POST a crash in the middle leaves it perhaps unsent and never sends it twice.

mod document;
pub mod results;
mod store;

use std::io::Write as _;
use std::sync::Arc;

use chrono::NaiveDate;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use sqlx::PgPool;
use tokio::sync::watch;

use crate::config::{Settings, TlsReport};
use crate::message::content::MessageContent;
use crate::queue::enqueue::sha256;
use crate::route::collector::{Collector, Collectors};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use store::Open;

/// Reports made by one tick.
const AT_ONCE: i64 = 200;

/// Makes and sends reports.
#[derive(Debug, Clone)]
pub struct Reporter {
    settings: watch::Receiver<Arc<Settings>>,
}

/// One day's report to one receiver, ready to be sent.
struct Report<'a> {
    by: &'a TlsReport,
    domain: &'a str,
    day: NaiveDate,
    /// The same for every try.
    id: String,
    gzip: Vec<u8>,
}

impl Reporter {
    /// Reports as the `[tls_report]` in force says; without one nothing is reported.
    pub fn new(settings: watch::Receiver<Arc<Settings>>) -> Self {
        Self { settings }
    }

    /// Reports days that are over. What cannot be sent now is left to a later call.
    pub async fn report(&self, pool: &PgPool) -> Result<(), sqlx::Error> {
        let settings = Arc::clone(&self.settings.borrow());
        let Some(by) = &settings.tls_report else { return Ok(()) };
        let open = store::open(pool, AT_ONCE).await?;
        if !open.is_empty() {
            match Collectors::new(&settings) {
                Ok(collectors) => {
                    for open in open {
                        report_one(pool, &collectors, by, open).await?;
                    }
                }
                Err(error) => tracing::error!(%error, "no reports on TLS can be sent"),
            }
        }
        store::forget(pool).await
    }
}

async fn report_one(
    pool: &PgPool,
    collectors: &Collectors,
    by: &TlsReport,
    open: Open,
) -> Result<(), sqlx::Error> {
    let Open { day, domain, done } = open;
    let named = match collectors.of(&domain).await {
        Ok(named) => named,
        Err(why) => {
            tracing::info!(domain, why, "nobody knows who wants reports on TLS");
            return store::later(pool, day, &domain).await;
        }
    };
    if named.is_empty() {
        count("unwanted");
        return store::close(pool, day, &domain, "unwanted").await;
    }
    let id = format!("{day}.{domain}@{}", domain_of(&by.from));
    let rows = store::results(pool, day, &domain).await?;
    let text = document::json(by, &domain, day, &id, &rows).to_string();
    let report = Report { by, domain: &domain, day, id, gzip: gzip(text.as_bytes()) };
    let mut all = true;
    for collector in named {
        let name = name_of(&collector);
        if done.contains(&name) {
            continue;
        }
        let sent = match &collector {
            Collector::Mail(address) => {
                let sent = report.mail(pool, address).await?;
                if sent.is_ok() {
                    store::note(pool, day, &domain, &name).await?;
                }
                sent
            }
            Collector::Web { host, port, path } => {
                store::note(pool, day, &domain, &name).await?;
                let sent = report.post(collectors, host, *port, path).await;
                if sent.is_err() {
                    store::take_back(pool, day, &domain, &name).await?;
                }
                sent
            }
        };
        count(if sent.is_ok() { "sent" } else { "failed" });
        if let Err(why) = sent {
            tracing::warn!(domain, collector = name, why, "a report on TLS was not taken");
            all = false;
        }
    }
    if all {
        store::close(pool, day, &domain, "sent").await
    } else {
        store::later(pool, day, &domain).await
    }
}

impl Report<'_> {
    /// Posts the report.
    async fn post(
        &self,
        collectors: &Collectors,
        host: &str,
        port: Option<u16>,
        path: &str,
    ) -> Result<(), String> {
        let body = self.gzip.clone();
        let answer = collectors.https.post(host, port, path, "application/tlsrpt+gzip", body).await;
        match answer {
            Ok(answer) if answer.status.is_success() => Ok(()),
            Ok(answer) => Err(format!("expected status 2xx, found {}", answer.status)),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Puts the report into the queue as a mail (RFC 8460 3 and 5.3).
    async fn mail(&self, pool: &PgPool, to: &str) -> Result<Result<(), String>, sqlx::Error> {
        let Self { by, domain, day, id, gzip } = self;
        let submitter = domain_of(&by.from);
        let (begin, end) = document::seconds(*day);
        let content = MessageContent {
            from: by.from.clone(),
            subject: format!("Report Domain: {domain} Submitter: {submitter} Report-ID: <{id}>"),
            text: Some(format!(
                "This is a report on TLS with the mail hosts of {domain} on {day} (UTC), by {}.\n\
                 Questions: {}\n",
                plain(&by.organization),
                plain(&by.contact)
            )),
            headers: [("TLS-Report-Domain", *domain), ("TLS-Report-Submitter", submitter)]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            ..MessageContent::default()
        };
        let mut content = json!(content);
        content["attachments"] = json!([{
            "filename": format!("{submitter}!{domain}!{begin}!{end}!{day}.json.gz"),
            "content_type": "application/tlsrpt+gzip",
            "content": STANDARD.encode(gzip),
        }]);
        let key = sha256(format!("tls-report {day} {domain} {to}").as_bytes());
        let status: String = sqlx::query_scalar(include_str!("../sql/tls_notice.sql"))
            .bind(&by.tenant)
            .bind(submitter.to_ascii_lowercase())
            .bind(&by.stream)
            .bind(content.to_string())
            .bind(to)
            .bind(key.as_slice())
            .fetch_one(pool)
            .await?;
        Ok(match status.as_str() {
            // A conflict is a report that was queued before with another text.
            "ok" | "replayed" | "conflict" => Ok(()),
            "no_tenant" => Err(format!("tls_report.tenant: {:?} is no active tenant", by.tenant)),
            "foreign_domain" => Err(format!(
                "tls_report.from: {submitter} is no domain of {:?}; run: postrider domain add",
                by.tenant
            )),
            other => Err(format!("the schema answered {other:?}")),
        })
    }
}

/// A text in a template that is to stand as it is.
fn plain(text: &str) -> String {
    text.replace(['{', '}'], "")
}

fn name_of(collector: &Collector) -> String {
    match collector {
        Collector::Mail(address) => format!("mailto:{address}"),
        Collector::Web { host, port, path } => {
            let port = port.map(|port| format!(":{port}")).unwrap_or_default();
            format!("https://{host}{port}{path}")
        }
    }
}

fn domain_of(address: &str) -> &str {
    address.rsplit_once('@').map_or(address, |(_, domain)| domain)
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    // Into memory: this cannot fail.
    let _ = encoder.write_all(text);
    encoder.finish().unwrap_or_default()
}

fn count(result: &'static str) {
    metrics::counter!("postrider_tls_reports_total", "result" => result).increment(1);
}
