//! One rule about replies, as written.

use std::sync::Arc;
use std::time::Duration;

use regex::bytes::RegexBuilder;

use crate::config::fault::Place;
use crate::config::reader::Reader;
use crate::config::unit;
use crate::config::word::{NAME, is_name};
use crate::domain::ruling::{Blame, Orders};
use crate::domain::verdict::{Class, EnhancedStatus, Finality, Stage};

/// A rule: which replies it knows, and what they mean.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplyRule {
    /// By which a person speaks of it; unique in its file.
    pub name: Arc<str>,
    /// Where it was written.
    pub place: Place,
    /// Stages at which it applies; none: any.
    pub stages: Vec<Stage>,
    /// Codes that it knows; none: any.
    pub codes: Vec<CodeMask>,
    /// Enhanced statuses that it knows; none: any, and replies without one.
    pub enhanced: Vec<StatusMask>,
    /// What the text must hold: a regular expression without regard to case.
    pub pattern: Option<String>,
    /// Who is at fault; `None`: as the stage says.
    pub blame: Option<Blame>,
    /// What kind of refusal it is.
    pub class: Class,
    /// Whether another try makes sense; `None`: as the code says.
    pub finality: Option<Finality>,
    /// What is to be done.
    pub orders: Arc<Orders>,
    /// Replies that this rule must decide.
    pub matches: Vec<String>,
    /// Replies that it must not.
    pub differs: Vec<String>,
}

/// A reply code; `None` in place of a digit stands for any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodeMask([Option<u8>; 3]);

/// An enhanced status, or none at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusMask {
    /// A reply without one.
    Absent,
    /// Class, subject, detail; `None` stands for any.
    Of([Option<u16>; 3]),
}

impl CodeMask {
    /// Whether it stands for this code.
    pub fn fits(self, code: u16) -> bool {
        let digits = [code / 100, code / 10 % 10, code % 10];
        self.0.iter().zip(digits).all(|(want, is)| want.is_none_or(|want| u16::from(want) == is))
    }

    fn read(text: &str) -> Option<Self> {
        let digit = |byte: u8| match byte {
            b'x' => Some(None),
            b'0'..=b'9' => Some(Some(byte - b'0')),
            _ => None,
        };
        let [a, b, c] = text.as_bytes() else { return None };
        let mask = [digit(*a)?, digit(*b)?, digit(*c)?];
        matches!(mask[0], Some(4 | 5)).then_some(Self(mask))
    }
}

impl StatusMask {
    /// Whether it stands for this status.
    pub fn fits(self, status: Option<EnhancedStatus>) -> bool {
        match (self, status) {
            (Self::Absent, None) => true,
            (Self::Of(mask), Some(status)) => {
                let parts = [u16::from(status.class), status.subject, status.detail];
                mask.iter().zip(parts).all(|(want, is)| want.is_none_or(|want| want == is))
            }
            _ => false,
        }
    }

    fn read(text: &str) -> Option<Self> {
        if text == "none" {
            return Some(Self::Absent);
        }
        let part = |text: &str| match text {
            "x" => Some(None),
            digits => digits.parse::<u16>().ok().filter(|n| *n < 1_000).map(Some),
        };
        let mut parts = text.split('.').map(part);
        let mask = [parts.next()??, parts.next()??, parts.next()??];
        (parts.next().is_none() && matches!(mask[0], None | Some(4 | 5))).then_some(Self::Of(mask))
    }
}

impl ReplyRule {
    /// At which stage its samples are said: at RCPT if it applies there, else at its last.
    pub fn sample_stage(&self) -> Stage {
        match self.stages.iter().max() {
            Some(last) if !self.stages.contains(&Stage::Rcpt) => *last,
            _ => Stage::Rcpt,
        }
    }

    /// Compiles a pattern as it is meant: without regard to case, over bytes.
    pub fn compile(pattern: &str) -> Result<regex::bytes::Regex, regex::Error> {
        RegexBuilder::new(pattern).case_insensitive(true).unicode(false).build()
    }

