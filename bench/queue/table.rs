//! Results: a table for people, and a line of JSON for each row for programs.

use std::fmt;

use serde_json::{Map, Value};

/// A value of a row.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    shown: String,
    value: Value,
}

impl Cell {
    /// A number without decimals.
    pub(crate) fn whole(number: f64) -> Self {
        Self { shown: format!("{number:.0}"), value: rounded(number, 1.0) }
    }

    /// A number with one decimal.
    pub(crate) fn tenth(number: f64) -> Self {
        Self { shown: format!("{number:.1}"), value: rounded(number, 10.0) }
    }

    /// A number with two decimals.
    pub(crate) fn hundredth(number: f64) -> Self {
        Self { shown: format!("{number:.2}"), value: rounded(number, 100.0) }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self { shown: text.to_owned(), value: text.into() }
    }
}

fn rounded(number: f64, by: f64) -> Value {
    ((number * by).round() / by).into()
}

/// Rows under their columns.
#[derive(Debug)]
pub(crate) struct Table {
    name: &'static str,
    columns: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty table of a measurement.
    pub(crate) fn new(name: &'static str, columns: &[&'static str]) -> Self {
        Self { name, columns: columns.to_vec(), rows: Vec::new() }
    }

    /// One more row; as many cells as columns.
    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n| {} |", self.columns.join(" | "))?;
        writeln!(f, "|{}", "---|".repeat(self.columns.len()))?;
        for row in &self.rows {
            let shown: Vec<&str> = row.iter().map(|cell| cell.shown.as_str()).collect();
            writeln!(f, "| {} |", shown.join(" | "))?;
        }
        writeln!(f)?;
        for row in &self.rows {
            let mut object = Map::new();
            object.insert("bench".into(), self.name.into());
            for (column, cell) in self.columns.iter().zip(row) {
                object.insert((*column).into(), cell.value.clone());
            }
            writeln!(f, "{}", Value::Object(object))?;
        }
        Ok(())
    }
}

/// Processes that wanted a core in the last minute: whether the machine was quiet.
pub(crate) fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("unknown").to_owned()
}
