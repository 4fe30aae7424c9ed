//! The filters and tests that templates may use, each on a meter.
//!
//! Promise: however it is written, one template part of one mail makes filters
//! touch at most [`MAX_WORK`] bytes in all, and no single text grows beyond
//! [`MAX_TEXT`]. Texts are made from texts and numbers only: a list is never
//! written out as a whole, since a list may name one long value many times.

use std::fmt::Write as _;

use minijinja::value::{Rest, ValueKind, ValueOrKwargs};
use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, State, Value, filters, tests as engine_tests,
};

/// Most bytes of one text that a filter or operator makes.
pub(super) const MAX_TEXT: usize = 256 << 10;

/// Most bytes that filters and operators may read and make for one part of one mail.
pub(super) const MAX_WORK: usize = 4 << 20;

/// Most values and bytes that one list or map literal may reach.
const MAX_LITERAL: usize = 64 << 10;

/// Most rows or columns that `batch` and `slice` make.
const MAX_ROWS: usize = 1_000;

/// What a value in a list costs beside its text.
const VALUE_COST: usize = 32;

// How the guard writes the calls of the operators.
pub(super) const CONCAT: &str = ")|pr_concat(";
pub(super) const PLUS: &str = ")|pr_plus(";
pub(super) const TIMES: &str = ")|pr_times(";
pub(super) const MEASURED: &str = ")|pr_measured";
pub(super) const MEMBERS_OF: &str = ")|pr_members";

/// What a filter takes before its `|`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Input {
    /// A text, number or truth value.
    Scalar,
    /// Anything; what comes out holds parts of what went in.
    Any,
    /// Anything, but it is written out: its whole depth is measured first.
    Written,
}

/// One filter of the engine's that templates may use.
struct Offer {
    name: &'static str,
    input: Input,
    /// Most arguments by position.
    args: usize,
    /// `None`: the function is ours.
    engine: Option<fn() -> Value>,
}

macro_rules! offer {
    ($name:literal, $function:ident, $input:ident, $args:literal) => {
        Offer {
            name: $name,
            input: Input::$input,
            args: $args,
            engine: Some(|| Value::from_function(filters::$function)),
        }
    };
}

const OFFERED: &[Offer] = &[
    offer!("abs", abs, Scalar, 0),
    offer!("attr", attr, Any, 1),
    offer!("batch", batch, Any, 1),
    offer!("bool", bool, Scalar, 0),
    offer!("capitalize", capitalize, Scalar, 0),
    offer!("count", length, Any, 0),
    offer!("d", default, Any, 2),
    offer!("default", default, Any, 2),
    offer!("dictsort", dictsort, Any, 0),
    offer!("e", escape, Scalar, 0),
    offer!("escape", escape, Scalar, 0),
    offer!("first", first, Any, 0),
    offer!("float", float, Scalar, 1),
    offer!("format", format, Scalar, 16),
    offer!("groupby", groupby, Any, 1),
    offer!("int", int, Scalar, 1),
    offer!("items", items, Any, 0),
    Offer { name: "join", input: Input::Any, args: 2, engine: None },
    offer!("last", last, Any, 0),
    offer!("length", length, Any, 0),
    offer!("lines", lines, Scalar, 0),
    offer!("list", list, Any, 0),
    offer!("lower", lower, Scalar, 0),
    offer!("map", map, Any, 3),
    offer!("max", max, Any, 0),
    offer!("min", min, Any, 0),
    offer!("reject", reject, Any, 2),
    offer!("rejectattr", rejectattr, Any, 3),
    offer!("replace", replace, Scalar, 2),
    offer!("reverse", reverse, Any, 0),
    offer!("round", round, Scalar, 1),
    offer!("safe", safe, Scalar, 0),
    offer!("select", select, Any, 2),
    offer!("selectattr", selectattr, Any, 3),
    offer!("slice", slice, Any, 1),
    offer!("sort", sort, Any, 0),
    offer!("split", split, Scalar, 2),
    offer!("string", string, Scalar, 0),
    offer!("sum", sum, Any, 1),
    offer!("title", title, Scalar, 0),
    offer!("tojson", tojson, Written, 0),
    offer!("trim", trim, Scalar, 1),
    offer!("unique", unique, Any, 0),
    offer!("upper", upper, Scalar, 0),
    offer!("urlencode", urlencode, Written, 0),
];

