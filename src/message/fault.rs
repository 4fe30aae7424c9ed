//! What is wrong with a submission, field by field.
//!
//! A tenant repairs a message in one round when all faults are told at once,
//! each with the path of its field in the JSON: `attachments[0].content_type`.

use std::fmt;

/// One field that cannot be accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// Path in the submitted JSON.
    pub field: String,
    /// Line within the field's template, from 1.
    pub line: Option<usize>,
    /// The template variable at fault, as written there: `order.number`.
    pub variable: Option<String>,
    /// What was expected and what was found.
    pub reason: String,
}

impl FieldError {
    /// A fault of a whole field.
    pub fn new(field: impl Into<String>, reason: impl fmt::Display) -> Self {
        Self { field: field.into(), line: None, variable: None, reason: reason.to_string() }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.field)?;
        if let Some(line) = self.line {
            write!(f, " line {line}")?;
        }
        write!(f, ": {}", self.reason)
    }
}

impl std::error::Error for FieldError {}

/// A message that cannot be accepted: at least one fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidContent(Vec<FieldError>);

impl InvalidContent {
    /// A message with these faults.
    pub(crate) fn new(faults: Vec<FieldError>) -> Self {
        Self(faults)
    }

    /// Every fault, in the order of the fields.
    pub fn faults(&self) -> &[FieldError] {
        &self.0
    }
}

impl fmt::Display for InvalidContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, fault) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str("; ")?;
            }
            fault.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for InvalidContent {}

/// Collects faults while the rest of the fields are still being read.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<FieldError>);

impl Faults {
    /// Notes a fault of `field`.
    pub(crate) fn add(&mut self, field: impl Into<String>, reason: impl fmt::Display) {
        self.0.push(FieldError::new(field, reason));
    }

    /// Passes a good value on; notes why there is none.
    pub(crate) fn take<T, E: fmt::Display>(
        &mut self,
        field: impl Into<String>,
        result: Result<T, E>,
    ) -> Option<T> {
        result.map_err(|error| self.add(field, error)).ok()
    }

    /// Passes a good value on; keeps the fault as it is.
    pub(crate) fn keep<T>(&mut self, result: Result<T, FieldError>) -> Option<T> {
        result.map_err(|fault| self.0.push(fault)).ok()
    }

    /// All that was noted.
    pub(crate) fn into_vec(self) -> Vec<FieldError> {
        self.0
    }
}
