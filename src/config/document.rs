//! A configuration as written: the file's values with their lines, and the
//! environment laid over them.

use std::collections::BTreeMap;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{Fault, Place};

/// Prefix of the variables that override a key: `POSTRIDER__API__LISTEN`.
pub(super) const OVERRIDE: &str = "POSTRIDER__";

/// A value and where it was written.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// What TOML or a variable can hold.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Text(String),
    Integer(i64),
    Number(f64),
    Switch(bool),
    List(Vec<Node>),
    Table(Table),
    /// A date, or an integer too large for us.
    Unsupported(&'static str),
    /// The text of a variable: it becomes whatever its key asks for.
    Variable(String),
}

pub(super) type Table = BTreeMap<String, Node>;

impl Node {
    /// An empty document, for a start without a file.
    pub(super) fn empty(origin: &str) -> Self {
        let place = Place { origin: Arc::from(origin), line: None };
        Self { place, value: Value::Table(Table::new()) }
    }

    /// Reads a file's text. Faults of syntax are all reported, each with its line.
    pub(super) fn parse(origin: &str, text: &str) -> Result<Self, Vec<Fault>> {
        let lines = Lines::new(origin, text);
        let (table, errors) = DeTable::parse_recoverable(text);
        if errors.is_empty() {
            let place = Place { origin: Arc::clone(&lines.origin), line: None };
            return Ok(Self { place, value: Value::Table(lines.table(table.get_ref())) });
        }
        let mut faults: Vec<Fault> = errors
            .iter()
            .map(|error| Fault {
                place: lines.place(error.span().map_or(0, |span| span.start)),
                message: format!("not TOML: {}", error.message()),
            })
            .collect();
        faults.sort_by_key(|fault| fault.place.line);
        Err(faults)
    }

    /// Lays one variable over the document: `POSTRIDER__SECTION__KEY`, lower-cased;
    /// a number picks an entry of a list (`POSTRIDER__SOURCE__0__EHLO`).
    pub(super) fn override_with(&mut self, variable: &str, text: &str) -> Result<(), Fault> {
        let place = Place { origin: Arc::from(variable), line: None };
        let refuse = |message: String| Fault { place: place.clone(), message };
        let path = variable.strip_prefix(OVERRIDE).unwrap_or_default().to_ascii_lowercase();
        let mut node = self;
        let mut segments = path.split("__").peekable();
        while let Some(segment) = segments.next() {
            if segment.is_empty() {
                return Err(refuse("expected a name like POSTRIDER__SECTION__KEY".into()));
            }
            let indexed = segments.peek().is_some_and(|next| next.parse::<usize>().is_ok());
            let inner = if indexed { Value::List(Vec::new()) } else { Value::Table(Table::new()) };
            let fresh = || Node { place: place.clone(), value: inner };
            node = match &mut node.value {
                Value::Table(table) => table.entry(segment.to_owned()).or_insert_with(fresh),
                Value::List(list) => {
                    let index = segment.parse::<usize>().ok().filter(|index| *index <= list.len());
                    let Some(index) = index else {
                        return Err(refuse(format!(
                            "expected an index from 0 to {} in place of {segment:?}",
                            list.len()
                        )));
                    };
                    if index == list.len() {
                        list.push(fresh());
                    }
                    &mut list[index]
                }
                _ => return Err(refuse(format!("{segment:?} lies below a key, not a section"))),
            };
        }
        *node = Node { place, value: Value::Variable(text.to_owned()) };
        Ok(())
    }

