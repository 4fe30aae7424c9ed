//! Reports in the standard's form (RFC 3464): every recipient of it.
//!
//! The fields go before the words around them, but the words often say more: `Status: 5.0.0`
//! beside "User unknown", or a status that the reporting MTA made up from a reply code. So the
//! diagnostic is judged first, then what the human-readable part says of the recipient, then
//! the numbers alone.

use super::address;
use super::fields::{Group, clip};
use super::formats::stage_of;
use super::report::{Action, Finding};
use super::rules::{self, Evidence, Judgement};
use super::text::{self, Prose};
use crate::domain::bounce_class::{Class, Hardness};
use crate::domain::verdict::{EnhancedStatus, Stage};

/// Bytes of the words that are kept.
const MAX_KEPT: usize = 1_000;

/// All recipients of a report. `prose` is its human-readable part, `failed` the addresses that
/// the mail's own header names (`X-Failed-Recipients`).
pub(super) fn findings(groups: &[Group], prose: &Prose, failed: &[String]) -> Vec<Finding> {
    groups
        .iter()
        .filter(|group| group.is_recipient())
        .map(|group| one(group, prose, failed))
        .collect()
}

fn one(group: &Group, prose: &Prose, failed: &[String]) -> Finding {
    let named = |name: &str| group.untyped(name).and_then(address_in);
    let last = named("final-recipient").or_else(|| named("x-actual-recipient"));
    let first = named("original-recipient");
    let only = || (failed.len() == 1).then(|| failed.first().cloned()).flatten();
    let recipient = last.or_else(|| first.clone()).or_else(only);
    let written = group.get("status").and_then(|text| text.split_whitespace().next());
    let status = written.and_then(rules::enhanced);
    let action = action(group, status);
    let diagnostic = group.untyped("diagnostic-code").unwrap_or_default();
    let said = recipient.as_deref().and_then(|one| prose.about(one));
    let (said, at) = said.map_or(("", None), |section| (section.text.as_str(), section.stage));
    let judged = judge(&[diagnostic, text::quoted(said), said], at, status);
    let mut finding = Finding {
        original_recipient: first.filter(|first| Some(first) != recipient.as_ref()),
        recipient,
        action,
        class: judged.by.class,
        hardness: judged.by.hardness,
        rule: judged.by.rule,
        status: judged.status,
        code: judged.code,
        stage: judged.stage,
        text: clip(judged.text, MAX_KEPT).to_owned(),
    };
    settle(&mut finding);
    finding
}

/// The action says what a class cannot.
pub(super) fn settle(finding: &mut Finding) {
    match finding.action {
        Action::Failed => {}
        Action::Delayed => {
            finding.hardness = Hardness::Soft;
            if finding.class == Class::Unknown {
                (finding.class, finding.rule) = (Class::Transient, "action delayed");
            }
        }
        Action::Delivered | Action::Relayed | Action::Expanded => {
            finding.hardness = Hardness::Soft;
            (finding.class, finding.rule) = (Class::Delivered, "action delivered");
        }
        Action::Complained | Action::Answered => finding.hardness = Hardness::Soft,
    }
}

fn action(group: &Group, status: Option<EnhancedStatus>) -> Action {
    let word = group.get("action").unwrap_or_default().to_ascii_lowercase();
    let word = word.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
    match word {
        "delayed" => Action::Delayed,
        "delivered" => Action::Delivered,
        "relayed" => Action::Relayed,
        "expanded" => Action::Expanded,
        "" if status.is_some_and(|status| status.class == 2) => Action::Delivered,
        _ => Action::Failed,
    }
}

/// Words, numbers and stage that were judged.
pub(super) struct Judged<'t> {
    pub(super) by: Judgement,
    pub(super) text: &'t str,
    pub(super) status: Option<EnhancedStatus>,
    pub(super) code: Option<u16>,
    pub(super) stage: Option<Stage>,
}

/// Judges texts about the same refusal, the most telling one first: the first whose words
/// decide, else the first that any rule knows.
pub(super) fn judge<'t>(
    texts: &[&'t str],
    said_at: Option<Stage>,
    written: Option<EnhancedStatus>,
) -> Judged<'t> {
    let named = || texts.iter().find_map(|text| stage_of(&text.to_lowercase()));
    let stage = said_at.or_else(named);
    let of = |text: &'t str| {
        let (code, own) = rules::numbers(text);
        let tells = |status: &EnhancedStatus| (status.subject, status.detail) != (0, 0);
        let status = own.filter(tells).or(written.filter(tells)).or(own).or(written);
        let by = rules::judge(&Evidence { text, status, code, stage });
        Judged { by, text, status, code, stage }
    };
    let mut best: Option<Judged<'t>> = None;
    for text in texts.iter().filter(|text| !text.trim().is_empty()) {
        let judged = of(text);
        if judged.by.by_words {
            return judged;
        }
        if best.as_ref().is_none_or(|best| best.by.class == Class::Unknown) {
            best = Some(judged);
        }
    }
    best.unwrap_or_else(|| of(""))
}

/// The address in a recipient field, also in `|/bin/program a@b` and `<a@b>`.
fn address_in(text: &str) -> Option<String> {
    let plain = text.trim().trim_matches(['<', '>']);
    let found = address::first(plain).or_else(|| address::first(text));
    found.map(address::normal)
}
