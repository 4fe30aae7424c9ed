//! [`Span`]: something that took time, as it is told.

use std::time::SystemTime;

use crate::domain::trace::{SpanId, TraceId};

/// Something that took time and is over.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// Its trace.
    pub trace: TraceId,
    /// Itself.
    pub id: SpanId,
    /// Under what it belongs; none: the first of its trace.
    pub parent: Option<SpanId>,
    /// What it is called: one of few names.
    pub name: String,
    /// Which side of a talk it was.
    pub kind: Kind,
    /// From when.
    pub began: SystemTime,
    /// Until when.
    pub ended: SystemTime,
    /// What went wrong; none: nothing did.
    pub failure: Option<String>,
    /// What there is to know of it. No addresses of recipients.
    pub facts: Facts,
    /// Points on its way.
    pub moments: Vec<Moment>,
    /// Spans that it follows from, or belongs with.
    pub links: Vec<(TraceId, SpanId)>,
}

/// Which side of a talk a span was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It answered somebody.
    Server,
    /// It asked somebody.
    Client,
    /// Neither.
    Internal,
}

/// A point on the way of a span.
#[derive(Debug, Clone, PartialEq)]
pub struct Moment {
    /// What happened.
    pub what: &'static str,
    /// When.
    pub at: SystemTime,
}

/// Named values.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts(Vec<(&'static str, Value)>);

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A number.
    Number(i64),
    /// Yes or no.
    Switch(bool),
}

impl Facts {
    /// Adds a text.
    #[allow(clippy::needless_pass_by_value, reason = "ids and numbers come by value, names do not")]
    pub fn text(&mut self, name: &'static str, value: impl ToString) {
        self.0.push((name, Value::Text(value.to_string())));
    }

    /// Adds a text if there is one.
    pub fn maybe(&mut self, name: &'static str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    /// Adds a number.
    pub fn number(&mut self, name: &'static str, value: i64) {
        self.0.push((name, Value::Number(value)));
    }

    /// Adds a yes; a no says nothing.
    pub fn flag(&mut self, name: &'static str, value: bool) {
        if value {
            self.0.push((name, Value::Switch(true)));
        }
    }

    /// All of them, in order.
    pub fn into_pairs(self) -> impl Iterator<Item = (&'static str, Value)> {
        self.0.into_iter()
    }
}
