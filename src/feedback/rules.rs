//! What words, statuses and codes mean: `rules.toml`, compiled in.
//!
//! The text of a refusal is made comparable (lower-case, addresses as `@`), searched once for
//! the words of all rules together, and judged by the first rule that matches. Which rule it
//! was stays visible.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;
use serde::Deserialize;

use super::address;
use super::fields::clip;
use super::formats::stage_of;
use crate::domain::bounce_class::{Class, Hardness};
use crate::domain::verdict::{EnhancedStatus, Stage};

/// What is known of a refusal.
#[derive(Debug, Clone, Copy, Default)]
pub struct Evidence<'a> {
    /// The words.
    pub text: &'a str,
    /// The enhanced status, of the reply or else of the report.
    pub status: Option<EnhancedStatus>,
    /// The reply code.
    pub code: Option<u16>,
    /// When it was said.
    pub stage: Option<Stage>,
}

/// What it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judgement {
    /// The kind.
    pub class: Class,
    /// Whether the recipient is lost.
    pub hardness: Hardness,
    /// The rule that decided.
    pub rule: &'static str,
    /// Whether telling words decided, and not a number alone.
    pub by_words: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    name: String,
    class: Class,
    #[serde(default)]
    soft: bool,
    /// Its words say little: other words about the same recipient go before.
    #[serde(default)]
    weak: bool,
    #[serde(default)]
    words: Vec<String>,
    #[serde(default)]
    unless: Vec<String>,
    #[serde(default)]
    status: Vec<String>,
    #[serde(default)]
    codes: Vec<u16>,
    #[serde(default)]
    stages: Vec<String>,
    #[cfg_attr(not(test), allow(dead_code, reason = "read by the test of the file"))]
    samples: Vec<String>,
    #[cfg_attr(not(test), allow(dead_code, reason = "read by the test of the file"))]
    #[serde(default)]
    differs: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    rule: Vec<Rule>,
}

/// The pieces of which all must be in a text, by their number in the searcher.
type Word = Vec<usize>;

/// The rules and their words in one searcher.
struct Book {
    rules: Vec<Rule>,
    /// Of each rule: its words and its `unless`, each as the pieces that must all be there.
    pieces: Vec<(Vec<Word>, Vec<Word>)>,
    search: Option<AhoCorasick>,
    known: usize,
}

/// Bytes of a refusal that are judged.
const MAX_TEXT: usize = 3 << 10;

impl Judgement {
    /// No rule knows it.
    pub const UNKNOWN: Self =
        Self { class: Class::Unknown, hardness: Hardness::Soft, rule: "no rule", by_words: false };
}

static BOOK: LazyLock<Book> = LazyLock::new(|| {
    // The file is compiled in, and a test reads it.
    let rules =
        toml::from_str::<File>(include_str!("rules.toml")).map_or_else(|_| vec![], |f| f.rule);
    Book::new(rules)
});

/// Judges a refusal.
pub fn judge(evidence: &Evidence<'_>) -> Judgement {
    BOOK.judge(evidence)
}

/// Judges the text of a reply alone, as read from a log.
pub fn judge_text(text: &str) -> Judgement {
    judge(&evidence(text, None))
}

/// What the text of a reply holds; `status` is one that was told beside it, for where the text
/// has none.
pub fn evidence<'a>(text: &'a str, status: Option<&str>) -> Evidence<'a> {
    let (code, said) = numbers(text);
    let stage = stage_of(&clip(text, MAX_TEXT).to_lowercase());
    let beside = || status.and_then(|status| enhanced(status.trim()));
    Evidence { text, status: said.or_else(beside), code, stage }
}

impl Book {
    fn new(rules: Vec<Rule>) -> Self {
        let mut distinct: Vec<String> = Vec::new();
        let mut pieces = |words: &[String]| -> Vec<Word> {
            let mut index = |piece: &str| {
                distinct.iter().position(|known| known == piece).unwrap_or_else(|| {
                    distinct.push(piece.to_owned());
                    distinct.len() - 1
                })
            };
            words.iter().map(|word| word.split(" & ").map(&mut index).collect()).collect()
        };
        let of_rules: Vec<_> =
            rules.iter().map(|rule| (pieces(&rule.words), pieces(&rule.unless))).collect();
        let search = AhoCorasick::new(&distinct).ok();
        Self { rules, pieces: of_rules, search, known: distinct.len() }
    }

