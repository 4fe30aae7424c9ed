//! A receiver of OTLP over HTTP that keeps the spans it is sent, and writes a trace as a page.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

use super::http_peer::{Act, HttpPeer};

/// Longest wait for spans; only a broken program reaches it.
const PATIENCE: Duration = Duration::from_secs(60);

/// The receiver.
pub struct Receiver {
    peer: HttpPeer,
}

/// A span as it came, with the service that told it.
#[derive(Debug, Clone)]
pub struct Told {
    pub service: String,
    pub span: Span,
}

impl Receiver {
    pub async fn start() -> Self {
        let act = Act::Answer(
            200,
            vec![("content-type", "application/x-protobuf".into())],
            String::new(),
        );
        Self { peer: HttpPeer::always(act).await }
    }

    /// What `traces.endpoint` is to be.
    pub fn endpoint(&self) -> String {
        format!("{}/v1/traces", self.peer.url())
    }

    /// All spans so far, in the order of their beginnings.
    pub fn spans(&self) -> Vec<Told> {
        let mut told = Vec::new();
        for request in self.peer.requests() {
            assert_eq!(request.path, "/v1/traces");
            assert_eq!(request.header("content-type"), "application/x-protobuf");
            let sent =
                ExportTraceServiceRequest::decode(&*request.body).expect("a request of OTLP");
            for resource in sent.resource_spans {
                let attributes = resource.resource.expect("a resource").attributes;
                let service = text(&attributes, "service.name");
                for scope in resource.scope_spans {
                    let spans = scope.spans.into_iter();
                    told.extend(spans.map(|span| Told { service: service.clone(), span }));
                }
            }
        }
        told.sort_by_key(|told| told.span.start_time_unix_nano);
        told
    }

    /// Waits for so many spans.
    pub async fn has(&self, n: usize) -> Vec<Told> {
        let all = async {
            let mut requests = 1;
            loop {
                self.peer.has(requests).await;
                let spans = self.spans();
                if spans.len() >= n {
                    return spans;
                }
                requests = self.peer.requests().len() + 1;
            }
        };
        let all = tokio::time::timeout(PATIENCE, all).await;
        all.unwrap_or_else(|_| panic!("never {n} spans, but {:#?}", self.spans()))
    }
}

impl Told {
    /// The trace in hex.
    pub fn trace(&self) -> String {
        hex(&self.span.trace_id)
    }

    /// Its own id in hex.
    pub fn id(&self) -> String {
        hex(&self.span.span_id)
    }

    /// The id of what it belongs under, in hex.
    pub fn parent(&self) -> String {
        hex(&self.span.parent_span_id)
    }

    /// An attribute, in words; empty: there is none.
    pub fn fact(&self, name: &str) -> String {
        text(&self.span.attributes, name)
    }

    /// The names of its events.
    pub fn events(&self) -> Vec<&str> {
        self.span.events.iter().map(|event| event.name.as_str()).collect()
    }
}

/// Spans as a page: each with its place in time, what it belongs under, and what is known of it.
pub fn page(told: &[Told]) -> String {
    let Some(first) = told.iter().map(|told| told.span.start_time_unix_nano).min() else {
        return String::new();
    };
    let at = |nanoseconds: u64| nanoseconds.saturating_sub(first) as f64 / 1e6;
    let mut page = String::new();
    let mut traces: BTreeMap<String, Vec<&Told>> = BTreeMap::new();
    for one in told {
        traces.entry(one.trace()).or_default().push(one);
    }
    for (trace, spans) in traces {
        let _ = writeln!(page, "trace {trace}");
        for one in spans {
            let (began, ended) = (one.span.start_time_unix_nano, one.span.end_time_unix_nano);
            let _ = writeln!(
                page,
                "  {:>9.1} ms  +{:.1} ms  {} [{}]  span {} under {}",
                at(began),
                ended.saturating_sub(began) as f64 / 1e6,
                one.span.name,
                one.service,
                one.id(),
                one.parent(),
            );
            for link in &one.span.links {
                let _ = writeln!(page, "                follows {}", hex(&link.span_id));
            }
            let facts: Vec<String> = one
                .span
                .attributes
                .iter()
                .map(|pair| format!("{}={}", pair.key, written(pair.value.as_ref())))
                .collect();
            let _ = writeln!(page, "                {}", facts.join(" "));
            let events: Vec<String> = one
                .span
                .events
                .iter()
                .map(|event| format!("{} {:.1}", event.name, at(event.time_unix_nano)))
                .collect();
            if !events.is_empty() {
                let _ = writeln!(page, "                passed: {}", events.join(", "));
            }
            if let Some(status) = one.span.status.as_ref().filter(|status| status.code == 2) {
                let _ = writeln!(page, "                failed: {}", status.message);
            }
        }
    }
    page
}

fn text(attributes: &[KeyValue], name: &str) -> String {
    let found = attributes.iter().find(|pair| pair.key == name);
    written(found.and_then(|pair| pair.value.as_ref()))
}

fn written(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(switch)) => switch.to_string(),
        other => other.map_or_else(String::new, |other| format!("{other:?}")),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
