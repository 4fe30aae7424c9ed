//! What a single delivery adds to its message: the JSON in `job.payload`.

use std::fmt;

use minijinja::Value;
use serde::Deserialize;

use super::fault::FieldError;
use super::mailbox::Mailbox;

/// One recipient's own part, read.
#[derive(Clone, Default)]
pub struct DeliveryPayload {
    /// The recipient's variables: a map, or undefined when there are none.
    pub(crate) vars: Value,
    /// What the To header shows; the envelope's recipient when absent.
    pub(crate) to: Option<Mailbox>,
    /// What the Cc header shows.
    pub(crate) cc: Vec<Mailbox>,
}

/// Most bytes of one payload (64 KiB): it is read once per attempt.
pub const MAX_PAYLOAD: usize = 64 << 10;

/// Most addresses in Cc: more belong into recipients of their own.
pub const MAX_CC: usize = 50;

#[derive(Deserialize)]
struct Stored {
    #[serde(default)]
    vars: Option<Value>,
    #[serde(default)]
    to: Option<String>,
    #[serde(default)]
    cc: Vec<String>,
}

impl DeliveryPayload {
    /// Reads the stored JSON; `None` is a delivery without anything of its own.
    pub fn read(json: Option<&str>) -> Result<Self, FieldError> {
        let Some(json) = json else { return Ok(Self::default()) };
        if json.len() > MAX_PAYLOAD {
            let reason = format!("expected at most {MAX_PAYLOAD} bytes, found {}", json.len());
            return Err(FieldError::new("payload", reason));
        }
        let stored: Stored =
            serde_json::from_str(json).map_err(|error| FieldError::new("payload", error))?;
        let vars = stored.vars.filter(|vars| !vars.is_none()).unwrap_or_default();
        if !vars.is_undefined() && vars.kind() != minijinja::value::ValueKind::Map {
            let reason = format!("expected an object, found a {}", vars.kind());
            return Err(FieldError::new("vars", reason));
        }
        if stored.cc.len() > MAX_CC {
            let reason = format!("expected at most {MAX_CC} addresses, found {}", stored.cc.len());
            return Err(FieldError::new("cc", reason));
        }
        let to = stored
            .to
            .map(|to| to.parse().map_err(|error| FieldError::new("to", error)))
            .transpose()?;
        let cc = stored
            .cc
            .iter()
            .enumerate()
            .map(|(n, cc)| cc.parse().map_err(|error| FieldError::new(format!("cc[{n}]"), error)))
            .collect::<Result<_, _>>()?;
        Ok(Self { vars, to, cc })
    }
}

impl fmt::Debug for DeliveryPayload {
    /// Variables and addresses are a person's and stay out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "DeliveryPayload({} variables, {} cc)",
            self.vars.len().unwrap_or(0),
            self.cc.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_are_optional() {
        for json in [None, Some("{}"), Some(r#"{"vars":null,"to":null}"#), Some(r#"{"later":1}"#)] {
            let payload = DeliveryPayload::read(json).expect("readable");
            assert!(payload.vars.is_undefined() && payload.to.is_none() && payload.cc.is_empty());
        }
        let json = r#"{"vars":{"a":[1,{"b":2}]},"to":"Jane <j@x.example>","cc":["k@x.example"]}"#;
        let payload = DeliveryPayload::read(Some(json)).expect("readable");
        assert_eq!(payload.to.expect("a name").name(), Some("Jane"));
        assert_eq!(payload.cc.len(), 1);
    }

    #[test]
    fn faults_name_their_field() {
        let many = format!("{{\"cc\":[{}]}}", vec!["\"a@x.example\""; MAX_CC + 1].join(","));
        let deep = format!("{{\"vars\":{}1{}}}", "[".repeat(4_000), "]".repeat(4_000));
        let large = format!("{{\"vars\":{{\"a\":\"{}\"}}}}", "x".repeat(MAX_PAYLOAD));
        for (json, field) in [
            ("[", "payload"),
            ("\"\"", "payload"),
            (r#"{"vars":[1]}"#, "vars"),
            (r#"{"vars":"x"}"#, "vars"),
            (r#"{"to":"x"}"#, "to"),
            (r#"{"to":"a@x.example\r\nBcc: b@x.example"}"#, "to"),
            (r#"{"cc":["a@x.example","b"]}"#, "cc[1]"),
            (&many, "cc"),
            (&deep, "payload"),
            (&large, "payload"),
        ] {
            let error = DeliveryPayload::read(Some(json)).expect_err("refused");
            assert_eq!(error.field, field, "{error}");
        }
    }
}