/// One test of the engine's that neither copies nor writes out what it looks at.
struct OfferedTest {
    name: &'static str,
    engine: fn(&mut Environment<'static>),
}

macro_rules! offer_test {
    ($name:literal, $function:ident) => {
        OfferedTest { name: $name, engine: |env| env.add_test($name, engine_tests::$function) }
    };
}

const OFFERED_TESTS: &[OfferedTest] = &[
    offer_test!("defined", is_defined),
    offer_test!("undefined", is_undefined),
    offer_test!("none", is_none),
    offer_test!("boolean", is_boolean),
    offer_test!("odd", is_odd),
    offer_test!("even", is_even),
    offer_test!("divisibleby", is_divisibleby),
    offer_test!("number", is_number),
    offer_test!("integer", is_integer),
    offer_test!("float", is_float),
    offer_test!("string", is_string),
    offer_test!("sequence", is_sequence),
    offer_test!("iterable", is_iterable),
    offer_test!("mapping", is_mapping),
    offer_test!("true", is_true),
    offer_test!("false", is_false),
    offer_test!("eq", is_eq),
    offer_test!("equalto", is_eq),
    offer_test!("ne", is_ne),
    offer_test!("lt", is_lt),
    offer_test!("lessthan", is_lt),
    offer_test!("le", is_le),
    offer_test!("gt", is_gt),
    offer_test!("greaterthan", is_gt),
    offer_test!("ge", is_ge),
    offer_test!("lower", is_lower),
    offer_test!("upper", is_upper),
    OfferedTest { name: "startingwith", engine: |env| env.add_test("startingwith", starts_with) },
    OfferedTest { name: "endingwith", engine: |env| env.add_test("endingwith", ends_with) },
];

/// Whether templates may use the filter.
pub(super) fn is_offered(name: &str) -> bool {
    OFFERED.iter().any(|offered| offered.name == name)
}

/// Whether templates may use the test.
pub(super) fn is_offered_test(name: &str) -> bool {
    OFFERED_TESTS.iter().any(|offered| offered.name == name)
}

/// Adds the filters, tests and functions to an environment that has none.
pub(super) fn install(env: &mut Environment<'static>) {
    for offer in OFFERED {
        let engine = offer.engine.map(|make| make());
        env.add_filter(offer.name, move |state: &mut State, given: Rest<ValueOrKwargs>| {
            metered(offer, engine.as_ref(), state, &given.into_values())
        });
    }
    env.add_filter("pr_concat", concat);
    env.add_filter("pr_plus", plus);
    env.add_filter("pr_times", times);
    env.add_filter("pr_measured", measured);
    env.add_filter("pr_members", members);
    env.add_function("range", minijinja::functions::range);
    for offered in OFFERED_TESTS {
        (offered.engine)(env);
    }
}

/// What the meter still allows in this part of this mail.
struct Meter {
    left: usize,
}

fn charge(state: &mut State, bytes: usize) -> Result<(), Error> {
    let meter = state.get_or_insert_extension_with(|| Meter { left: MAX_WORK });
    match meter.left.checked_sub(bytes) {
        Some(left) => {
            meter.left = left;
            Ok(())
        }
        None => Err(Error::new(
            ErrorKind::OutOfFuel,
            format!("filters work on more than {MAX_WORK} bytes for one mail"),
        )),
    }
}

fn metered(
    offer: &Offer,
    engine: Option<&Value>,
    state: &mut State,
    args: &[Value],
) -> Result<Value, Error> {
    let name = offer.name;
    let by_position = args.iter().skip(1).filter(|arg| !arg.is_kwargs()).count();
    if by_position > offer.args {
        return Err(wrong(format!("{name} takes at most {} arguments", offer.args)));
    }
    if !matches!(name, "default" | "d") {
        args.iter().try_for_each(defined)?;
    }
    let subject = args.first().ok_or_else(|| wrong(format!("{name} needs a value")))?;
    match offer.input {
        Input::Scalar => scalar(name, subject)?,
        Input::Written => charge(state, depth_of(subject)?)?,
        Input::Any => {}
    }
    let cost = args.iter().map(cost_of).sum::<usize>() + VALUE_COST;
    charge(state, cost)?;
    match (name, args) {
        // Only html has anything to escape; the text made from it shares its tags.
        ("e" | "escape", [text]) if *state.auto_escape() == AutoEscape::None => {
            return Ok(text.clone());
        }
        ("replace", [text, from, to]) => {
            scalar(name, from)?;
            scalar(name, to)?;
            bounded_replace(text, from, to)?;
        }
        ("format", [pattern, values @ ..]) => {
            bounded_pattern(pattern)?;
            values.iter().try_for_each(|value| scalar(name, value))?;
        }
        ("batch" | "slice", [_, count, ..])
            if count.as_usize().is_none_or(|count| count > MAX_ROWS) =>
        {
            return Err(wrong(format!("{name} takes a number from 1 to {MAX_ROWS}")));
        }
        _ => {}
    }
    let value = match engine {
        Some(filter) => filter.call(state, args)?,
        None => join(args)?,
    };
    if value.as_str().is_some_and(|text| text.len() > MAX_TEXT) {
        return Err(too_long());
    }
    charge(state, cost_of(&value))?;
    Ok(value)
}

/// `left ~ right`.
fn concat(state: &mut State, left: &Value, right: &Value) -> Result<Value, Error> {
    scalar("~", left)?;
    scalar("~", right)?;
    let mut text = Bounded(String::new());
    text.push(left)?;
    text.push(right)?;
    charge(state, text.0.len() + VALUE_COST)?;
    Ok(Value::from(text.0))
}

/// `left + right`: numbers, or two texts.
fn plus(state: &mut State, left: &Value, right: &Value) -> Result<Value, Error> {
    if left.as_str().is_some() && right.as_str().is_some() {
        return concat(state, left, right);
    }
    arithmetic("+", left, right, i64::checked_add, |a, b| a + b)
}

/// `left * right`: numbers only.
fn times(left: &Value, right: &Value) -> Result<Value, Error> {
    arithmetic("*", left, right, i64::checked_mul, |a, b| a * b)
}

fn arithmetic(
    sign: &str,
    left: &Value,
    right: &Value,
    whole: fn(i64, i64) -> Option<i64>,
    real: fn(f64, f64) -> f64,
) -> Result<Value, Error> {
    defined(left)?;
    defined(right)?;
    if let Some(value) = left.as_i64().zip(right.as_i64()).and_then(|(a, b)| whole(a, b)) {
        return Ok(Value::from(value));
    }
    let number = |value: &Value| {
        if value.is_number() {
            return f64::try_from(value.clone());
        }
        let kind = value.kind();
        Err(wrong(format!(
            "{sign} needs numbers and found a {kind}; a text becomes one by |float or |int"
        )))
    };
    Ok(Value::from(real(number(left)?, number(right)?)))
}

/// A list or map literal, once its size is known to be sane.
fn measured(state: &mut State, value: Value) -> Result<Value, Error> {
    charge(state, depth_of(&value)?)?;
    Ok(value)
}

/// The right side of `in`.
fn members(value: Value) -> Result<Value, Error> {
    defined(&value)?;
    match value.kind() {
        ValueKind::String => Err(wrong(
            "in looks into lists and maps; to look into a text, write what is looked for in quotes",
        )),
        _ => Ok(value),
    }
}

fn join(args: &[Value]) -> Result<Value, Error> {
    let keyword = |name: &str| {
        args.last().filter(|arg| arg.is_kwargs()).map(|kwargs| kwargs.get_attr(name)).transpose()
    };
    let given = |at: usize| args.get(at).filter(|arg| !arg.is_kwargs()).cloned();
    let separator = given(1).or(keyword("d")?).filter(|value| !value.is_undefined());
    let attribute = given(2).or(keyword("attribute")?).filter(|value| !value.is_undefined());
    let mut text = Bounded(String::new());
    for (n, item) in args[0].try_iter()?.enumerate() {
        if let Some(separator) = separator.as_ref().filter(|_| n > 0) {
            text.push(separator)?;
        }
        let item = match attribute.as_ref().and_then(Value::as_str) {
            Some(path) => path.split('.').try_fold(item, |item, name| item.get_attr(name))?,
            None => item,
        };
        scalar("join", &item)?;
        text.push(&item)?;
    }
    Ok(Value::from(text.0))
}

/// A text that stops growing at [`MAX_TEXT`].
struct Bounded(String);

impl Bounded {
    fn push(&mut self, value: &Value) -> Result<(), Error> {
        match value.as_str() {
            Some(text) if self.0.len() + text.len() <= MAX_TEXT => self.0.push_str(text),
            Some(_) => return Err(too_long()),
            None => write!(self.0, "{value}").map_err(Error::from)?,
        }
        Ok(())
    }
}

fn bounded_replace(text: &Value, from: &Value, to: &Value) -> Result<(), Error> {
    let (text, from, to) = (text.to_string(), from.to_string(), to.to_string());
    let found = text.matches(from.as_str()).count();
    match found.checked_mul(to.len()).and_then(|grown| grown.checked_add(text.len())) {
        Some(len) if len <= MAX_TEXT => Ok(()),
        _ => Err(too_long()),
    }
}

/// A pattern of `format` cannot ask for more than two digits of width or precision.
fn bounded_pattern(pattern: &Value) -> Result<(), Error> {
    let text = pattern.as_str().unwrap_or_default();
    let long_number = text.as_bytes().windows(3).any(|three| three.iter().all(u8::is_ascii_digit));
    if text.len() > 256 || long_number || text.contains('*') {
        return Err(wrong(
            "format takes a pattern of at most 256 bytes, widths below 100 and no *",
        ));
    }
    Ok(())
}

/// Refuses lists and maps where a text is made.
pub(super) fn scalar(what: &str, value: &Value) -> Result<(), Error> {
    defined(value)?;
    match value.kind() {
        ValueKind::Bool | ValueKind::Number | ValueKind::String | ValueKind::None => Ok(()),
        _ if value.is_kwargs() => Ok(()),
        kind => Err(wrong(format!("{what} needs a text or a number and found a {kind}"))),
    }
}

/// Refuses an undefined value, with its name.
fn defined(value: &Value) -> Result<(), Error> {
    if value.is_undefined() { value.get_attr("").map(|_| ()) } else { Ok(()) }
}

/// What it costs to pass a value on or look through its first level.
fn cost_of(value: &Value) -> usize {
    match value.as_str() {
        Some(text) => text.len(),
        None => value.len().unwrap_or(1).saturating_mul(VALUE_COST),
    }
}

/// Bytes of everything within a value, as if each were written out; stops counting
/// (and refuses) at [`MAX_LITERAL`].
fn depth_of(value: &Value) -> Result<usize, Error> {
    fn walk(value: &Value, left: &mut usize, level: usize) -> Result<(), Error> {
        let own = value.as_str().map_or(0, str::len) + VALUE_COST;
        *left = left
            .checked_sub(own)
            .filter(|_| level < 64)
            .ok_or_else(|| wrong(format!("a list or map reaches more than {MAX_LITERAL} bytes")))?;
        match value.kind() {
            ValueKind::Map => {
                for key in value.try_iter()? {
                    walk(&key, left, level + 1)?;
                    walk(&value.get_item(&key)?, left, level + 1)?;
                }
                Ok(())
            }
            ValueKind::Seq | ValueKind::Iterable => {
                value.try_iter()?.try_for_each(|item| walk(&item, left, level + 1))
            }
            _ => Ok(()),
        }
    }
    let mut left = MAX_LITERAL;
    walk(value, &mut left, 0)?;
    Ok(MAX_LITERAL - left)
}

fn starts_with(text: &Value, start: &Value) -> Result<bool, Error> {
    scalar("startingwith", text)?;
    scalar("startingwith", start)?;
    Ok(text.to_string().starts_with(&start.to_string()))
}

fn ends_with(text: &Value, end: &Value) -> Result<bool, Error> {
    scalar("endingwith", text)?;
    scalar("endingwith", end)?;
    Ok(text.to_string().ends_with(&end.to_string()))
}

fn wrong(detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, detail.into())
}

fn too_long() -> Error {
    wrong(format!("a text grows beyond {MAX_TEXT} bytes"))
}
