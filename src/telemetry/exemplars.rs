//! Exemplars: of each bucket of a few histograms the last value whose trace is kept, so that a
//! slow place on a panel leads to a trace; and the text that can say them, OpenMetrics 1.0.
//!
//! The exporter writes the text format 0.0.4, which has no exemplars. The two differ in little:
//! a family of counters is named without `_total`, there are no empty lines, and the end is said.

use std::collections::HashMap;
use std::fmt::Write;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;

use super::metrics::bucket;
use crate::domain::clock::Clock;
use crate::domain::trace::TraceId;

/// One for the process, as the metrics' recorder is. By series, as the exporter writes it; there
/// are no more of them than buckets.
static EXEMPLARS: Mutex<Option<HashMap<String, Exemplar>>> = Mutex::new(None);

/// `Content-Type` of what [`open_metrics`] writes.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A value in a bucket, and where it comes from.
#[derive(Debug, Clone, Copy)]
struct Exemplar {
    trace: TraceId,
    seconds: f64,
    at: DateTime<Utc>,
}

/// A value of a histogram with the usual buckets and this label was measured in a trace that is
/// kept. Call it for those only.
pub fn note(histogram: &str, label: (&str, &str), seconds: f64, trace: TraceId) {
    let bound = bucket(seconds).map_or_else(|| "+Inf".to_owned(), |bound| bound.to_string());
    let (key, value) = label;
    let series = format!("{histogram}_bucket{{{key}=\"{value}\",le=\"{bound}\"}}");
    let exemplar = Exemplar { trace, seconds, at: Clock::System.now().into() };
    EXEMPLARS.lock().get_or_insert_default().insert(series, exemplar);
}

/// What the exporter wrote, as OpenMetrics and with exemplars.
pub fn open_metrics(text: &str) -> String {
    let exemplars = EXEMPLARS.lock().clone().unwrap_or_default();
    let mut open = String::with_capacity(text.len() + exemplars.len() * 100);
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(said) = line.strip_prefix("# ") {
            describe(said, &mut open);
        } else {
            open.push_str(line);
            let series = line.rsplit_once(' ').map_or(line, |(series, _)| series);
            if let Some(Exemplar { trace, seconds, at }) = exemplars.get(series) {
                let at = at.timestamp_millis() as f64 / 1_000.0;
                let _ = write!(open, " # {{trace_id=\"{trace}\"}} {seconds} {at}");
            }
        }
        open.push('\n');
    }
    open.push_str("# EOF\n");
    open
}

/// `HELP name text` and `TYPE name kind`.
fn describe(said: &str, open: &mut String) {
    let mut words = said.splitn(3, ' ');
    let (what, name) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let rest = words.next().unwrap_or_default();
    let family = name.strip_suffix("_total").unwrap_or(name);
    // A counter by another name is none there.
    let rest = if what == "TYPE" && rest == "counter" && family == name { "unknown" } else { rest };
    let _ = write!(open, "# {what} {family} {rest}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::trace::Traceparent;

    const TEXT: &str = "# HELP postrider_x_total What is counted.
# TYPE postrider_x_total counter
postrider_x_total{route=\"a b\"} 3

# TYPE odd counter
odd 1

# TYPE postrider_exemplar_seconds histogram
postrider_exemplar_seconds_bucket{route=\"/v1\",le=\"0.25\"} 1
postrider_exemplar_seconds_bucket{route=\"/v1\",le=\"0.5\"} 2
postrider_exemplar_seconds_bucket{route=\"/v1\",le=\"+Inf\"} 3
postrider_exemplar_seconds_sum{route=\"/v1\"} 900.5
postrider_exemplar_seconds_count{route=\"/v1\"} 3
";

    #[test]
    fn a_bucket_names_the_last_trace_that_fell_into_it() {
        let trace = |n: u8| {
            let text = format!("00-4bf92f3577b34da6a3ce929d0e0e47{n:02x}-00f067aa0ba902b7-01");
            text.parse::<Traceparent>().expect("a traceparent").trace
        };
        let label = ("route", "/v1");
        note("postrider_exemplar_seconds", label, 0.3, trace(1));
        note("postrider_exemplar_seconds", label, 0.5, trace(2));
        note("postrider_exemplar_seconds", label, 900.0, trace(3));
        let open = open_metrics(TEXT);
        let lines: Vec<&str> = open.lines().collect();
        assert_eq!(lines[0], "# HELP postrider_x What is counted.");
        assert_eq!(lines[1], "# TYPE postrider_x counter");
        assert_eq!(lines[2], "postrider_x_total{route=\"a b\"} 3");
        assert_eq!(lines[3], "# TYPE odd unknown");
        assert_eq!(lines[6], "postrider_exemplar_seconds_bucket{route=\"/v1\",le=\"0.25\"} 1");
        let second = format!("le=\"0.5\"}} 2 # {{trace_id=\"{}\"}} 0.5 ", trace(2));
        assert!(lines[7].contains(&second), "{}", lines[7]);
        let last = format!("le=\"+Inf\"}} 3 # {{trace_id=\"{}\"}} 900 ", trace(3));
        assert!(lines[8].contains(&last), "{}", lines[8]);
        assert_eq!(lines.last(), Some(&"# EOF"));
        assert!(!lines.contains(&""), "{open}");
    }
}