    /// The text written there, if it is one.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) | Value::Variable(text) => Some(text),
            _ => None,
        }
    }

    /// The whole number written there, if it is one.
    pub(super) fn integer(&self) -> Option<i64> {
        match &self.value {
            Value::Integer(number) => Some(*number),
            Value::Variable(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    /// Where `path` (`throttle[0].rate`) was written, or the nearest thing around it.
    pub(super) fn place_of(&self, path: &str) -> Place {
        let mut node = self;
        for segment in path.split(['.', '[']) {
            let inner = match &node.value {
                Value::Table(table) => table.get(segment),
                Value::List(list) => {
                    segment.trim_end_matches(']').parse().ok().and_then(|n: usize| list.get(n))
                }
                _ => None,
            };
            match inner {
                Some(inner) => node = inner,
                None => break,
            }
        }
        node.place.clone()
    }
}

impl Value {
    /// What stands there, cut short, as it would be written.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Text(text) | Self::Variable(text) => {
                format!("{:?}", text.chars().take(60).collect::<String>())
            }
            Self::Integer(number) => number.to_string(),
            Self::Number(number) => number.to_string(),
            Self::Switch(switch) => switch.to_string(),
            Self::List(_) => "a list".into(),
            Self::Table(_) => "a section".into(),
            Self::Unsupported(what) => (*what).into(),
        }
    }
}

/// Finds the line of a byte.
struct Lines {
    origin: Arc<str>,
    ends: Vec<usize>,
}

impl Lines {
    fn new(origin: &str, text: &str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(n, _)| n).collect();
        Self { origin: Arc::from(origin), ends }
    }

    fn place(&self, byte: usize) -> Place {
        let line = self.ends.partition_point(|end| *end < byte) + 1;
        Place { origin: Arc::clone(&self.origin), line: Some(line as u32) }
    }

    fn table(&self, table: &DeTable<'_>) -> Table {
        table
            .iter()
            .map(|(key, value)| {
                let place = self.place(key.span().start);
                (key.get_ref().to_string(), Node { place, value: self.value(value) })
            })
            .collect()
    }

    fn value(&self, value: &Spanned<DeValue<'_>>) -> Value {
        match value.get_ref() {
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map_or(Value::Unsupported("a number that is too large"), Value::Integer),
            DeValue::Float(number) => number
                .as_str()
                .parse()
                .map_or(Value::Unsupported("a number that is too large"), Value::Number),
            DeValue::Boolean(switch) => Value::Switch(*switch),
            DeValue::Datetime(_) => Value::Unsupported("a date"),
            DeValue::Array(array) => Value::List(
                array
                    .iter()
                    .map(|inner| Node {
                        place: self.place(inner.span().start),
                        value: self.value(inner),
                    })
                    .collect(),
            ),
            DeValue::Table(table) => Value::Table(self.table(table)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_knows_its_line() {
        let text = "a = 1\n\n[[throttle]]\nrate = \"1/s\"\n[[throttle]]\n\nrate = \"2/s\"\n";
        let document = Node::parse("x.toml", text).expect("TOML");
        assert_eq!(document.place_of("a").to_string(), "x.toml:1");
        assert_eq!(document.place_of("throttle[1]").to_string(), "x.toml:5");
        assert_eq!(document.place_of("throttle[1].rate").to_string(), "x.toml:7");
        assert_eq!(document.place_of("throttle[1].burst").to_string(), "x.toml:5");
        assert_eq!(document.place_of("nothing").to_string(), "x.toml");
    }

    #[test]
    fn every_fault_of_syntax_is_reported() {
        let faults = Node::parse("x.toml", "a = \n[b\nc = 1\nc = 2\n").expect_err("not TOML");
        let lines: Vec<_> = faults.iter().map(|fault| fault.place.line).collect();
        assert_eq!(lines, [Some(1), Some(2)], "{faults:?}");
    }

    #[test]
    fn a_variable_lies_over_the_file() {
        let mut document = Node::parse("x.toml", "[[source]]\nname = \"a\"\n").expect("TOML");
        document.override_with("POSTRIDER__SOURCE__0__NAME", "b").expect("known");
        document.override_with("POSTRIDER__SOURCE__1__NAME", "c").expect("next");
        assert_eq!(document.place_of("source[0].name").to_string(), "POSTRIDER__SOURCE__0__NAME");
        assert!(document.override_with("POSTRIDER__SOURCE__7__NAME", "d").is_err());
        assert!(document.override_with("POSTRIDER__", "d").is_err());
    }
}
