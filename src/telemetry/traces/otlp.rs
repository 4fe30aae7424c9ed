//! Spans as OTLP writes them (opentelemetry-proto 1.x, `trace.proto`).

use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span as Written, Status};
use prost::Message;

use super::span::{Kind, Span, Value};

/// The process, as every request names it.
pub(super) fn resource(service: &str, instance: &str) -> Resource {
    let version = env!("CARGO_PKG_VERSION");
    let attributes = [
        ("service.name", service),
        ("service.namespace", "postrider"),
        ("service.version", version),
        ("service.instance.id", instance),
    ]
    .map(|(name, text)| pair(name, Value::Text(text.to_owned())));
    Resource { attributes: attributes.into(), ..Resource::default() }
}

/// The body of a request.
pub(super) fn body(resource: &Resource, spans: impl Iterator<Item = Span>) -> Vec<u8> {
    let scope =
        InstrumentationScope { name: "postrider".into(), ..InstrumentationScope::default() };
    let spans = ScopeSpans {
        scope: Some(scope),
        spans: spans.map(written).collect(),
        ..ScopeSpans::default()
    };
    let all = ResourceSpans {
        resource: Some(resource.clone()),
        scope_spans: vec![spans],
        ..ResourceSpans::default()
    };
    ExportTraceServiceRequest { resource_spans: vec![all] }.encode_to_vec()
}

/// How many spans of a request the receiver did not take, though it answered that it did, and why.
pub(super) fn refused(answer: &[u8]) -> Option<(u64, String)> {
    let answer = ExportTraceServiceResponse::decode(answer).ok()?;
    let partial = answer.partial_success?;
    let refused = u64::try_from(partial.rejected_spans).ok().filter(|refused| *refused > 0)?;
    Some((refused, partial.error_message))
}

fn written(span: Span) -> Written {
    let status = span.failure.map(|message| Status { message, code: StatusCode::Error.into() });
    let kind = match span.kind {
        Kind::Server => SpanKind::Server,
        Kind::Client => SpanKind::Client,
        Kind::Internal => SpanKind::Internal,
    };
    let link = |(trace, id): (crate::domain::trace::TraceId, crate::domain::trace::SpanId)| Link {
        trace_id: trace.bytes().into(),
        span_id: id.bytes().into(),
        ..Link::default()
    };
    let event = |moment: super::span::Moment| Event {
        time_unix_nano: nanoseconds(moment.at),
        name: moment.what.to_owned(),
        ..Event::default()
    };
    Written {
        trace_id: span.trace.bytes().into(),
        span_id: span.id.bytes().into(),
        parent_span_id: span.parent.map(|id| id.bytes().to_vec()).unwrap_or_default(),
        // W3C's flag "sampled": the span is kept.
        flags: 1,
        name: span.name,
        kind: kind.into(),
        start_time_unix_nano: nanoseconds(span.began),
        end_time_unix_nano: nanoseconds(span.ended),
        attributes: span.facts.into_pairs().map(|(name, value)| pair(name, value)).collect(),
        events: span.moments.into_iter().map(event).collect(),
        links: span.links.into_iter().map(link).collect(),
        status,
        ..Written::default()
    }
}

fn pair(name: &str, value: Value) -> KeyValue {
    let value = match value {
        Value::Text(text) => any_value::Value::StringValue(text),
        Value::Number(number) => any_value::Value::IntValue(number),
        Value::Switch(switch) => any_value::Value::BoolValue(switch),
    };
    KeyValue {
        key: name.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

fn nanoseconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}
