//! A submission's content: the JSON that the queue stores with a message.
//!
//! Reading it back never fails for an unknown key (a newer release may have
//! written it). Whether it can be sent is decided by
//! [`Compiled::compile`](super::template::Compiled::compile), which also the API
//! calls before it accepts anything.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::attachment::{Attachment, AttachmentContent};
use super::fault::Faults;
use super::header::HeaderName;
use super::mailbox::Mailbox;

/// What a tenant wants to send, once for all recipients.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MessageContent {
    /// Who writes: `Shop <orders@shop.example>`.
    pub from: String,
    /// Template of the subject.
    pub subject: String,
    /// Template of the HTML body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub html: Option<String>,
    /// Template of the plain text body; made from `html` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Where answers go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// Further header fields: name to template.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Variables of every recipient; a recipient's own win.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub vars: Map<String, Value>,
    /// Files for every recipient.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<AttachmentContent>,
    /// The tenant's own notes: returned with events, never sent.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
    /// The trace that the submission belongs to, where its caller said so (W3C Trace Context).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// The parts of a message that are the same for every recipient.
#[derive(Debug, Clone)]
pub(crate) struct FixedParts {
    pub(crate) from: Mailbox,
    pub(crate) reply_to: Option<Mailbox>,
    pub(crate) header_names: Vec<HeaderName>,
    pub(crate) attachments: Vec<Attachment>,
}

/// Most bytes of one template of a body (1 MiB): what is beyond is not a mail's text.
pub const MAX_BODY_TEMPLATE: usize = 1 << 20;

/// Most bytes of the template of a subject or header (4 KiB): it yields one line.
pub const MAX_LINE_TEMPLATE: usize = 4 << 10;

/// Most custom headers: receivers count header bytes, and some refuse beyond 64 KB.
pub const MAX_HEADERS: usize = 50;

/// Most attachments of one message.
pub const MAX_ATTACHMENTS: usize = 50;

/// Most decoded bytes of all attachments (15 MiB): in base64 it makes a mail of 21 MB,
/// and the large mailbox providers stop at 25.
pub const MAX_ATTACHMENT_BYTES: usize = 15 << 20;

/// Most bytes of `vars` as JSON (64 KiB): every render walks them.
pub const MAX_VARS: usize = 64 << 10;

/// Most bytes of `metadata` as JSON (16 KiB): it is copied into every event.
pub const MAX_METADATA: usize = 16 << 10;

impl MessageContent {
    /// Reads everything that is no template; notes every fault.
    pub(crate) fn read_fixed(&self, faults: &mut Faults) -> Option<FixedParts> {
        let from = faults.take("from", self.from.parse::<Mailbox>());
        let reply_to =
            faults.take("reply_to", self.reply_to.as_deref().map(str::parse).transpose());
        self.check_sizes(faults);
        let header_names = self.read_header_names(faults);
        let attachments = self.read_attachments(faults);
        Some(FixedParts {
            from: from?,
            reply_to: reply_to?,
            header_names: header_names?,
            attachments: attachments?,
        })
    }

    fn check_sizes(&self, faults: &mut Faults) {
        let texts = [
            ("subject", Some(&self.subject), MAX_LINE_TEMPLATE),
            ("html", self.html.as_ref(), MAX_BODY_TEMPLATE),
            ("text", self.text.as_ref(), MAX_BODY_TEMPLATE),
        ];
        for (field, text, limit) in texts {
            if let Some(found) = text.map(String::len).filter(|found| *found > limit) {
                faults.add(field, TooMany { unit: "bytes", limit, found });
            }
        }
        if self.html.is_none() && self.text.is_none() {
            faults.add("html", "expected html, text or both; found neither");
        }
        for (field, map, limit) in
            [("vars", &self.vars, MAX_VARS), ("metadata", &self.metadata, MAX_METADATA)]
        {
            let found = serde_json::to_string(map).map_or(usize::MAX, |json| json.len());
            if found > limit {
                faults.add(field, TooMany { unit: "bytes of JSON", limit, found });
            }
        }
    }

    fn read_header_names(&self, faults: &mut Faults) -> Option<Vec<HeaderName>> {
        let found = self.headers.len();
        if found > MAX_HEADERS {
            faults.add("headers", TooMany { unit: "headers", limit: MAX_HEADERS, found });
            return None;
        }
        let mut names: Vec<HeaderName> = Vec::with_capacity(found);
        for (name, template) in &self.headers {
            let field = header_field(name);
            if template.len() > MAX_LINE_TEMPLATE {
                let (limit, found) = (MAX_LINE_TEMPLATE, template.len());
                faults.add(&field, TooMany { unit: "bytes", limit, found });
            }
            let Some(name) = faults.take(&field, HeaderName::try_new(name)) else { continue };
            if names.iter().any(|known| known.as_str().eq_ignore_ascii_case(name.as_str())) {
                faults.add(field, "the same header is given twice in different case");
            } else {
                names.push(name);
            }
        }
        (names.len() == found).then_some(names)
    }

