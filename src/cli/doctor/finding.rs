//! One thing that the doctor saw.

use std::fmt;

use serde::Serialize;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Grade {
    /// As it should be.
    Fine,
    /// It works, and is likely not meant.
    Odd,
    /// Something must be done.
    Fault,
}

/// What was seen, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// Where: `database`, `dns`, …
    pub(super) area: &'static str,
    /// How bad.
    pub(super) grade: Grade,
    /// What was seen.
    pub(super) seen: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) advice: Option<String>,
}

impl Finding {
    pub(super) fn fine(area: &'static str, seen: impl Into<String>) -> Self {
        Self { area, grade: Grade::Fine, seen: seen.into(), advice: None }
    }

    pub(super) fn odd(
        area: &'static str,
        seen: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self { area, grade: Grade::Odd, seen: seen.into(), advice: Some(advice.into()) }
    }

    pub(super) fn fault(
        area: &'static str,
        seen: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self { area, grade: Grade::Fault, seen: seen.into(), advice: Some(advice.into()) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.grade {
            Grade::Fine => "ok   ",
            Grade::Odd => "odd  ",
            Grade::Fault => "FAULT",
        };
        write!(f, "{mark} {}: {}", self.area, self.seen)?;
        match &self.advice {
            Some(advice) => write!(f, "\n      do: {advice}"),
            None => Ok(()),
        }
    }
}
