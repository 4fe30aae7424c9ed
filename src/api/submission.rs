//! A submission's body: read, checked, and made ready for the queue.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::body::{Object, parse_json};
use super::error::{FieldFault, Problem, short};
use super::recipient::{Admission, RecipientEntry};
use crate::config::Settings;
use crate::domain::trace::Traceparent;
use crate::message::attachment::AttachmentContent;
use crate::message::content::{MessageContent, header_field};
use crate::message::fault::InvalidContent;
use crate::message::mailbox::Mailbox;
use crate::message::template::Compiled;
use crate::queue::enqueue::{Recipients, Submission};

/// The stream of a message that names none.
const STREAM: &str = "transactional";

/// Longest name of a stream.
const MAX_STREAM: usize = 63;

/// How far ahead a message may be scheduled, and how long it may be tried.
const MAX_AHEAD: TimeDelta = TimeDelta::days(30);

/// Faults told in one answer.
const MAX_TOLD: usize = 1_000;

/// A submission that can be stored.
#[derive(Debug)]
pub struct Draft {
    /// What is stored.
    pub submission: Submission,
    /// What the answer needs besides.
    pub given: Given,
}

/// What submissions are held against.
#[derive(Debug, Clone)]
pub struct Terms {
    /// The settings of now.
    pub settings: Arc<Settings>,
    /// The time.
    pub now: DateTime<Utc>,
    /// The trace that the request belongs to.
    pub caller: Option<Traceparent>,
}

impl Terms {
    /// Whether mail of this stream carries an unsubscribe link. A stream that is not
    /// configured follows `bulk`.
    pub fn is_bulk(&self, stream: &str) -> bool {
        self.settings.streams.get(stream).is_none_or(|stream| stream.bulk)
    }
}

/// What the answer says of recipients that were not stored; kept for replays.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Given {
    /// Who was refused, and why.
    pub refused: Vec<Refused>,
    /// For each delivery the index of its recipient; absent when they are equal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub indices: Option<Vec<usize>>,
}

/// A recipient that cannot be accepted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Refused {
    /// Place in the body's `recipients`, from 0.
    pub index: usize,
    /// The address as submitted.
    pub to: String,
    /// The field and what is wrong with it.
    pub reason: String,
}

/// `POST /v1/messages` as documented.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    from: String,
    subject: String,
    html: Option<String>,
    text: Option<String>,
    reply_to: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    vars: Map<String, Value>,
    stream: Option<String>,
    #[serde(borrow)]
    recipients: Vec<Object<RecipientEntry<'a>>>,
    send_at: Option<String>,
    expires_at: Option<String>,
    #[serde(default)]
    attachments: Vec<Object<AttachmentBody>>,
    #[serde(default)]
    metadata: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AttachmentBody {
    filename: String,
    content_type: String,
    content: String,
    content_id: Option<String>,
}

impl Draft {
    /// Reads and checks a body; every fault is told at once.
    pub fn read(bytes: &[u8], terms: &Terms) -> Result<Self, Problem> {
        let Terms { settings, now, .. } = terms;
        let max_recipients = settings.api.max_recipients;
        let body: Body<'_> = parse_json(bytes)?;
        let deliveries: usize =
            body.recipients.iter().map(|Object(entry)| entry.deliveries()).sum();
        if deliveries > max_recipients as usize {
            return Err(Problem::field(
                "recipients",
                format!(
                    "expected at most {max_recipients} with their cc, found {deliveries}; send \
                     more with POST /v1/messages/ID/recipients"
                ),
            ));
        }
        let mut faults = Vec::new();
        let stream = body.stream.unwrap_or_else(|| STREAM.to_owned());
        if !is_stream(&stream) {
            faults.push(FieldFault::new(
                "stream",
                "expected lower-case letters, digits, - and _, at most 63, first a letter or digit",
            ));
        }
        let (send_at, expires_at) =
            read_times(body.send_at.as_deref(), body.expires_at.as_deref(), *now, &mut faults);
        let content = MessageContent {
            from: body.from,
            subject: body.subject,
            html: body.html,
            text: body.text,
            reply_to: body.reply_to,
            headers: body.headers,
            vars: body.vars,
            attachments: body
                .attachments
                .into_iter()
                .map(|Object(body)| body.into_content())
                .collect(),
            metadata: body.metadata,
            traceparent: terms.caller.map(|caller| caller.to_string()),
        };
        refuse_odd_characters(&content, &mut faults);
        let template = match Compiled::compile(&content) {
            Ok(template) if faults.is_empty() => template,
            Ok(_) => return Err(Problem::invalid(faults)),
            Err(invalid) => {
                faults.extend(field_faults(&invalid));
                return Err(Problem::invalid(faults));
            }
        };
        let bulk = terms.is_bulk(&stream);
        let (recipients, given) = admit_all(Admission::new(&template, bulk), &body.recipients)?;
        Ok(Self {
            submission: Submission {
                from_domain: domain_of(&content.from)?,
                stream,
                content: serde_json::to_string(&content)
                    .map_err(|error| Problem::malformed(error.to_string()))?,
                send_at,
                expires_at,
                recipients,
                idempotency: None,
            },
            given,
        })
    }
}

impl AttachmentBody {
    fn into_content(self) -> AttachmentContent {
        AttachmentContent {
            filename: self.filename,
            content_type: self.content_type,
            content: self.content,
            content_id: self.content_id,
        }
    }
}

