//! `POST /v1/messages/{id}/recipients`: any number of recipients, a line of JSON each.
//!
//! The lines are stored in parts of up to [`PART`], each in one statement, while
//! the next part is being read; memory stays the same however long the list is.
//! A part is stored once per Idempotency-Key and place, so an upload that broke
//! off is repeated from its beginning with the same key, and what was stored
//! before is not stored again. A part is only ever stored whole: the lines that
//! were read when an upload broke off are dropped, and the repeat brings them.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::task::JoinHandle;

use super::Api;
use super::auth::Authenticated;
use super::body::{Object, require_type};
use super::cells::ApiCell;
use super::error::{FieldFault, Problem, Stored, short};
use super::lines::{Line, Lines, MAX_LINE};
use super::lookup::message_id;
use super::message::{REPLAYED, idempotency_key};
use super::recipient::{Admission, RecipientEntry};
use super::trace::Journey;
use crate::domain::ids::MessageId;
use crate::domain::trace::Traceparent;
use crate::message::content::MessageContent;
use crate::message::template::Compiled;
use crate::queue::enqueue::{Appended, Chunk, Digest, EnqueueError};
use crate::tenant::isolation::TenantScope;

/// Lines of a part, and deliveries of a part (a line with Cc is several).
const PART: usize = 5_000;

/// Bytes of a part, each line counted once for every delivery it becomes.
const PART_BYTES: usize = 4 << 20;

/// Memory that an upload takes: two parts, as read and as stored.
const SHARE: u64 = 4 * PART_BYTES as u64;

/// Refused lines that are told; all are counted.
const MAX_TOLD: usize = 1_000;

/// What the body may be called.
const TYPES: [&str; 3] = ["application/x-ndjson", "application/ndjson", "application/jsonl"];

/// 202: what became of the lines.
#[derive(Serialize)]
struct Summary {
    id: MessageId,
    lines: u64,
    accepted: u64,
    suppressed: u64,
    refused: u64,
    /// The first of them.
    refusals: Vec<RefusedLine>,
}

#[derive(Serialize)]
struct RefusedLine {
    /// From 1.
    line: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    reason: String,
}

/// `POST /v1/messages/{id}/recipients`
pub async fn append(
    State(api): State<Arc<Api>>,
    caller: Authenticated,
    journey: Journey,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let id = message_id(&id)?;
    require_type(&headers, &TYPES)?;
    let key = idempotency_key(&headers)?;
    let _share = api.budget.share(SHARE).await?;
    let (template, bulk, trace) = template_of(&api, &caller, id).await?;
    let store = Store { cell: Arc::clone(caller.cell()), scope: *caller.scope(), message: id, key };
    let upload = Upload {
        template: &template,
        bulk,
        store,
        part: Part::default(),
        next_part: 0,
        in_flight: None,
        stored: Stored { lines: 0, accepted: 0, suppressed: 0 },
        replayed_parts: 0,
        told: Told::default(),
        journey,
        trace,
    };
    let answer = upload.run(Lines::new(body)).await;
    answer.map_err(|problem| api.authenticator.note(&caller, problem))
}

/// The template, whether its mail is bulk, and the trace that came with the message.
async fn template_of(
    api: &Api,
    caller: &Authenticated,
    id: MessageId,
) -> Result<(Compiled, bool, Option<Traceparent>), Problem> {
    let stored = caller.cell().lookup.template(caller.scope(), id).await?;
    let stored = stored.ok_or_else(|| Problem::not_found("message"))?;
    let content: Result<MessageContent, _> = serde_json::from_str(&stored.content);
    let compiled = content.map_err(|error| error.to_string()).and_then(|content| {
        let compiled = Compiled::compile(&content).map_err(|error| error.to_string())?;
        Ok((compiled, content.traceparent.and_then(|text| text.parse().ok())))
    });
    match compiled {
        Ok((template, caller)) => Ok((template, api.terms().is_bulk(&stored.stream), caller)),
        Err(error) => {
            tracing::error!(message = %id, error, "stored content cannot be used");
            Err(Problem::internal())
        }
    }
}

/// An upload in progress.
struct Upload<'t> {
    template: &'t Compiled,
    bulk: bool,
    store: Store,
    part: Part<'t>,
    next_part: i32,
    in_flight: Option<InFlight>,
    stored: Stored,
    replayed_parts: i32,
    told: Told,
    journey: Journey,
    /// What came with the message.
    trace: Option<Traceparent>,
}

/// Where parts go.
#[derive(Clone)]
struct Store {
    cell: Arc<ApiCell>,
    scope: TenantScope,
    message: MessageId,
    key: Option<Digest>,
}

/// The part that is being read.
#[derive(Default)]
struct Part<'t> {
    admission: Option<Admission<'t>>,
    lines: usize,
    bytes: usize,
}