    fn judge(&'static self, evidence: &Evidence<'_>) -> Judgement {
        let text = comparable(evidence.text);
        let mut seen = vec![false; self.known];
        for hit in self.search.iter().flat_map(|search| search.find_overlapping_iter(&text)) {
            if let Some(seen) = seen.get_mut(hit.pattern().as_usize()) {
                *seen = true;
            }
        }
        let has = |words: &[Word]| {
            words.iter().any(|all| all.iter().all(|piece| seen.get(*piece) == Some(&true)))
        };
        let before_recipient =
            evidence.stage.is_some_and(|stage| (Stage::Connect..Stage::Rcpt).contains(&stage));
        let found = self.rules.iter().zip(&self.pieces).find(|(rule, (words, unless))| {
            !(before_recipient && rule.class.can_be_hard())
                && rule.fits(evidence)
                && (words.is_empty() || has(words))
                && !has(unless)
        });
        let Some((rule, _)) = found else {
            return Judgement::UNKNOWN;
        };
        let passing = evidence.code.map_or_else(
            || evidence.status.is_some_and(|status| status.class == 4),
            |code| code < 500,
        );
        let hard = rule.class.can_be_hard() && !rule.soft && !passing;
        let hardness = if hard { Hardness::Hard } else { Hardness::Soft };
        let by_words = !rule.words.is_empty() && !rule.weak;
        Judgement { class: rule.class, hardness, rule: &rule.name, by_words }
    }
}

impl Rule {
    fn fits(&self, evidence: &Evidence<'_>) -> bool {
        let stage = evidence.stage.map_or("unsaid", Stage::as_str);
        (self.codes.is_empty() || evidence.code.is_some_and(|code| self.codes.contains(&code)))
            && (self.stages.is_empty() || self.stages.iter().any(|known| known == stage))
            && (self.status.is_empty()
                || evidence
                    .status
                    .is_some_and(|found| self.status.iter().any(|pattern| matches(pattern, found))))
    }
}

/// `5.1.1`, `5.7.x`, `x.2.2`.
fn matches(pattern: &str, status: EnhancedStatus) -> bool {
    let found = [u16::from(status.class), status.subject, status.detail];
    let mut parts = pattern.split('.');
    found
        .iter()
        .all(|number| parts.next().is_some_and(|part| part == "x" || part.parse() == Ok(*number)))
        && parts.next().is_none()
}

/// Lower-case, single spaces, `@` for addresses.
fn comparable(text: &str) -> String {
    let text = clip(text, MAX_TEXT);
    let mut plain = String::with_capacity(text.len());
    let mut last = 0;
    let mut at = 0;
    // Looked for word by word: a line may be long.
    for word in text.split_inclusive(char::is_whitespace) {
        for range in address::find(word) {
            plain.push_str(text.get(last..at + range.start).unwrap_or_default());
            plain.push('@');
            last = at + range.end;
        }
        at += word.len();
    }
    plain.push_str(text.get(last..).unwrap_or_default());
    let plain = plain.replace("<@>", "@").replace(['\u{2019}', '`'], "'");
    plain.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>().join(" ")
}

/// The first reply code and the first telling enhanced status of a text.
pub(super) fn numbers(text: &str) -> (Option<u16>, Option<EnhancedStatus>) {
    let (mut code, mut status) = (None, None::<EnhancedStatus>);
    for token in clip(text, MAX_TEXT)
        .split([' ', '\t', '\r', '\n', '[', ']', '(', ')', '<', '>', '"', ',', ';', '='])
    {
        for piece in token.splitn(3, '-') {
            let piece = piece.trim_matches(['#', ':', '\'']).trim_end_matches('.');
            if code.is_none() {
                code = reply_code(piece);
            }
            let found = enhanced(piece);
            let tells = |status: EnhancedStatus| (status.subject, status.detail) != (0, 0);
            if found.is_some() && !status.is_some_and(tells) {
                status = found.filter(|found| status.is_none() || tells(*found)).or(status);
            }
        }
    }
    (code, status)
}

