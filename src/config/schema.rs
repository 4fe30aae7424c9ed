//! A JSON schema of the configuration, for editors (Taplo, Even Better TOML): made of what the
//! sections ask for, as the reference is, so that neither can lag behind the code.
//!
//! What the words of an expectation say exactly (a range, a choice, a unit) becomes a rule;
//! where they say more than a schema can, the text is only told, and `config check` finds it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::asked::Asked;
use super::fault::ConfigError;
use super::reference;
use super::reload::applies_live;

/// The schema (JSON Schema 2020-12).
pub fn schema() -> Result<Value, ConfigError> {
    let words: BTreeMap<String, (String, Option<String>)> = reference::entries()?
        .into_iter()
        .map(|entry| (format!("{}.{}", entry.section, entry.key), (entry.words, entry.default)))
        .collect();
    let mut root = table();
    for asked in reference::surveyed()? {
        let path = asked.general();
        // The reference names the keys of a list of inline tables without its brackets.
        let inline = path.rsplit_once("[].").map(|(list, key)| format!("{list}.{key}"));
        let told = words.get(&path).or_else(|| words.get(&inline?));
        let (words, default) = told.cloned().unwrap_or_default();
        put(&mut root, &path, leaf(&asked, &path, &words, default.as_deref()));
    }
    // Tenants may use any name of a stream.
    if let Some(streams) = root.pointer_mut("/properties/stream")
        && let Some(one) = streams.pointer("/properties/bulk").cloned()
    {
        *streams = json!({"type": "object", "additionalProperties": one});
    }
    let about = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "postrider",
        "description": "Configuration of postriderd, postrider-api and postrider",
    });
    let mut whole = Map::new();
    for part in [about, root] {
        whole.extend(part.as_object().cloned().unwrap_or_default());
    }
    Ok(whole.into())
}

fn table() -> Value {
    json!({"type": "object", "additionalProperties": false, "properties": {}})
}

/// Puts a key at `route[].name`, with the tables above it.
fn put(root: &mut Value, path: &str, leaf: Value) {
    let mut node = root;
    let mut parts = path.split('.').peekable();
    while let Some(part) = parts.next() {
        let Some(properties) = node.get_mut("properties").and_then(Value::as_object_mut) else {
            return;
        };
        if parts.peek().is_none() {
            properties.entry(part).or_insert(leaf);
            return;
        }
        node = match part.strip_suffix("[]") {
            Some(list) => {
                let list = properties
                    .entry(list)
                    .or_insert_with(|| json!({"type": "array", "items": table()}));
                let Some(items) = list.get_mut("items") else { return };
                items
            }
            None => properties.entry(part).or_insert_with(table),
        };
    }
}

fn leaf(asked: &Asked, path: &str, words: &str, default: Option<&str>) -> Value {
    let mut leaf = rule(&asked.expected);
    let when = if applies_live(path) { "at once" } else { "after a restart" };
    let words = if words.is_empty() { String::new() } else { format!("{words}\n\n") };
    let Some(fields) = leaf.as_object_mut() else { return leaf };
    let description = format!("{words}{}. Applies {when}.", capital(&asked.expected));
    fields.insert("description".into(), description.into());
    if let Some(default) = default.and_then(read) {
        fields.insert("default".into(), default);
    }
    leaf
}

/// What the words of an expectation allow.
fn rule(expected: &str) -> Value {
    let after = |start: &str| expected.strip_prefix(start);
    if expected == "true or false" {
        return json!({"type": "boolean"});
    }
    if let Some(range) = after("a whole number from ") {
        return ranged("integer", range);
    }
    if let Some(range) = after("a number from ") {
        return ranged("number", range);
    }
    if expected.starts_with("a duration from ") {
        return json!({"type": "string", "pattern": "^[0-9]+(ms|s|m|h|d)$"});
    }
    if expected.starts_with("a size like ") {
        return json!({"type": ["string", "integer"]});
    }
    if let Some(words) = after("one of ") {
        return json!({"enum": words.split(", ").collect::<Vec<_>>()});
    }
    if expected.starts_with("a list of mails") {
        return json!({"type": "array", "items": {"type": "integer", "minimum": 1}});
    }
    if expected.starts_with("a list, each ") {
        return json!({"type": "array", "items": {"type": "string"}});
    }
    if expected.contains(", or a list ") {
        return json!({"type": ["string", "array"], "items": {"type": "string"}});
    }
    json!({"type": "string"})
}

/// `1 to 100` of this type.
fn ranged(kind: &str, range: &str) -> Value {
    let bound = |text: &str| -> Option<Value> { serde_json::from_str(text).ok() };
    match range.split_once(" to ").map(|(least, most)| (bound(least), bound(most))) {
        Some((Some(least), Some(most))) => {
            json!({"type": kind, "minimum": least, "maximum": most})
        }
        _ => json!({"type": kind}),
    }
}

/// A default as the reference writes it, in JSON.
fn read(default: &str) -> Option<Value> {
    let table: toml::Table = format!("value = {default}").parse().ok()?;
    serde_json::to_value(table.get("value")?).ok()
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_rules() {
        let range = json!({"type": "integer", "minimum": 1, "maximum": 63});
        assert_eq!(rule("a whole number from 1 to 63"), range);
        assert_eq!(rule("a number from 0.5 to 0.99")["minimum"], 0.5);
        assert_eq!(rule("one of text, json"), json!({"enum": ["text", "json"]}));
        assert_eq!(rule("a list, each an address")["items"]["type"], "string");
        assert_eq!(rule("a URL like https://x"), json!({"type": "string"}));
    }

    #[test]
    fn keys_lie_in_their_tables() {
        let schema = schema().expect("the shipped file");
        let at = |path: &str| schema.pointer(path).unwrap_or_else(|| panic!("{path}"));
        assert_eq!(at("/properties/queue/properties/claim_batch/type"), "integer");
        assert_eq!(at("/properties/route/items/properties/port/maximum"), 65_535);
        assert_eq!(
            at("/properties/rule/items/properties/split/items/properties/weight/type"),
            "integer"
        );
        let retry = "/properties/stream/additionalProperties/properties/retry/properties/first";
        assert_eq!(at(retry)["pattern"], "^[0-9]+(ms|s|m|h|d)$");
        assert_eq!(at("/properties/traces/properties/ratio/default"), 0.01);
        assert!(schema.pointer("/properties/traces/properties/headers").is_none(), "a secret");
    }
}
