//! Reports in somebody's own words: who is meant, and which words are about whom.
//!
//! The report ends where the original mail begins. Recipients are the addresses that stand at
//! the begin of a line, or those the sentences name; what follows one, up to the next, is about
//! it. In a transcript of a session it is what goes before.

use super::address;
use super::formats::{any, formats, stage_of};
use crate::domain::verdict::Stage;

/// What is said of one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) recipient: String,
    pub(super) text: String,
    pub(super) stage: Option<Stage>,
}

/// The human-readable part of a report.
#[derive(Debug, Default)]
pub(super) struct Prose {
    /// Its words without the original mail.
    pub(super) report: String,
    sections: Vec<Section>,
}

/// Lines of a report that are read.
const MAX_LINES: usize = 600;
/// Recipients that are looked for.
const MAX_RECIPIENTS: usize = 100;
/// Bytes kept of what is said of one.
const MAX_SECTION: usize = 3 << 10;

impl Prose {
    /// Reads a text. `failed`: recipients that are known already; `not`: addresses that are none
    /// (those of the report itself).
    pub(super) fn read(text: &str, failed: &[String], not: &[String]) -> Self {
        let lines: Vec<&str> = report_lines(text);
        let recipients = if failed.is_empty() { recipients(&lines, not) } else { failed.to_vec() };
        let sections = sections(&lines, &recipients);
        Self { report: lines.join("\n"), sections }
    }

    /// What is said of a recipient.
    pub(super) fn about(&self, recipient: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.recipient == recipient)
    }

    /// Everyone who is spoken of.
    pub(super) fn sections(&self) -> &[Section] {
        &self.sections
    }
}

/// The lines up to the original mail.
fn report_lines(text: &str) -> Vec<&str> {
    let known = formats();
    let mut lines = Vec::new();
    let mut said_something = false;
    for line in text.lines().take(MAX_LINES) {
        let low = line.trim().to_lowercase();
        let low = ruled(low);
        let ends = known.ends.iter().any(|end| low.starts_with(end.as_str()))
            && !known.not_ends.iter().any(|no| low.starts_with(no.as_str()));
        if ends && said_something {
            break;
        }
        said_something |= !low.is_empty();
        lines.push(line);
    }
    lines
}

/// A line that begins with a rule of dashes or the like, with a rule of one length.
fn ruled(line: String) -> String {
    let rest = line.trim_start_matches(|c: char| "-*=_ ".contains(c));
    if line.len() - rest.len() >= 3 && !line.starts_with(' ') {
        format!("--- {rest}")
    } else {
        line
    }
}

fn recipients(lines: &[&str], not: &[String]) -> Vec<String> {
    let known = formats();
    let low: Vec<String> = lines.iter().map(|line| line.to_lowercase()).collect();
    let begin =
        low.iter().position(|line| known.begins.iter().any(|word| line.contains(word.as_str())));
    for leading in [true, false] {
        for from in [begin, Some(0)].into_iter().flatten() {
            let found = addresses(lines.get(from..).unwrap_or_default(), leading, not);
            if !found.is_empty() {
                return found;
            }
        }
    }
    Vec::new()
}

/// Addresses of these lines: at their begin, or wherever they name a recipient.
fn addresses(lines: &[&str], leading: bool, not: &[String]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for line in lines {
        let low = line.trim_start().to_lowercase();
        if NOT_ABOUT.iter().any(|word| low.starts_with(word) || low.contains(" mail from:")) {
            continue;
        }
        for range in address::find(line) {
            let before = line.get(..range.start).unwrap_or_default();
            let after = line.get(range.end..).unwrap_or_default();
            let stands = !leading || leads(before);
            // `host a@b[192.0.2.1]`, `id 1@host`: neither is a mailbox.
            if !stands || after.starts_with('[') || before.trim_end().ends_with(" id") {
                continue;
            }
            let one = address::normal(line.get(range).unwrap_or_default());
            if !not.contains(&one) && !found.contains(&one) && found.len() < MAX_RECIPIENTS {
                found.push(one);
            }
        }
    }
    found
}

/// Lines that name somebody else.
const NOT_ABOUT: [&str; 14] = [
    ">>> mail",
    "from:",
    "sender:",
    "mail from:",
    "reply-to:",
    "return-path:",
    "a message from",
    "a message sent by",
    "subject:",
    "message-id:",
    "for further",
    "if you",
    "please contact",
    "550-f=",
];