/// 400 to 599.
fn reply_code(text: &str) -> Option<u16> {
    if text.len() != 3 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|code| (400..600).contains(code))
}

/// `5.1.1`, and nothing longer.
pub(super) fn enhanced(text: &str) -> Option<EnhancedStatus> {
    let mut parts = text.split('.');
    let mut number = |most: usize| {
        let part = parts.next()?;
        (!part.is_empty() && part.len() <= most && part.bytes().all(|b| b.is_ascii_digit()))
            .then(|| part.parse::<u16>().ok())
            .flatten()
    };
    let (class, subject, detail) = (number(1)?, number(3)?, number(3)?);
    (parts.next().is_none() && matches!(class, 2 | 4 | 5)).then_some(EnhancedStatus {
        class: class as u8,
        subject,
        detail,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `[stage] text`.
    fn judge_sample(sample: &str) -> Judgement {
        let (stage, text) = match sample.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
            Some((name, text)) if !name.starts_with(|c: char| c.is_ascii_digit()) => {
                let all = [Stage::Banner, Stage::Mail, Stage::Rcpt, Stage::Data, Stage::Dot];
                (all.into_iter().find(|stage| stage.as_str() == name), text)
            }
            _ => (None, sample),
        };
        let (code, status) = numbers(text);
        judge(&Evidence { text, status, code, stage })
    }

    #[test]
    fn every_rule_decides_its_samples_and_no_other_rule_does() {
        let file: File = toml::from_str(include_str!("rules.toml")).expect("rules.toml");
        let mut wrong = Vec::new();
        for rule in &file.rule {
            assert!(!rule.samples.is_empty(), "{}: a rule needs samples", rule.name);
            assert_eq!(file.rule.iter().filter(|other| other.name == rule.name).count(), 1);
            for word in rule.words.iter().chain(&rule.unless) {
                assert_eq!(*word, word.to_lowercase(), "{}: words are lower-case", rule.name);
            }
            for stage in &rule.stages {
                assert!(
                    ["unsaid", "connect", "banner", "ehlo", "mail", "rcpt", "data", "dot"]
                        .contains(&stage.as_str())
                );
            }
            for sample in &rule.samples {
                let found = judge_sample(sample).rule;
                if found != rule.name {
                    wrong.push(format!("{sample:?}: {found} in place of {}", rule.name));
                }
            }
            for sample in &rule.differs {
                if judge_sample(sample).rule == rule.name {
                    wrong.push(format!("{sample:?}: decided by {}", rule.name));
                }
            }
        }
        assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    }

    #[test]
    fn a_refusal_that_passes_or_came_before_the_recipient_is_never_hard() {
        assert_eq!(judge_text("550 5.1.1 user unknown").hardness, Hardness::Hard);
        assert_eq!(judge_text("450 4.1.1 user unknown").hardness, Hardness::Soft);
        let mail = judge_sample("[mail] 550 5.1.1 user unknown");
        assert!(!mail.class.can_be_hard(), "{mail:?}");
    }

    #[test]
    fn numbers_are_read_wherever_they_stand() {
        for (text, code, status) in [
            ("550 5.1.1 no", Some(550), Some("5.1.1")),
            ("smtp; 550-5.7.26 no", Some(550), Some("5.7.26")),
            ("[554 5.4.6 Hop count]", Some(554), Some("5.4.6")),
            ("554 5.0.0 x <421 4.4.2 y>", Some(554), Some("4.4.2")),
            ("from 192.0.2.1 (#5.1.2)", None, Some("5.1.2")),
            ("host 5.1.1.1 at 5500", None, None),
        ] {
            let found = numbers(text);
            assert_eq!(
                (found.0, found.1.map(|s| s.to_string()).as_deref()),
                (code, status),
                "{text}"
            );
        }
    }

    #[test]
    fn a_mailbox_named_after_a_fault_is_no_fault() {
        assert_eq!(
            judge_text("550 5.7.1 <mailboxfull@spam.example> rejected").rule,
            "status-policy"
        );
    }

    proptest! {
        #[test]
        fn any_text_can_be_judged(text in ".{0,200}") {
            let judged = judge_text(&text);
            prop_assert!(judged.hardness == Hardness::Soft || judged.class.can_be_hard());
        }
    }
}
