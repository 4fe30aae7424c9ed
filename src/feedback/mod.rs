//! What comes back by mail: bounces, delays, complaints and the answers of programs, understood.
//!
//! [`understand`] reads one mail and says what kind it is, of whom it speaks, and what that
//! means ([`report::Report`]). Standard reports (RFC 3464, RFC 5965) are read by their fields;
//! the many mails that follow no standard by words, which are data: `rules.toml` says what the
//! words of a refusal mean, `formats.toml` how such mails look. Everything is bounded: parts,
//! depth, bytes, recipients, and with them time and memory, whatever a mail holds. Nothing here
//! touches network or storage; who is told and who is suppressed is decided above.

mod address;
mod arf;
mod dsn;
mod fields;
mod formats;
mod mime;
mod original;
pub mod report;
pub mod rules;
mod text;

use self::fields::Group;
use self::formats::{any, formats};
use self::mime::{Header, Part};
use self::report::{Action, Finding, Kind, Report};
use self::text::Prose;
use crate::domain::bounce_class::{Class, Hardness};

/// Reads a mail that came back.
pub fn understand(mail: &[u8]) -> Report {
    let (head, _) = mime::split(mail);
    let header = Header::read(head);
    let parts = mime::parts(mail);
    let mut original = original::find(&parts);
    let groups = |kinds: &[&str]| -> Vec<Group> {
        let of_kind = parts.iter().filter(|part| kinds.contains(&part.kind.as_str()));
        of_kind.flat_map(|part| fields::groups(&part.fields())).collect()
    };
    let complaint = groups(&["message/feedback-report"]);
    if !complaint.is_empty() {
        arf::complete(&mut original, &complaint);
        return Report { kind: Kind::Complaint, findings: arf::findings(&complaint), original };
    }
    let about = About::read(&header, &parts);
    let status = groups(&["message/delivery-status", "message/global-delivery-status"]);
    let mut findings = dsn::findings(&status, &about.prose, &about.failed);
    if !findings.is_empty() {
        return Report { kind: Kind::Dsn, findings, original };
    }
    if about.is_failure() {
        // Some write the standard's fields among their words.
        let written = fields::groups(after(&about.words, "reporting-mta:"));
        findings = dsn::findings(&written, &about.prose, &about.failed);
        if findings.is_empty() {
            findings = about.findings();
        }
        let told = findings.iter().any(|finding| finding.class != Class::Unknown);
        if about.strong || told {
            return Report { kind: Kind::Bounce, findings, original };
        }
    }
    let receipt = parts.iter().any(|part| part.kind.ends_with("disposition-notification"));
    if receipt || is_auto_reply(&header) {
        let answered = Finding {
            recipient: header.get("from").and_then(address::first).map(address::normal),
            action: Action::Answered,
            class: Class::AutoReply,
            rule: "auto reply",
            ..Finding::of(String::new())
        };
        return Report { kind: Kind::AutoReply, findings: vec![answered], original };
    }
    Report { kind: Kind::Ordinary, findings: Vec::new(), original }
}

impl Finding {
    /// A failure of which nothing is known but its words.
    fn of(text: String) -> Self {
        Self {
            recipient: None,
            original_recipient: None,
            action: Action::Failed,
            class: Class::Unknown,
            hardness: Hardness::Soft,
            rule: "no rule",
            status: None,
            code: None,
            stage: None,
            text,
        }
    }
}

/// What header and words say before anything is judged.
struct About {
    words: String,
    prose: Prose,
    /// `X-Failed-Recipients` (Exim, Gmail).
    failed: Vec<String>,
    subject: String,
    /// Written by what writes nothing but reports.
    strong: bool,
    weak: bool,
}