    pub(super) fn read(mut section: Reader<'_>, place: Place) -> Option<Self> {
        let name = section.required("name", NAME, is_name);
        if let Some(name) = &name {
            section.call(format!("rule {name:?}"));
        }
        let stages = section.list("stages", STAGES, stages).unwrap_or_default();
        let codes = section.list("codes", "a code like \"550\" or \"4xx\"", CodeMask::read);
        let enhanced = section.list("enhanced", STATUS, StatusMask::read);
        let pattern = section.text("pattern");
        if let Some(Err(error)) = pattern.as_deref().map(Self::compile) {
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
            section.fault("pattern", format_args!("not a regular expression: {last}; mend it"));
        }
        if !section.has("class") {
            section.fault("class", "missing; say what kind of refusal it is");
        }
        let class = section.choice("class", &Class::ALL.map(|class| (class.as_str(), class)));
        let blame = section.choice("blame", &Blame::ALL.map(|blame| (blame.as_str(), blame)));
        let (finality, orders) = action(section.section("action"), class);
        if orders.touch_pace() && blame.is_none() {
            section.fault("blame", "missing; an action on the pace needs somebody to slow down");
        }
        let samples =
            |key| section.list(key, "a reply", |text| Some(text.to_owned())).unwrap_or_default();
        let (matches, differs) = (samples("matches"), samples("differs"));
        let (codes, enhanced) = (codes.unwrap_or_default(), enhanced.unwrap_or_default());
        if codes.is_empty() && enhanced.is_empty() && pattern.is_none() {
            section.fault("pattern", "without codes, enhanced or pattern it matches every reply");
        }
        section.end();
        Some(Self {
            name: name?.into(),
            place,
            stages: stages.into_iter().flatten().collect(),
            codes,
            enhanced,
            pattern,
            blame,
            class: class?,
            finality,
            orders: Arc::new(orders),
            matches,
            differs,
        })
    }
}

const STAGES: &str = "one of connect, banner, ehlo, start_tls, auth, mail, rcpt, data, dot, \
                      or session, transaction, recipient for several";
const STATUS: &str = "a status like \"5.1.1\", \"x.7.x\", or \"none\" for a reply without one";

/// A stage, or the stages of a group.
fn stages(word: &str) -> Option<Vec<Stage>> {
    let between = |first: Stage, last: Stage| {
        Stage::ALL.into_iter().filter(|stage| (first..=last).contains(stage)).collect()
    };
    match word {
        "session" => Some(between(Stage::Connect, Stage::Auth)),
        "transaction" => Some(between(Stage::Mail, Stage::Dot)),
        "recipient" => Some(between(Stage::Rcpt, Stage::Dot)),
        _ => Stage::ALL.into_iter().find(|stage| stage.as_str() == word).map(|one| vec![one]),
    }
}

/// `action = { … }`.
fn action(section: Reader<'_>, class: Option<Class>) -> (Option<Finality>, Orders) {
    const DAY: Duration = Duration::from_secs(86_400);
    let second = Duration::from_secs(1);
    let time =
        |key| section.has(key).then(|| section.duration(key, Duration::ZERO, second..=7 * DAY));
    let (defer, bounce) = (section.switch("defer", false), section.switch("bounce", false));
    if defer && bounce {
        section.fault("bounce", "either defer or bounce, not both");
    }
    let suppress = section.switch("suppress", class == Some(Class::AddressBad));
    if suppress && !matches!(class, Some(Class::AddressBad | Class::DomainBad)) {
        section.fault("suppress", "only an address that is bad may be suppressed");
    }
    let rate = section.value("rate", "a rate like \"1/min\" or \"500/h\"", |node| {
        let hourly = (unit::rate(node.text()?)? * 3_600.0).round();
        (1.0..=3.6e8).contains(&hourly).then_some(hourly as u32)
    });
    let orders = Orders {
        suppress,
        alert: section.switch("alert", false),
        reconnect: section.switch("reconnect", false),
        slow: section.switch("slow", false),
        fewer_connections: section.switch("fewer_connections", false),
        suspend: time("suspend"),
        rate_per_hour: rate,
        connections: section.optional_integer("connections", 1..=100_000),
        messages_per_connection: section.optional_integer("messages_per_connection", 1..=100_000),
        lasts: time("for").unwrap_or_default(),
        retry_after: time("retry_after"),
    };
    let capped = orders.rate_per_hour.is_some()
        || orders.connections.is_some()
        || orders.messages_per_connection.is_some();
    if capped && orders.lasts.is_zero() {
        section.fault("for", "missing; say how long the rate or the number holds, like \"30m\"");
    }
    if !capped && section.has("for") {
        section.fault("for", "has no meaning without rate, connections or messages_per_connection");
    }
    section.end();
    let finality = match (defer, bounce) {
        (true, _) => Some(Finality::Passing),
        (_, true) => Some(Finality::Final),
        _ => None,
    };
    (finality, orders)
}
