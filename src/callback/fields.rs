//! Fields of JSON that somebody else writes: taken where they are, and bounded.

use serde_json::Value;

/// Longest text of a field that is used, in bytes.
const LONGEST: usize = 3 << 10;

/// The text at `path` (RFC 6901), numbers too; cut where it is too long.
pub(super) fn text(value: &Value, path: &str) -> Option<String> {
    let text = match value.pointer(path)? {
        Value::String(text) => cut(text).to_owned(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    (!text.trim().is_empty()).then_some(text)
}

/// The same in lower case; empty where there is none.
pub(super) fn word(value: &Value, path: &str) -> String {
    text(value, path).unwrap_or_default().to_ascii_lowercase()
}

/// An address as it is compared: bare, in lower case.
pub(super) fn address(value: &Value, path: &str) -> Option<String> {
    let text = text(value, path)?;
    let bare = text.rsplit_once('<').map_or(text.as_str(), |(_, rest)| rest);
    let bare = bare.trim().trim_end_matches('>').to_lowercase();
    bare.contains('@').then_some(bare)
}

/// The list at `path`, up to `most`.
pub(super) fn list<'v>(
    value: &'v Value,
    path: &str,
    most: usize,
) -> impl Iterator<Item = &'v Value> + use<'v> {
    value.pointer(path).and_then(Value::as_array).into_iter().flatten().take(most)
}

fn cut(text: &str) -> &str {
    let end = text.floor_char_boundary(LONGEST);
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_are_taken_as_they_are() {
        let value =
            json!({"a": {"b": " Ann <Ann@B.example> "}, "n": 550, "l": ["x"], "e": "", "z": null});
        assert_eq!(address(&value, "/a/b").as_deref(), Some("ann@b.example"));
        assert_eq!(text(&value, "/n").as_deref(), Some("550"));
        for missing in ["/e", "/z", "/l", "/a", "/nothing"] {
            assert_eq!(text(&value, missing), None, "{missing}");
        }
        let long = json!({"t": "ä".repeat(5_000)});
        assert!(text(&long, "/t").is_some_and(|text| text.len() <= LONGEST));
    }
}
