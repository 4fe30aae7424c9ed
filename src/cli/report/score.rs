//! Scores the reading of reports on labelled mails.

use std::fs;
use std::path::Path;
use std::time::Instant;

use clap::ValueEnum;
use serde::Deserialize;

use super::super::error::CliError;
use super::super::print::{Answer, Table};
use super::grade::{Hits, classes, is_ambiguous, share};
use crate::domain::bounce_class::Hardness;
use crate::feedback::report::Finding;
use crate::feedback::{self, rules};

/// Every other mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Half {
    /// The second, fourth, …
    Even,
    /// The first, third, …
    Odd,
}

#[derive(Debug, Deserialize)]
struct Labelled {
    file: String,
    #[serde(default)]
    contested: bool,
    expected: Vec<Label>,
}

#[derive(Debug, Deserialize)]
struct Label {
    reason: String,
    hardbounce: bool,
}

/// Everything counted.
#[derive(Debug, Default)]
struct Score {
    mails: u32,
    labels: u32,
    apart: u32,
    recipients: u32,
    right_class: u32,
    hard: Hits,
    hard_with_apart: Hits,
    texts: u32,
    hard_by_text: Hits,
    misses: Vec<[String; 5]>,
    milliseconds: Vec<f64>,
    kib: u64,
}

/// Runs the command.
pub(super) fn run(dir: &Path, misses: bool, half: Option<Half>) -> Result<Answer, CliError> {
    let read = |path: &Path| {
        fs::read(path).map_err(|error| CliError::failed(format!("{}: {error}", path.display())))
    };
    let labels = read(&dir.join("expected.jsonl"))?;
    let mut score = Score::default();
    // The rules are read when they are first needed, once a process.
    let _read = rules::judge_text("");
    for (n, line) in labels.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).enumerate()
    {
        let one: Labelled = serde_json::from_slice(line)
            .map_err(|error| CliError::failed(format!("expected.jsonl:{}: {error}", n + 1)))?;
        if half.is_none_or(|half| (half == Half::Odd) == (n % 2 == 0)) {
            let mail = read(&dir.join(&one.file))?;
            score.take(&one, &mail);
        }
    }
    score.answer(misses)
}

impl Score {
    fn take(&mut self, one: &Labelled, mail: &[u8]) {
        reset_peak();
        let before = resident("VmRSS:");
        let began = Instant::now();
        let report = feedback::understand(mail);
        self.milliseconds.push(began.elapsed().as_secs_f64() * 1_000.0);
        self.kib = self.kib.max(resident("VmHWM:").saturating_sub(before));
        self.mails += 1;
        for (n, label) in one.expected.iter().enumerate() {
            let finding = report.findings.get(n);
            let hard = finding.is_some_and(|finding| finding.hardness == Hardness::Hard);
            self.hard_with_apart.count(hard, label.hardbounce);
            self.labels += 1;
            self.recipients +=
                u32::from(finding.is_some_and(|finding| finding.recipient.is_some()));
            if one.contested || is_ambiguous(&label.reason) {
                self.apart += 1;
                continue;
            }
            let right = finding.is_some_and(|found| classes(&label.reason).contains(&found.class));
            self.right_class += u32::from(right);
            self.hard.count(hard, label.hardbounce);
            let by_text = finding.and_then(text_alone);
            if let Some(hard) = by_text {
                self.texts += 1;
                self.hard_by_text.count(hard, label.hardbounce);
            }
            if !right
                || hard != label.hardbounce
                || by_text.is_some_and(|hard| hard != label.hardbounce)
            {
                self.misses.push(miss(&one.file, label, finding, by_text));
            }
        }
    }

    fn answer(mut self, misses: bool) -> Result<Answer, CliError> {
        let clear = self.labels - self.apart;
        let accuracy = share(self.right_class, clear);
        self.milliseconds.sort_by(f64::total_cmp);
        let slowest = self.milliseconds.last().copied().unwrap_or_default();
        let median =
            self.milliseconds.get(self.milliseconds.len() / 2).copied().unwrap_or_default();
        let found = share(self.recipients, self.labels);
        let mut words = format!(
            "mails                        {}\n\
             failed recipients            {} ({} contested or ambiguous, apart)\n\
             hard: precision              {:.3}\n\
             hard: recall                 {:.3}\n\
             hard, with those apart       {:.3} / {:.3}\n\
             class: accuracy              {accuracy:.3}\n\
             recipients found             {found:.3}\n\
             reply text alone ({:>4})      {:.3} / {:.3}\n\
             time per mail                {median:.2} ms median, {slowest:.2} ms slowest\n\
             memory per mail              {} KiB at most",
            self.mails,
            self.labels,
            self.apart,
            self.hard.precision(),
            self.hard.recall(),
            self.hard_with_apart.precision(),
            self.hard_with_apart.recall(),
            self.texts,
            self.hard_by_text.precision(),
            self.hard_by_text.recall(),
            self.kib,
        );
        if misses {
            let mut table = Table::new(&["file", "label", "found", "rule", "text"], "no misses");
            for row in std::mem::take(&mut self.misses) {
                table.row(row);
            }
            words = format!("{words}\n\n{}", table.text());
        }
        let facts = serde_json::json!({
            "mails": self.mails, "recipients": self.labels, "apart": self.apart,
            "hard": {"precision": self.hard.precision(), "recall": self.hard.recall()},
            "class_accuracy": accuracy, "recipients_found": found,
            "text_alone": {"texts": self.texts, "precision": self.hard_by_text.precision(),
                           "recall": self.hard_by_text.recall()},
            "milliseconds": {"median": median, "slowest": slowest}, "kib": self.kib,
        });
        Answer::new(words, &facts)
    }
}

/// What the words of the reply alone say, where the report quotes one.
fn text_alone(finding: &Finding) -> Option<bool> {
    finding.code?;
    Some(rules::judge_text(&finding.text).hardness == Hardness::Hard)
}

fn miss(
    file: &str,
    label: &Label,
    finding: Option<&Finding>,
    by_text: Option<bool>,
) -> [String; 5] {
    let hard = |hard: bool| if hard { "hard" } else { "soft" };
    let found = finding.map_or_else(
        || "nothing".to_owned(),
        |found| format!("{} {}", found.class.as_str(), found.hardness.as_str()),
    );
    let by_text = by_text.map_or(String::new(), |by_text| format!(", text {}", hard(by_text)));
    [
        file.to_owned(),
        format!("{} {}", label.reason, hard(label.hardbounce)),
        format!("{found}{by_text}"),
        finding.map_or("", |found| found.rule).to_owned(),
        finding.map(|found| found.text.chars().take(160).collect()).unwrap_or_default(),
    ]
}

/// Lets the kernel count the peak of resident memory anew (Linux, proc(5)).
fn reset_peak() {
    let _not_there = fs::write("/proc/self/clear_refs", "5");
}

/// KiB from `/proc/self/status`; 0 where there is none.
fn resident(key: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}