    fn read_attachments(&self, faults: &mut Faults) -> Option<Vec<Attachment>> {
        let found = self.attachments.len();
        if found > MAX_ATTACHMENTS {
            faults.add("attachments", TooMany { unit: "files", limit: MAX_ATTACHMENTS, found });
            return None;
        }
        // Before anything is decoded: four characters hold three bytes.
        let encoded: usize = self.attachments.iter().map(|a| a.content.len()).sum();
        let found_bytes = encoded / 4 * 3;
        if found_bytes > MAX_ATTACHMENT_BYTES + found * 2 {
            let limit = MAX_ATTACHMENT_BYTES;
            faults.add("attachments", TooMany { unit: "bytes", limit, found: found_bytes });
            return None;
        }
        let read: Vec<Attachment> = self
            .attachments
            .iter()
            .enumerate()
            .filter_map(|(n, content)| {
                Attachment::read(content, &format!("attachments[{n}]"), faults)
            })
            .collect();
        for (n, attachment) in read.iter().enumerate() {
            let same = |other: &Attachment| other.content_id == attachment.content_id;
            if attachment.content_id.is_some() && read[..n].iter().any(same) {
                faults
                    .add(format!("attachments[{n}].content_id"), "another attachment has the same");
            }
        }
        (read.len() == found).then_some(read)
    }
}

/// How a custom header's field is named in faults: `headers.X-Campaign`.
pub(crate) fn header_field(name: &str) -> String {
    let shown: String = name.chars().take(80).flat_map(char::escape_default).collect();
    format!("headers.{shown}")
}

/// A count beyond its limit.
struct TooMany {
    unit: &'static str,
    limit: usize,
    found: usize,
}

impl fmt::Display for TooMany {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected at most {} {}, found {}", self.limit, self.unit, self.found)
    }
}

impl fmt::Debug for MessageContent {
    /// Names what is there; texts and variables are the tenant's and stay out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageContent")
            .field("html_bytes", &self.html.as_ref().map(String::len))
            .field("text_bytes", &self.text.as_ref().map(String::len))
            .field("headers", &self.headers.len())
            .field("vars", &self.vars.len())
            .field("attachments", &self.attachments)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(content: Value) -> Vec<(String, String)> {
        let content: MessageContent = serde_json::from_value(content).expect("readable");
        let mut faults = Faults::default();
        let read = content.read_fixed(&mut faults);
        let faults = faults.into_vec();
        assert!(read.is_some() || !faults.is_empty());
        faults.into_iter().map(|fault| (fault.field, fault.reason)).collect()
    }

    #[test]
    fn a_small_message_is_enough() {
        let faults = read(json!({"from": "a@shop.example", "subject": "Hi", "text": "Hello"}));
        assert_eq!(faults, []);
    }

    #[test]
    fn every_fault_is_told_at_once() {
        let faults = read(json!({
            "from": "Shop",
            "subject": "s".repeat(MAX_LINE_TEMPLATE + 1),
            "reply_to": "a@x.example\r\nBcc: b@x.example",
            "headers": {"Subject": "x", "X-A\r\nBcc": "y", "X-Ok": "fine"},
            "vars": {"v": "v".repeat(MAX_VARS)},
            "metadata": {"m": "m".repeat(MAX_METADATA)},
            "attachments": [
                {"filename": "a", "content_type": "text/plain", "content": ""},
                {"filename": "a/b", "content_type": "x", "content": "*"},
            ],
        }));
        let fields: Vec<&str> = faults.iter().map(|(field, _)| field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "from",
                "reply_to",
                "subject",
                "html",
                "vars",
                "metadata",
                "headers.Subject",
                "headers.X-A\\r\\nBcc",
                "attachments[1].filename",
                "attachments[1].content_type",
                "attachments[1].content",
            ]
        );
        assert!(faults.iter().all(|(_, reason)| !reason.contains(['\r', '\n'])), "{faults:?}");
    }

    #[test]
    fn counts_are_bounded() {
        let many: BTreeMap<String, String> =
            (0..=MAX_HEADERS).map(|n| (format!("X-{n}"), String::new())).collect();
        let base = json!({"from": "a@shop.example", "subject": "", "text": ""});
        let with = |key: &str, value: Value| {
            let mut content = base.clone();
            content[key] = value;
            read(content)
        };
        assert_eq!(with("headers", json!(many))[0].0, "headers");
        assert_eq!(with("headers", json!({"X-A": "", "x-a": ""}))[0].0, "headers.x-a");
        let file =
            json!({"filename": "a", "content_type": "a/b", "content": "", "content_id": "i"});
        assert_eq!(
            with("attachments", json!(vec![file.clone(); MAX_ATTACHMENTS + 1]))[0].0,
            "attachments"
        );
        assert_eq!(with("attachments", json!([file, file]))[0].0, "attachments[1].content_id");
        let large = json!({
            "filename": "a", "content_type": "a/b",
            "content": "A".repeat((MAX_ATTACHMENT_BYTES / 3 + 2) * 4),
        });
        assert_eq!(with("attachments", json!([large]))[0].0, "attachments");
    }

    #[test]
    fn stored_content_of_a_newer_release_is_read() {
        let content: MessageContent = serde_json::from_value(json!({
            "from": "a@shop.example", "subject": "", "text": "", "colour": "blue",
        }))
        .expect("readable");
        let json = serde_json::to_value(&content).expect("json");
        assert_eq!(json, json!({"from": "a@shop.example", "subject": "", "text": ""}));
    }
}
