//! Takes keys out of a document, one typed question at a time.
//!
//! The questions are the schema: what nobody asked for is unknown, and the
//! keys asked for are those that a misspelt one may have meant. A wrong value
//! is noted and the default stands in for it, so that reading goes on.

use std::cell::RefCell;
use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::asked::{Asked, Shown};
use super::document::{Node, Table, Value};
use super::fault::{Place, perhaps};
use super::notes::Notes;
use super::unit;

mod files;

/// One table of the document. Must be closed with [`Reader::end`].
pub(super) struct Reader<'d> {
    path: String,
    place: Place,
    table: Option<&'d Table>,
    asked: RefCell<Vec<&'static str>>,
    notes: &'d Notes,
}

impl<'d> Reader<'d> {
    pub(super) fn new(document: &'d Node, notes: &'d Notes) -> Self {
        Self::of(document, String::new(), notes)
    }

    fn of(node: &'d Node, path: String, notes: &'d Notes) -> Self {
        let table = match &node.value {
            Value::Table(table) => Some(table),
            other => {
                notes.fault(
                    node.place.clone(),
                    format!("{path}: expected a section, found {}", other.shown()),
                );
                None
            }
        };
        Self { path, place: node.place.clone(), table, asked: RefCell::default(), notes }
    }

    /// Faults speak of it by this name from now on.
    pub(super) fn call(&mut self, path: String) {
        self.path = path;
    }

