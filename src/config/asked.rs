//! What the sections asked the document for: every key with what it may hold, what it holds, and
//! where that was written. The reference, `config show` and `config diff` are made of it.

use std::fmt::Display;

use super::document::{Node, Value};
use super::fault::Place;

/// One key that a section read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// With its section: `queue.claim_batch`, `route[0].name`.
    pub key: String,
    /// What it may hold, in words.
    pub expected: String,
    /// What holds when nobody says, where the section could tell.
    pub default: Option<String>,
    /// What was written.
    pub given: Option<Given>,
}

/// What was written, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// As it would be written again; a secret is not shown.
    pub value: String,
    /// The line of a file, or a variable.
    pub place: Place,
}

/// Whether a value may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    Plainly,
    Never,
}

impl Asked {
    pub(super) fn new(
        key: String,
        expected: &dyn Display,
        node: Option<&Node>,
        shown: Shown,
    ) -> Self {
        let given = node.map(|node| Given {
            value: match shown {
                Shown::Plainly => written(&node.value),
                Shown::Never => "(not shown)".to_owned(),
            },
            place: node.place.clone(),
        });
        // What is near to a word that was written is no part of what may be written.
        let mut expected = expected.to_string();
        expected.truncate(expected.find("; did you mean").unwrap_or(expected.len()));
        Self { key, expected, default: None, given }
    }

    /// The key without the numbers of list entries: `route[].name`.
    pub fn general(&self) -> String {
        let mut general = String::with_capacity(self.key.len());
        for (n, part) in self.key.split(['[', ']']).enumerate() {
            match n % 2 {
                0 => general.push_str(part),
                _ => general.push_str("[]"),
            }
        }
        general
    }

    /// What holds: what was written, else the default.
    pub fn effective(&self) -> Option<&str> {
        self.given.as_ref().map(|given| given.value.as_str()).or(self.default.as_deref())
    }
}

/// Whole, unlike what a fault shows.
fn written(value: &Value) -> String {
    match value {
        Value::Text(text) | Value::Variable(text) => format!("{text:?}"),
        Value::Integer(number) => number.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Switch(switch) => switch.to_string(),
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(|item| written(&item.value)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Table(_) => "a section".to_owned(),
        Value::Unsupported(what) => (*what).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_a_list_is_general_without_its_number() {
        let of = |key: &str| Asked::new(key.into(), &"a text", None, Shown::Plainly).general();
        assert_eq!(of("route[12].name"), "route[].name");
        assert_eq!(of("queue.claim_batch"), "queue.claim_batch");
    }

    #[test]
    fn a_value_is_shown_whole_and_a_secret_never() {
        let node = Node::parse("x.toml", "a = [\"b\", \"c\"]\n").expect("TOML");
        let Value::Table(table) = &node.value else { panic!("a table") };
        let shown = |shown| Asked::new("a".into(), &"", table.get("a"), shown).given;
        assert_eq!(shown(Shown::Plainly).expect("given").value, "[\"b\", \"c\"]");
        assert_eq!(shown(Shown::Never).expect("given").value, "(not shown)");
        assert_eq!(shown(Shown::Plainly).expect("given").place.to_string(), "x.toml:1");
    }
}
