//! The one place that writes to the terminal.
//!
//! Every command ends in an [`Answer`]: words for people and the same facts as JSON
//! for scripts. What comes from the database may hold anything, so control
//! characters are shown as `?` and cannot steer a terminal. A reader that closes
//! the pipe is not an error.

use std::io::Write;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;

use super::error::CliError;

/// What a command found or did.
#[derive(Debug, Clone)]
pub struct Answer {
    words: String,
    facts: Value,
    verdict: Verdict,
}

/// How the process ends when the command itself worked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// As the operator hoped: code 0.
    Fine,
    /// The command worked and found something wrong: code 1.
    Bad,
    /// An ending that has a code of its own.
    Code(u8),
}

/// Whom the output is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// People.
    Words,
    /// Scripts.
    Json,
}

impl Answer {
    /// An answer in words, with the facts behind it.
    pub fn new(words: impl Into<String>, facts: &impl Serialize) -> Result<Self, CliError> {
        let facts = serde_json::to_value(facts)
            .map_err(|error| CliError::failed(format!("cannot write the answer: {error}")))?;
        Ok(Self { words: words.into(), facts, verdict: Verdict::Fine })
    }

    /// A command that has written what it had to say itself.
    pub const fn silent() -> Self {
        Self { words: String::new(), facts: Value::Null, verdict: Verdict::Fine }
    }

    /// The same, for something that is wrong.
    #[must_use]
    pub fn with_verdict(self, verdict: Verdict) -> Self {
        Self { verdict, ..self }
    }

    /// How the process ends.
    pub const fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Shows it on standard output.
    pub fn show(&self, format: Format) {
        if self.words.is_empty() && self.facts.is_null() {
            return;
        }
        let text = match format {
            Format::Words => printable(&self.words),
            Format::Json => format!("{:#}", self.facts),
        };
        write(std::io::stdout().lock(), &text);
    }
}

/// Shows an error on standard error.
pub fn error(error: &CliError) {
    write(std::io::stderr().lock(), &printable(&format!("error: {error}")));
}

/// Tells on standard error how a long command gets on.
pub fn progress(text: &str) {
    write(std::io::stderr().lock(), &printable(text));
}

/// Lines of columns, as wide as they must be.
#[derive(Debug, Clone)]
pub struct Table {
    rows: Vec<Vec<String>>,
    empty: &'static str,
}

impl Table {
    /// A table with these titles; `empty` is said when there are no rows.
    pub fn new(titles: &[&str], empty: &'static str) -> Self {
        Self { rows: vec![titles.iter().map(|title| title.to_uppercase()).collect()], empty }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let one_line = |cell: String| cell.replace(char::is_control, "?");
        self.rows.push(cells.into_iter().map(one_line).collect());
    }

    /// The table as text.
    pub fn text(&self) -> String {
        if self.rows.len() < 2 {
            return self.empty.to_owned();
        }
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|c| c.chars().count()).max()
        };
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        let lines = self.rows.iter().map(|row| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// A point in time, to the second.
pub fn time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// A number of seconds in its largest fitting unit.
pub fn seconds(seconds: f64) -> String {
    match seconds.max(0.0) as u64 {
        s @ 0..120 => format!("{s}s"),
        s @ 120..7_200 => format!("{}m", s / 60),
        s @ 7_200..172_800 => format!("{}h", s / 3_600),
        s => format!("{}d", s / 86_400),
    }
}

/// `-` for what is not there.
pub fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

fn write(mut to: impl Write, text: &str) {
    // Nobody is left to be told of a failure here.
    let _ = writeln!(to, "{text}");
    let _ = to.flush();
}

fn printable(text: &str) -> String {
    text.replace(|c: char| c.is_control() && c != '\n', "?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_nothing_steers_the_terminal() {
        let mut table = Table::new(&["name", "n"], "none");
        assert_eq!(table.text(), "none");
        table.row(["a\u{1b}[31m\n".to_owned(), "1".to_owned()]);
        table.row(["längst".to_owned(), "22".to_owned()]);
        assert_eq!(table.text(), "NAME     N\na?[31m?  1\nlängst   22");
        assert_eq!(printable("a\u{7}\nb"), "a?\nb");
    }

    #[test]
    fn seconds_read_well() {
        let words: Vec<String> = [0.4, 119.0, 120.0, 7_200.0, 200_000.0].map(seconds).into();
        assert_eq!(words, ["0s", "119s", "2m", "2h", "2d"]);
    }
}