/// Whether what stands before an address makes it the head of its line.
fn leads(before: &str) -> bool {
    let rest = before
        .trim_matches(|c: char| c.is_whitespace() || "<\"'*->:(|•".contains(c))
        .to_lowercase();
    if rest.is_empty() || rest.bytes().all(|b| b.is_ascii_digit() || b == b'.' || b == b' ') {
        return true;
    }
    HEADS.iter().any(|head| rest.ends_with(head)) || before.to_lowercase().ends_with("<mailto:")
}

/// Words directly before an address that is meant.
const HEADS: [&str; 26] = [
    "to",
    "recipient",
    "recipient address",
    "unknown user",
    "userid",
    "exceeds allowed size",
    "attempts",
    "rcpt to",
    "rcpt",
    "addressed to",
    "undeliverable to",
    "user not found",
    "delivered to",
    "mailbox",
    "address",
    "failed recipient",
    "user",
    "for",
    "errors",
    "original address",
    "final-recipient: rfc822;",
    "final-recipient: rfc822",
    "deliver to",
    "group",
    "recipients",
    "of",
];

fn sections(lines: &[&str], recipients: &[String]) -> Vec<Section> {
    let mut all: Vec<Section> = recipients
        .iter()
        .map(|one| Section { recipient: one.clone(), text: String::new(), stage: None })
        .collect();
    if let [only] = all.as_mut_slice() {
        // Whatever is said from where it is named is said of the only one.
        let named =
            |line: &&str| address::normal(line).contains(&only.recipient) || is_transcript(line);
        let begins = lines.iter().position(|line| any(&formats().begins, &line.to_lowercase()));
        let from = begins.unwrap_or_default();
        let at = lines.iter().skip(from).position(named).map_or(from, |at| from + at);
        only.text = lines.iter().skip(at).fold(String::new(), |text, line| add(text, line));
        only.stage = transcript_stage(lines).or_else(|| stage_of(&only.text.to_lowercase()));
        return all;
    }
    let transcript = lines.iter().position(|line| is_transcript(line)).unwrap_or(lines.len());
    let (words, session) = lines.split_at(transcript);
    let mut current = None;
    for line in words {
        current = head(line, &all).or(current);
        if let Some(section) = current.and_then(|at| all.get_mut(at)) {
            section.text = add(std::mem::take(&mut section.text), line);
        }
    }
    let mut begin = 0;
    for (at, line) in session.iter().enumerate() {
        let trimmed = line.trim_start();
        let is_end = trimmed.starts_with(|c: char| c.is_ascii_digit())
            || (trimmed.starts_with('<') && trimmed.contains(">..."));
        if let Some(section) = head(line, &all).filter(|_| is_end).and_then(|n| all.get_mut(n)) {
            let lines = session.get(begin..=at).unwrap_or_default();
            // What the other side said, then what was made of it; the rest only adds to it.
            let replies = lines.iter().filter(|line| line.trim_start().starts_with("<<<"));
            let rest = lines.iter().filter(|line| !line.trim_start().starts_with("<<<"));
            let ordered = replies.chain(std::iter::once(line)).chain(rest);
            section.text =
                ordered.fold(std::mem::take(&mut section.text), |text, line| add(text, line));
            section.stage = section.stage.or_else(|| transcript_stage(lines));
            begin = at + 1;
        }
    }
    for section in &mut all {
        section.stage = section.stage.or_else(|| stage_of(&section.text.to_lowercase()));
    }
    all
}

fn is_transcript(line: &str) -> bool {
    line.to_lowercase().contains("transcript of session follows")
}

/// Which recipient a line names first.
fn head(line: &str, all: &[Section]) -> Option<usize> {
    address::find(line).into_iter().find_map(|range| {
        let one = address::normal(line.get(range)?);
        all.iter().position(|section| section.recipient == one)
    })
}