impl About {
    fn read(header: &Header, parts: &[Part<'_>]) -> Self {
        let known = formats();
        let words = words(parts);
        let addresses = |text: &str| -> Vec<String> {
            let found = address::find(text).into_iter().filter_map(|range| text.get(range));
            found.map(address::normal).collect()
        };
        let failed = header.get("x-failed-recipients").map(addresses).unwrap_or_default();
        let from = header.decoded("from").unwrap_or_default().to_lowercase();
        let mut not = addresses(&from);
        not.extend(header.get("to").map(addresses).unwrap_or_default());
        let null = header.get("return-path").is_some_and(|path| path.trim() == "<>");
        Self {
            prose: Prose::read(&words, &failed, &not),
            words,
            subject: header.decoded("subject").unwrap_or_default().to_lowercase(),
            strong: any(&known.reporters, &from) || null || !failed.is_empty(),
            weak: any(&known.weak_reporters, &from),
            failed,
        }
    }

    fn is_failure(&self) -> bool {
        let known = formats();
        let low = self.prose.report.to_lowercase();
        let (subject, signs) = (any(&known.subjects, &self.subject), any(&known.signs, &low));
        (self.strong && (subject || signs)) || (self.weak && signs && any(&known.begins, &low))
    }

    fn findings(&self) -> Vec<Finding> {
        let low = self.prose.report.to_lowercase();
        let known = formats();
        let delayed = any(&known.delays, &self.subject) || any(&known.delays, &low);
        let action = if delayed { Action::Delayed } else { Action::Failed };
        let one = |recipient: Option<String>, text: &str, stage| {
            let quoted = text::quoted(text);
            // Words around a reply that says nothing would only mislead.
            let whole = if quoted.is_empty() { self.prose.report.as_str() } else { "" };
            let judged = dsn::judge(&[quoted, text, whole], stage, None);
            let mut finding = Finding {
                recipient,
                action,
                class: judged.by.class,
                hardness: judged.by.hardness,
                rule: judged.by.rule,
                status: judged.status,
                code: judged.code,
                stage: judged.stage,
                ..Finding::of(fields::clip(judged.text, 1_000).to_owned())
            };
            dsn::settle(&mut finding);
            finding
        };
        let sections = self.prose.sections();
        if sections.is_empty() {
            return vec![one(None, &self.prose.report, None)];
        }
        sections
            .iter()
            .map(|section| one(Some(section.recipient.clone()), &section.text, section.stage))
            .collect()
    }
}

/// The words of a report: its first text, and a second one if there is.
fn words(parts: &[Part<'_>]) -> String {
    let own = parts.iter().take_while(|part| !part.kind.starts_with("message/rfc822"));
    let texts: Vec<&Part<'_>> = own
        .filter(|part| {
            matches!(part.kind.as_str(), "text/plain" | "text/html")
                || part.kind.starts_with("multipart/")
        })
        .filter(|part| !part.is_attachment())
        .collect();
    let plain: Vec<&&Part<'_>> = texts.iter().filter(|part| part.kind != "text/html").collect();
    let chosen: Vec<String> = if plain.is_empty() {
        texts.iter().take(1).map(|part| part.text()).collect()
    } else {
        plain.iter().take(2).map(|part| part.text()).collect()
    };
    chosen.join("\n")
}

/// The text from the line that begins so.
fn after<'t>(text: &'t str, word: &str) -> &'t str {
    let mut at = 0;
    for line in text.split_inclusive('\n').take(600) {
        if line.trim_start().to_ascii_lowercase().starts_with(word) {
            return text.get(at..).unwrap_or_default();
        }
        at += line.len();
    }
    ""
}

/// RFC 3834 5, and what programs did before it.
fn is_auto_reply(header: &Header) -> bool {
    let known = &formats().auto_reply;
    let submitted = header.get("auto-submitted").unwrap_or("no").trim().to_lowercase();
    let precedence = header.get("precedence").unwrap_or_default().trim().to_lowercase();
    let subject = header.decoded("subject").unwrap_or_default().to_lowercase();
    (!submitted.is_empty() && !submitted.starts_with("no"))
        || precedence == "auto_reply"
        || known.headers.iter().any(|name| header.get(name).is_some())
        || any(&known.subjects, &subject)
}