    /// Where faults go.
    pub(super) const fn notes(&self) -> &'d Notes {
        self.notes
    }

    /// Reports every key that nobody asked for.
    pub(super) fn end(self) {
        let asked = self.asked.borrow();
        for (key, node) in self.table.into_iter().flatten() {
            if !asked.contains(&key.as_str()) {
                let hint = perhaps(key, asked.iter().copied());
                self.notes
                    .fault(node.place.clone(), format!("{}: unknown key{hint}", self.name(key)));
            }
        }
    }

    // --- tables ----------------------------------------------------------------

    /// `[key]`, present or not.
    pub(super) fn section(&self, key: &'static str) -> Reader<'d> {
        self.optional_section(key).unwrap_or_else(|| Reader {
            path: self.name(key),
            place: self.place.clone(),
            table: None,
            asked: RefCell::default(),
            notes: self.notes,
        })
    }

    /// `[key]`, if present.
    pub(super) fn optional_section(&self, key: &'static str) -> Option<Reader<'d>> {
        self.node(key).map(|node| Self::of(node, self.name(key), self.notes))
    }

    /// `[[key]]`; `None` when there is none at all.
    pub(super) fn entries(&self, key: &'static str) -> Option<Vec<Reader<'d>>> {
        let node = self.node(key)?;
        let Value::List(list) = &node.value else {
            let message = format!(
                "{}: expected [[{key}]] entries, found {}",
                self.name(key),
                node.value.shown()
            );
            self.notes.fault(node.place.clone(), message);
            return None;
        };
        let entry = |(n, inner)| Self::of(inner, format!("{}[{n}]", self.name(key)), self.notes);
        Some(list.iter().enumerate().map(entry).collect())
    }

    /// `[key.NAME]` by name.
    pub(super) fn named(&self, key: &'static str) -> Vec<(&'d str, Reader<'d>)> {
        let Some(section) = self.optional_section(key) else { return Vec::new() };
        let entry = |(name, inner): (&'d String, &'d Node)| {
            (name.as_str(), Self::of(inner, format!("{}.{name}", self.name(key)), self.notes))
        };
        section.table.into_iter().flatten().map(entry).collect()
    }

    // --- values ----------------------------------------------------------------

    /// The key's value as `parse` makes it; `None` when absent or wrong.
    pub(super) fn value<T>(
        &self,
        key: &'static str,
        expected: impl Display,
        parse: impl FnOnce(&Node) -> Option<T>,
    ) -> Option<T> {
        self.note(key, &expected, Shown::Plainly);
        let node = self.node(key)?;
        let value = parse(node);
        if value.is_none() {
            self.wrong(key, node, expected);
        }
        value
    }

    pub(super) fn text(&self, key: &'static str) -> Option<String> {
        self.value(key, "a text", |node| node.text().map(ToOwned::to_owned))
    }

    /// A text that passes `check`.
    pub(super) fn checked(
        &self,
        key: &'static str,
        expected: impl Display,
        check: impl Fn(&str) -> bool,
    ) -> Option<String> {
        self.value(key, expected, |node| {
            node.text().filter(|text| check(text)).map(ToOwned::to_owned)
        })
    }

    /// The same for a text that may hold a secret: what was found is not shown.
    pub(super) fn concealed(
        &self,
        key: &'static str,
        expected: impl Display,
        check: impl Fn(&str) -> bool,
    ) -> Option<String> {
        self.note(key, &expected, Shown::Never);
        let text = self.node(key)?.text().filter(|text| check(text));
        if text.is_none() {
            self.fault(key, format_args!("expected {expected}, found something else (not shown)"));
        }
        text.map(ToOwned::to_owned)
    }

    /// A checked text that must be there.
    pub(super) fn required(
        &self,
        key: &'static str,
        expected: &'static str,
        check: impl Fn(&str) -> bool,
    ) -> Option<String> {
        if self.node(key).is_none() {
            self.fault(key, format_args!("missing; expected {expected}"));
        }
        self.checked(key, expected, check)
    }

    /// One of the texts in `choices`.
    pub(super) fn choice<T: Copy>(
        &self,
        key: &'static str,
        choices: &[(&'static str, T)],
    ) -> Option<T> {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let near = self
            .node(key)
            .and_then(Node::text)
            .map_or_else(String::new, |text| perhaps(text, words.iter().copied()));
        let expected = format!("one of {}{near}", words.join(", "));
        self.value(key, expected, |node| {
            let text = node.text()?;
            choices.iter().find(|(word, _)| *word == text).map(|(_, value)| *value)
        })
    }

    pub(super) fn switch(&self, key: &'static str, default: bool) -> bool {
        let value = self.value(key, "true or false", |node| match &node.value {
            Value::Switch(switch) => Some(*switch),
            Value::Variable(text) => text.parse().ok(),
            _ => None,
        });
        self.notes.default_is(default);
        value.unwrap_or(default)
    }

    pub(super) fn integer<T>(&self, key: &'static str, default: T, range: RangeInclusive<T>) -> T
    where
        T: TryFrom<i64> + PartialOrd + Display,
    {
        let value = self.optional_integer(key, range);
        self.notes.default_is(&default);
        value.unwrap_or(default)
    }

    pub(super) fn optional_integer<T>(
        &self,
        key: &'static str,
        range: RangeInclusive<T>,
    ) -> Option<T>
    where
        T: TryFrom<i64> + PartialOrd + Display,
    {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        self.value(key, expected, |node| {
            node.integer().and_then(|n| T::try_from(n).ok()).filter(|n| range.contains(n))
        })
    }

    pub(super) fn number(
        &self,
        key: &'static str,
        default: f64,
        range: RangeInclusive<f64>,
    ) -> f64 {
        let expected = format!("a number from {} to {}", range.start(), range.end());
        let value = self.value(key, expected, |node| {
            let number = match &node.value {
                Value::Number(number) => *number,
                Value::Variable(text) => text.parse().ok()?,
                _ => node.integer()? as f64,
            };
            range.contains(&number).then_some(number)
        });
        self.notes.default_is(default);
        value.unwrap_or(default)
    }

    pub(super) fn duration(
        &self,
        key: &'static str,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        let (least, most) = (unit::written(*range.start()), unit::written(*range.end()));
        let expected = format!("a duration from \"{least}\" to \"{most}\"");
        let value = self.value(key, expected, |node| {
            node.text().and_then(unit::duration).filter(|duration| range.contains(duration))
        });
        self.notes.default_is(format_args!("\"{}\"", unit::written(default)));
        value.unwrap_or(default)
    }

    pub(super) fn size(&self, key: &'static str, default: u64, range: RangeInclusive<u64>) -> u64 {
        let expected =
            format!("a size like \"20MiB\" from {} to {} bytes", range.start(), range.end());
        let value = self.value(key, expected, |node| {
            let size = match node.integer() {
                Some(bytes) => u64::try_from(bytes).ok(),
                None => node.text().and_then(unit::size),
            };
            size.filter(|size| range.contains(size))
        });
        self.notes.default_is(format_args!("\"{}\"", unit::written_size(default)));
        value.unwrap_or(default)
    }

    pub(super) fn address(&self, key: &'static str, default: SocketAddr) -> SocketAddr {
        let expected = "an address and port like 127.0.0.1:8025";
        let value = self.value(key, expected, |node| node.text()?.parse().ok());
        self.notes.default_is(format_args!("\"{default}\""));
        value.unwrap_or(default)
    }

    /// A list; a variable holds it with commas.
    pub(super) fn list<T>(
        &self,
        key: &'static str,
        expected: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<Vec<T>> {
        self.note(key, &format_args!("a list, each {expected}"), Shown::Plainly);
        let node = self.node(key)?;
        let mut list = Vec::new();
        match &node.value {
            Value::List(items) => {
                for item in items {
                    match item.text().and_then(&parse) {
                        Some(value) => list.push(value),
                        None => self.wrong(key, item, expected),
                    }
                }
            }
            Value::Variable(text) => {
                for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
                    match parse(item) {
                        Some(value) => list.push(value),
                        None => self.wrong(key, node, expected),
                    }
                }
            }
            _ => self.wrong(key, node, format_args!("a list, each {expected}")),
        }
        Some(list)
    }

    /// The text of a file with certificates; what is in it is nobody's secret.
    pub(super) fn pem(&self, key: &'static str) -> Option<String> {
        let file = self.text(key)?;
        let read = std::fs::read_to_string(self.notes.folder.join(&file));
        match read {
            Ok(text) if text.contains("-----BEGIN CERTIFICATE-----") => return Some(text),
            Ok(_) => self.fault(key, format_args!("{file}: expected a certificate in PEM")),
            Err(error) => self.fault(key, format_args!("cannot read {file}: {error}")),
        }
        None
    }

    // --- notes -----------------------------------------------------------------

    pub(super) fn fault(&self, key: &str, message: impl Display) {
        self.notes.fault(self.place_of(key), format!("{}: {message}", self.name(key)));
    }

    pub(super) fn has(&self, key: &'static str) -> bool {
        self.node(key).is_some()
    }

    /// Whether the key was set by a variable rather than in the file.
    pub(super) fn is_from_variable(&self, key: &'static str) -> bool {
        self.node(key).is_some_and(|node| matches!(node.value, Value::Variable(_)))
    }

    fn note(&self, key: &'static str, expected: &dyn Display, shown: Shown) {
        if let Some(asked) = &self.notes.asked {
            let node = self.table.and_then(|table| table.get(key));
            asked.borrow_mut().push(Asked::new(self.name(key), expected, node, shown));
        }
    }

    fn wrong(&self, key: &str, node: &Node, expected: impl Display) {
        let message =
            format!("{}: expected {expected}, found {}", self.name(key), node.value.shown());
        self.notes.fault(node.place.clone(), message);
    }

    fn node(&self, key: &'static str) -> Option<&'d Node> {
        if !self.asked.borrow().contains(&key) {
            self.asked.borrow_mut().push(key);
        }
        self.table?.get(key)
    }

    fn place_of(&self, key: &str) -> Place {
        self.table.and_then(|table| table.get(key)).map_or(&self.place, |node| &node.place).clone()
    }

    fn name(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}