/// The last command before the first refusal. sendmail pipelines: a refusal after DATA belongs
/// to RCPT if DATA is then refused for want of recipients.
fn transcript_stage(lines: &[&str]) -> Option<Stage> {
    let mut stage = None;
    let mut refused = false;
    for line in lines {
        let low = line.trim().to_lowercase();
        if let Some(reply) = low.strip_prefix("<<<") {
            if refused && (reply.contains("503") || reply.contains("no valid recipient")) {
                return Some(Stage::Rcpt);
            }
            if reply.trim_start().starts_with(['4', '5']) {
                if stage != Some(Stage::Data) {
                    return stage;
                }
                refused = true;
            }
        } else if !refused {
            stage = match low.trim_start_matches(['>', ' ']).get(..4) {
                Some("rcpt") => Some(Stage::Rcpt),
                Some("mail") => Some(Stage::Mail),
                Some("data") => Some(Stage::Data),
                Some("ehlo" | "helo") => Some(Stage::Ehlo),
                _ => stage,
            };
        }
    }
    refused.then_some(Stage::Data)
}

/// The reply of the other side within what is said, from its code on, or from the words that
/// announce it; empty if none is quoted.
pub(super) fn quoted(said: &str) -> &str {
    let mut at = 0;
    for word in said.split_inclusive(|c: char| c.is_whitespace() || "[(\"<".contains(c)) {
        let code = word.get(..3).filter(|code| code.bytes().all(|b| b.is_ascii_digit()));
        let ends = word.as_bytes().get(3).is_some_and(|b| b" -\t".contains(b));
        if code.is_some_and(|code| code.starts_with(['4', '5'])) && ends {
            return said.get(at..).unwrap_or_default();
        }
        at += word.len();
    }
    let low = said.to_ascii_lowercase();
    let announced =
        formats().quotes.iter().filter_map(|word| Some(low.find(word.as_str())? + word.len()));
    announced.min().and_then(|at| said.get(at..)).unwrap_or_default()
}

/// Joins a line, as long as there is room.
fn add(mut text: String, line: &str) -> String {
    let line = line.trim();
    if !line.is_empty() && text.len() + line.len() < MAX_SECTION {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(line);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn told(text: &str) -> Vec<(String, String, Option<Stage>)> {
        let read = Prose::read(text, &[], &["me@shop.example".to_owned()]);
        read.sections.into_iter().map(|s| (s.recipient, s.text, s.stage)).collect()
    }

    #[test]
    fn each_recipient_has_what_is_said_of_it() {
        let found = told(
            "Hi. This is the qmail-send program.\n<a@b.example>:\nRemote host said: 550 no user\n\n\
             <c@d.example>:\n192.0.2.1 does not like recipient.\n552 full\n--- Below this line is a copy\nTo: x@y.example\n",
        );
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found[0].0, "a@b.example");
        assert!(found[0].1.ends_with("550 no user") && found[0].2.is_none());
        assert_eq!((found[1].0.as_str(), found[1].2), ("c@d.example", Some(Stage::Rcpt)));
    }

    #[test]
    fn in_a_transcript_what_goes_before_counts() {
        let found = told(
            "   ----- Transcript of session follows -----\nWhile talking to b.example:\n>>> MAIL From:<me@shop.example>\n\
             <<< 550 Insecure Mail Relay\n554 <a@b.example>... Remote protocol error\n550 d.example (smtp)... 550 Host unknown\n\
             554 <c@d.example>... 550 Host unknown\n   ----- Unsent message follows -----\n",
        );
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].1.contains("Insecure") && found[0].2 == Some(Stage::Mail));
        assert!(found[1].1.contains("Host unknown") && !found[1].1.contains("Insecure"));
    }

    #[test]
    fn a_pipelined_refusal_belongs_to_the_recipient() {
        let lines = [
            ">>> DATA",
            "<<< 550 no user",
            "550 5.1.1 <a@b.example>... User unknown",
            "<<< 554 5.5.1 Error: no valid recipients",
        ];
        assert_eq!(transcript_stage(&lines), Some(Stage::Rcpt));
        assert_eq!(transcript_stage(&lines[..3]), Some(Stage::Data));
    }

    #[test]
    fn the_quoted_reply_is_found() {
        for (said, reply) in [
            ("host mx [192.0.2.1]: 550 5.1.1 no", "550 5.1.1 no"),
            ("it responded as follows: [550 no]", "550 no]"),
            ("remote host said: gone", " gone"),
            ("Received 500 mails; 5500", "500 mails; 5500"),
            ("nothing", ""),
        ] {
            assert_eq!(quoted(said), reply, "{said}");
        }
    }

    proptest! {
        #[test]
        fn any_text_can_be_read(text in "(?s).{0,300}") {
            let _ = told(&text);
            let _ = quoted(&text);
        }
    }
}