/// The part that is being stored. In a task of its own: a caller that goes away
/// must not leave a statement half sent.
struct InFlight {
    task: JoinHandle<Result<Appended, EnqueueError>>,
    /// Lines up to its end.
    lines: u64,
}

/// Refused lines.
#[derive(Default)]
struct Told {
    lines: u64,
    refused: u64,
    first: Vec<RefusedLine>,
}

impl Upload<'_> {
    async fn run(mut self, mut lines: Lines) -> Result<Response, Problem> {
        match self.read_all(&mut lines).await {
            Ok(()) => Ok(self.answer()),
            Err(problem) => {
                // What is in flight may be stored yet; say so if it is.
                let _ = self.land().await;
                Err(problem.with_stored(self.stored))
            }
        }
    }

    async fn read_all(&mut self, lines: &mut Lines) -> Result<(), Problem> {
        while let Some(line) = lines.next().await? {
            self.take(&line);
            if self.part.is_full() {
                let digest = lines.take_digest();
                self.send(digest).await?;
            }
        }
        if self.part.lines > 0 {
            let digest = lines.take_digest();
            self.send(digest).await?;
        }
        self.land().await
    }

    /// One line into the part.
    fn take(&mut self, line: &Line) {
        self.told.lines += 1;
        self.part.lines += 1;
        let text = match line {
            Line::TooLong => {
                self.part.bytes += MAX_LINE;
                let reason = format!("expected at most {MAX_LINE} bytes in a line");
                return self.told.refuse(None, reason);
            }
            Line::Whole(text) if text.trim_ascii().is_empty() => return,
            Line::Whole(text) => text,
        };
        let entry = match serde_json::from_slice::<Object<RecipientEntry<'_>>>(text) {
            Ok(Object(entry)) => entry,
            Err(error) => {
                self.part.bytes += text.len();
                return self.told.refuse(None, short(&error.to_string()));
            }
        };
        self.part.bytes += text.len() * entry.deliveries();
        let (template, bulk) = (self.template, self.bulk);
        let admission = self.part.admission.get_or_insert_with(|| Admission::new(template, bulk));
        if let Err(FieldFault { field, reason }) = admission.admit(&entry) {
            self.told.refuse(Some(short(entry.to())), format!("{field}: {reason}"));
        }
    }

    /// The full part on its way, once the one before has landed.
    async fn send(&mut self, digest: Digest) -> Result<(), Problem> {
        self.land().await?;
        let part = std::mem::take(&mut self.part);
        let number = self.next_part;
        self.next_part += 1;
        let chunk = Chunk {
            upload: self.store.key,
            number,
            digest,
            recipients: part.admission.map(Admission::into_recipients).unwrap_or_default(),
        };
        let store = self.store.clone();
        let task = tokio::spawn(async move {
            let appended = store.cell.enqueue.append(&store.scope, store.message, &chunk).await?;
            store.cell.waker.wake();
            Ok(appended)
        });
        self.in_flight = Some(InFlight { task, lines: self.told.lines });
        Ok(())
    }

    /// Waits for the part that is being stored.
    async fn land(&mut self) -> Result<(), Problem> {
        let Some(InFlight { task, lines }) = self.in_flight.take() else { return Ok(()) };
        let appended = task.await.map_err(|error| {
            tracing::error!(%error, "storing a part of an upload failed");
            Problem::internal()
        })??;
        self.stored.lines = lines;
        self.stored.accepted += appended.accepted;
        self.stored.suppressed += appended.suppressed;
        self.replayed_parts += i32::from(appended.replayed);
        Ok(())
    }

    fn answer(self) -> Response {
        let (message, accepted) = (self.store.message, self.stored.accepted);
        self.journey.joined(message, accepted, self.trace.as_ref());
        let all_replayed = self.next_part > 0 && self.replayed_parts == self.next_part;
        let summary = Summary {
            id: self.store.message,
            lines: self.told.lines,
            accepted: self.stored.accepted,
            suppressed: self.stored.suppressed,
            refused: self.told.refused,
            refusals: self.told.first,
        };
        let mut response = (axum::http::StatusCode::ACCEPTED, Json(summary)).into_response();
        if all_replayed {
            response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        }
        response
    }
}

impl Part<'_> {
    fn is_full(&self) -> bool {
        self.lines >= PART
            || self.bytes >= PART_BYTES
            || self.admission.as_ref().is_some_and(|admission| admission.deliveries() >= PART)
    }
}

impl Told {
    fn refuse(&mut self, to: Option<String>, reason: String) {
        self.refused += 1;
        if self.first.len() < MAX_TOLD {
            self.first.push(RefusedLine { line: self.lines, to, reason });
        }
    }
}