/// The faults of a message's content as a caller is told them.
pub fn field_faults(invalid: &InvalidContent) -> Vec<FieldFault> {
    let told = |fault: &crate::message::fault::FieldError| match fault.line {
        None => FieldFault::new(&fault.field, &fault.reason),
        Some(line) => FieldFault::new(&fault.field, format!("line {line}: {}", fault.reason)),
    };
    invalid.faults().iter().take(MAX_TOLD).map(told).collect()
}

/// Whom to, and who was refused. 422 when nobody is left.
fn admit_all(
    mut admission: Admission<'_>,
    entries: &[Object<RecipientEntry<'_>>],
) -> Result<(Recipients, Given), Problem> {
    let mut given = Given::default();
    let mut faults = Vec::new();
    let mut indices = Vec::with_capacity(entries.len());
    for (index, Object(entry)) in entries.iter().enumerate() {
        match admission.admit(entry) {
            Ok(()) => indices.resize(admission.deliveries(), index),
            Err(fault) => {
                given.refused.push(Refused {
                    index,
                    to: short(entry.to()),
                    reason: format!("{}: {}", fault.field, fault.reason),
                });
                if faults.len() < MAX_TOLD {
                    let field = format!("recipients[{index}].{}", fault.field);
                    faults.push(FieldFault { field, ..fault });
                }
            }
        }
    }
    if admission.deliveries() == 0 && !entries.is_empty() {
        return Err(Problem::invalid(faults));
    }
    if indices.iter().enumerate().any(|(position, index)| position != *index) {
        given.indices = Some(indices);
    }
    Ok((admission.into_recipients(), given))
}

fn domain_of(from: &str) -> Result<String, Problem> {
    let mailbox: Mailbox = from.parse().map_err(|error| Problem::field("from", error))?;
    Ok(mailbox.address().domain().to_owned())
}

fn is_stream(name: &str) -> bool {
    let lower = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (1..=MAX_STREAM).contains(&name.len())
        && name.as_bytes().first().is_some_and(|first| lower(*first))
        && name.bytes().all(|b| lower(b) || b == b'-' || b == b'_')
}

type Moment = Option<DateTime<Utc>>;

fn read_times(
    send_at: Option<&str>,
    expires_at: Option<&str>,
    now: DateTime<Utc>,
    faults: &mut Vec<FieldFault>,
) -> (Moment, Moment) {
    let mut read = |field: &str, text: Option<&str>| match text.map(DateTime::parse_from_rfc3339) {
        None => None,
        Some(Ok(moment)) => Some(moment.to_utc()),
        Some(Err(_)) => {
            let found = text.unwrap_or_default().escape_default();
            let reason = format!("expected a time like 2030-01-31T12:00:00Z, found \"{found}\"");
            faults.push(FieldFault::new(field, reason));
            None
        }
    };
    let send_at = read("send_at", send_at);
    let expires_at = read("expires_at", expires_at);
    let begin = send_at.map_or(now, |send_at| send_at.max(now));
    if begin - now > MAX_AHEAD {
        faults.push(FieldFault::new("send_at", "expected at most 30 days ahead"));
    } else if expires_at.is_some_and(|end| end <= begin) {
        faults.push(FieldFault::new("expires_at", "expected a time after send_at and after now"));
    } else if expires_at.is_some_and(|end| end - begin > MAX_AHEAD) {
        faults.push(FieldFault::new("expires_at", "expected at most 30 days after send_at"));
    }
    (send_at, expires_at)
}

/// What neither a header line nor the database can hold. Bodies and variables may
/// have line breaks; labels may not.
fn refuse_odd_characters(content: &MessageContent, faults: &mut Vec<FieldFault>) {
    let headers = content.headers.iter().map(|(name, text)| (header_field(name), text));
    for (field, text) in headers.chain([("subject".to_owned(), &content.subject)]) {
        if text.chars().any(ends_a_line) {
            faults.push(FieldFault::new(field, "holds a control character or line separator"));
        }
    }
    let bodies = [("html", content.html.as_deref()), ("text", content.text.as_deref())];
    for (field, text) in bodies {
        if text.is_some_and(|text| text.contains('\0')) {
            faults.push(FieldFault::new(field, "holds the control character U+0000"));
        }
    }
    for (name, value) in &content.vars {
        let field = || format!("vars.{}", name.escape_default());
        if name.chars().any(ends_a_line) || any_text(value, &|text| text.contains('\0')) {
            faults.push(FieldFault::new(field(), "holds a control character"));
        }
    }
    for (name, value) in &content.metadata {
        let odd = |text: &str| text.chars().any(ends_a_line);
        if odd(name) || any_text(value, &odd) {
            let field = format!("metadata.{}", name.escape_default());
            faults.push(FieldFault::new(field, "holds a control character or line separator"));
        }
    }
}

fn ends_a_line(c: char) -> bool {
    c.is_control() || c == '\u{2028}' || c == '\u{2029}'
}

/// Whether any string in `value`, keys too, is `odd`.
fn any_text(value: &Value, odd: &dyn Fn(&str) -> bool) -> bool {
    match value {
        Value::String(text) => odd(text),
        Value::Array(items) => items.iter().any(|item| any_text(item, odd)),
        Value::Object(map) => map.iter().any(|(key, item)| odd(key) || any_text(item, odd)),
        _ => false,
    }
}
