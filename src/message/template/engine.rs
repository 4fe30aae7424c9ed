//! The template engine: limits, and what its errors mean to a tenant.

use std::io;
use std::sync::LazyLock;

use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, Output, State, UndefinedBehavior, Value,
    escape_formatter,
};

use super::filter;
use super::guard::refused_by_engine;
use crate::message::fault::FieldError;

/// Most steps of the engine for one part of one mail: some 4,000 table rows of five
/// cells, or about 5 ms.
const MAX_STEPS: u64 = 100_000;

/// The name under which the HTML body is known; it alone is escaped.
pub(super) const HTML: &str = "html";

/// What every message's environment starts from; a clone shares the tables.
static PROTOTYPE: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut env = Environment::empty();
    filter::install(&mut env);
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    env.set_fuel(Some(MAX_STEPS));
    env.set_formatter(write_value);
    env.set_auto_escape_callback(|name| match name {
        HTML => AutoEscape::Html,
        _ => AutoEscape::None,
    });
    // Keeps where an undefined value came from, so that errors can name it.
    env.set_debug(true);
    env
});

/// A new environment without templates.
pub(super) fn environment() -> Environment<'static> {
    PROTOTYPE.clone()
}

/// Writes what `{{ … }}` yields: nothing for null, an error for a list or map (a
/// mail that shows `["a", "b"]` is a mistake, and it could be of any size).
fn write_value(out: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    if value.as_str().is_some() {
        return escape_formatter(out, state, value);
    }
    if value.is_none() || value.is_undefined() {
        return Ok(());
    }
    filter::scalar("a place in the text", value)?;
    escape_formatter(out, state, value)
}

/// Fills one template; the result is at most `limit` bytes.
pub(super) fn fill(
    env: &Environment<'static>,
    name: &str,
    scope: &Value,
    limit: usize,
) -> Result<String, FieldError> {
    let mut out = BoundedWriter { bytes: Vec::new(), limit, full: false };
    let result = env
        .get_template(name)
        .and_then(|template| {
            out.bytes.reserve(template.source().len().min(limit));
            template.render_captured_to(scope.clone(), &mut out)
        })
        .map(|_| ());
    if out.full {
        let reason = format!("the text becomes longer than {limit} bytes");
        return Err(FieldError::new(name, reason));
    }
    result.map_err(|error| explain(name, &error))?;
    String::from_utf8(out.bytes).map_err(|error| FieldError::new(name, error))
}

/// Puts an error of the engine into a tenant's words.
fn explain(field: &str, error: &Error) -> FieldError {
    let refused = refused_by_engine(error);
    let variable = undefined_name(error.detail().unwrap_or_default());
    let reason = match (error.kind(), &variable) {
        (ErrorKind::OutOfFuel, _) if error.detail().is_none() => {
            format!("the template takes more than {MAX_STEPS} steps")
        }
        (_, Some(name)) => format!("the variable {name} has no value"),
        (ErrorKind::UndefinedError, None) => "a variable has no value".to_owned(),
        _ => refused.reason.chars().filter(|c| !c.is_control()).take(200).collect(),
    };
    FieldError { field: field.to_owned(), line: refused.line, variable, reason }
}

/// The engine says `` `order.number` is undefined ``.
fn undefined_name(detail: &str) -> Option<String> {
    let (before, _) = detail.split_once("` is undefined")?;
    let (_, name) = before.rsplit_once('`')?;
    Some(name.chars().filter(|c| !c.is_control()).take(100).collect())
}

/// Takes at most `limit` bytes; then the template stops.
struct BoundedWriter {
    bytes: Vec<u8>,
    limit: usize,
    full: bool,
}

impl io::Write for BoundedWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.limit - self.bytes.len() {
            self.full = true;
            return Err(io::Error::other("the limit is reached"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
