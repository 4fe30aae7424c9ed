//! Traces: spans that processes tell a receiver of OTLP, where one is configured.
//!
//! A span is made when what it tells of is over: only then is it known whether it is kept. So
//! nothing is carried along but a few points in time, and what is not kept costs a draw.
//! [`record`] hands a span over without ever waiting; what does not fit is dropped and counted,
//! and so is what the receiver does not take. Nothing here can hold up or stop the sending of
//! mail (docs/adr/0033, docs/tracing.md).

mod export;
mod otlp;
pub mod span;
pub mod terms;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use self::export::Exporter;
use self::span::Span;
use self::terms::Terms;
use crate::config::Traces;

/// Longest time for the last spans when the process ends.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// One for the process, as the metrics' recorder and the log are.
static TRACES: Process = Process {
    on: AtomicBool::new(false),
    live: RwLock::new(None),
    task: Mutex::new(None),
    service: Mutex::new("postrider"),
};

struct Process {
    /// Spares those who trace nothing the lock.
    on: AtomicBool,
    live: RwLock<Option<Arc<Live>>>,
    task: Mutex<Option<JoinHandle<()>>>,
    service: Mutex<&'static str>,
}

/// What holds until the next reload.
struct Live {
    settings: Traces,
    terms: Arc<Terms>,
    outbox: mpsc::Sender<Span>,
}

/// Tells spans as `settings` say, in the name of this service. Call it inside the runtime.
pub fn begin(settings: &Traces, service: &'static str) {
    *TRACES.service.lock() = service;
    for result in ["exported", "dropped", "failed"] {
        counted(result, 0);
    }
    apply(settings);
}

/// Takes over changed settings: the spans that wait still go where they were to go.
pub fn apply(settings: &Traces) {
    let mut live = TRACES.live.write();
    let known = live.as_ref().map(|live| &live.settings);
    if known.map_or(settings.endpoint.is_none(), |known| known == settings) {
        return;
    }
    TRACES.on.store(false, Ordering::Relaxed);
    *live = None;
    let exporter = match Exporter::new(settings, *TRACES.service.lock()) {
        Ok(Some(exporter)) => exporter,
        Ok(None) => return,
        Err(error) => {
            tracing::error!(%error, "no traces are told");
            return;
        }
    };
    let (outbox, inbox) = mpsc::channel(settings.buffer as usize);
    *TRACES.task.lock() = Some(tokio::spawn(exporter.run(inbox)));
    let terms = Arc::new(Terms::new(settings));
    *live = Some(Arc::new(Live { settings: settings.clone(), terms, outbox }));
    TRACES.on.store(true, Ordering::Relaxed);
}

/// Whether anything is traced.
pub fn are_on() -> bool {
    TRACES.on.load(Ordering::Relaxed)
}

/// What is kept; `None` where nothing is traced.
pub fn terms() -> Option<Arc<Terms>> {
    if !are_on() {
        return None;
    }
    TRACES.live.read().as_ref().map(|live| Arc::clone(&live.terms))
}

/// Hands spans over; those for which there is no room are dropped and counted.
pub fn record(spans: impl IntoIterator<Item = Span>) {
    let Some(live) = TRACES.live.read().clone() else { return };
    for span in spans {
        if live.outbox.try_send(span).is_err() {
            counted("dropped", 1);
        }
    }
}

/// Tells what waits, for a short time, and nothing afterwards.
pub async fn close() {
    TRACES.on.store(false, Ordering::Relaxed);
    *TRACES.live.write() = None;
    let task = TRACES.task.lock().take();
    if let Some(task) = task
        && tokio::time::timeout(LAST_WORDS, task).await.is_err()
    {
        tracing::warn!("the last spans were not taken in time");
    }
}

fn counted(result: &'static str, spans: u64) {
    metrics::counter!("postrider_trace_spans_total", "result" => result).increment(spans);
}
