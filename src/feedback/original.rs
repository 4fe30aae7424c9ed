//! The mail that a report is about, as far as the report holds it.

use super::address;
use super::mime::{Header, Part};
use super::report::Original;

/// Looks in the enclosed mail or its header, else among the words.
pub(super) fn find(parts: &[Part<'_>]) -> Original {
    const ENCLOSED: [&str; 5] = [
        "message/rfc822",
        "text/rfc822-headers",
        "message/global",
        "message/global-headers",
        "text/rfc822",
    ];
    if let Some(part) = parts.iter().find(|part| ENCLOSED.contains(&part.kind.as_str())) {
        let found = of(&Header::read(part.content));
        if found != Original::default() {
            return found;
        }
    }
    // The last lines that look like a header: the original stands below the words.
    let words = parts.iter().filter(|part| part.kind.starts_with("text/")).map(Part::text);
    words
        .map(|text| of(&Header::read(below(&text).as_bytes())))
        .find(|found| found.message_id.is_some())
        .unwrap_or_default()
}

fn of(header: &Header) -> Original {
    let address = |name: &str| header.get(name).and_then(address::first).map(address::normal);
    Original {
        message_id: header.get("message-id").and_then(|text| {
            let id =
                text.trim().trim_start_matches('<').split(['>', ' ']).next().unwrap_or_default();
            (!id.is_empty() && id.len() <= 500).then(|| id.to_owned())
        }),
        envelope_sender: address("return-path"),
        to: address("to"),
    }
}

/// The text from the first line of a mail's header.
fn below(text: &str) -> &str {
    const FIRST: [&str; 5] =
        ["return-path:", "received:", "message-id:", "dkim-signature:", "date:"];
    let mut at = 0;
    for line in text.split_inclusive('\n').take(1_000) {
        let low = line.trim_start_matches(['>', ' ']).to_ascii_lowercase();
        if FIRST.iter().any(|name| low.starts_with(name)) {
            return text.get(at..).unwrap_or_default();
        }
        at += line.len();
    }
    ""
}
