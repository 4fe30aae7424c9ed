//! Sends spans to the receiver: gathered for a moment, posted once, never again.
//!
//! A receiver that is away, slow or refuses costs spans and nothing else: what it did not take
//! is counted, and said in the log when that begins and when it ends.

use std::time::Duration;

use opentelemetry_proto::tonic::resource::v1::Resource;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::span::Span;
use super::{counted, otlp};
use crate::config::Traces;

/// Most spans of one request: some 300 KB.
const BATCH: usize = 512;

/// An answer of more bytes is not read.
const LONGEST_ANSWER: u64 = 64 << 10;

/// Posts spans to one receiver.
pub(super) struct Exporter {
    endpoint: String,
    interval: Duration,
    client: reqwest::Client,
    resource: Resource,
    /// What it did last time.
    works: bool,
}

/// Why no spans can be sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoExporter {
    /// The way outside could not be set up.
    #[error("traces: {0}")]
    Client(#[from] reqwest::Error),
    /// A header field cannot be sent.
    #[error("traces.headers_file: a line is no header field")]
    Header,
}

impl Exporter {
    /// As configured; `None` where there is no receiver.
    pub(super) fn new(settings: &Traces, service: &str) -> Result<Option<Self>, NoExporter> {
        let Some(endpoint) = settings.endpoint.clone() else { return Ok(None) };
        let mut headers = HeaderMap::new();
        let protobuf = HeaderValue::from_static("application/x-protobuf");
        for (name, value) in settings.header_fields().ok_or(NoExporter::Header)? {
            let name: HeaderName = name.parse().map_err(|_| NoExporter::Header)?;
            let mut value: HeaderValue = value.parse().map_err(|_| NoExporter::Header)?;
            value.set_sensitive(true);
            headers.append(name, value);
        }
        headers.insert(CONTENT_TYPE, protobuf);
        let client = reqwest::Client::builder()
            .timeout(settings.timeout)
            .default_headers(headers)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        let instance = format!("{:016x}", rand::random::<u64>());
        Ok(Some(Self {
            endpoint,
            interval: settings.interval,
            client,
            resource: otlp::resource(service, &instance),
            works: true,
        }))
    }

    /// Sends what comes in until nothing more can come.
    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Span>) {
        let mut batch = Vec::with_capacity(BATCH);
        while inbox.recv_many(&mut batch, BATCH).await > 0 {
            let until = Instant::now() + self.interval;
            while batch.len() < BATCH {
                let room = BATCH - batch.len();
                // Nothing more comes, or the moment is over.
                let Ok(1..) = timeout_at(until, inbox.recv_many(&mut batch, room)).await else {
                    break;
                };
            }
            self.send(&mut batch).await;
        }
    }

    async fn send(&mut self, batch: &mut Vec<Span>) {
        let spans = batch.len() as u64;
        let body = otlp::body(&self.resource, batch.drain(..));
        match self.post(body).await {
            Ok(None) => {
                counted("exported", spans);
                if !std::mem::replace(&mut self.works, true) {
                    tracing::info!("traces are taken again");
                }
            }
            Ok(Some((refused, reason))) => {
                counted("failed", refused.min(spans));
                counted("exported", spans.saturating_sub(refused));
                self.complain(&format!("it refused {refused} of {spans} spans: {reason:?}"));
            }
            Err(reason) => {
                counted("failed", spans);
                self.complain(&reason);
            }
        }
    }

    /// Once, until it works again.
    fn complain(&mut self, reason: &str) {
        if std::mem::replace(&mut self.works, false) {
            tracing::warn!(
                reason,
                "the receiver of traces does not take them; they are dropped and counted"
            );
        }
    }

    /// What the receiver refused of a request that it answered well.
    async fn post(&self, body: Vec<u8>) -> Result<Option<(u64, String)>, String> {
        let answer = self.client.post(&self.endpoint).body(body).send().await;
        // Without the URL: it is in the configuration, and may hold what nobody should see.
        let answer = answer.map_err(|error| chain(&error.without_url()))?;
        let status = answer.status();
        if !status.is_success() {
            return Err(format!("it answered {status}"));
        }
        if answer.content_length().is_none_or(|length| length == 0 || length > LONGEST_ANSWER) {
            return Ok(None);
        }
        let bytes = answer.bytes().await.map_err(|error| chain(&error.without_url()))?;
        Ok(otlp::refused(&bytes))
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
