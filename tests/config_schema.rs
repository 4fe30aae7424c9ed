//! Promise: the schema for editors knows every key of the reference, lets every shipped
//! configuration pass and refuses what the readers refuse.

use std::fs;
use std::path::Path;

use postrider::config::{reference, schema};
use serde_json::{Value, json};

/// What of `value` is not as `schema` says; as much of JSON Schema as ours needs.
fn faults(schema: &Value, value: &Value, at: &str, wrong: &mut Vec<String>) {
    let kinds: Vec<&str> = match &schema["type"] {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => vec![],
    };
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_i64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let fits = kinds.contains(&kind) || (kind == "integer" && kinds.contains(&"number"));
    if !kinds.is_empty() && !fits {
        wrong.push(format!("{at}: expected {kinds:?}, found {value}"));
    }
    if schema["enum"].as_array().is_some_and(|words| !words.contains(value)) {
        wrong.push(format!("{at}: {value} is none of the words"));
    }
    if let (Some(number), Some(most)) = (value.as_f64(), schema["maximum"].as_f64())
        && number > most
    {
        wrong.push(format!("{at}: {number} is above {most}"));
    }
    if let (Some(text), Some(pattern)) = (value.as_str(), schema["pattern"].as_str())
        && !regex::Regex::new(pattern).expect("a pattern").is_match(text)
    {
        wrong.push(format!("{at}: {text:?} does not match"));
    }
    for item in value.as_array().into_iter().flatten() {
        faults(&schema["items"], item, &format!("{at}[]"), wrong);
    }
    for (key, inner) in value.as_object().into_iter().flatten() {
        let at = format!("{at}.{key}");
        match (&schema["properties"][key], &schema["additionalProperties"]) {
            (Value::Null, Value::Bool(false)) => wrong.push(format!("{at}: unknown key")),
            (Value::Null, more) => faults(more, inner, &at, wrong),
            (known, _) => faults(known, inner, &at, wrong),
        }
    }
}

fn faults_of(toml: &str) -> Vec<String> {
    let table: toml::Table = toml.parse().expect("TOML");
    let schema = schema::schema().expect("the shipped file");
    let mut wrong = Vec::new();
    faults(&schema, &serde_json::to_value(table).expect("JSON"), "", &mut wrong);
    wrong
}

#[test]
fn the_shipped_schema_is_up_to_date() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/postrider.schema.json");
    let written = fs::read_to_string(file).expect("read");
    let written: Value = serde_json::from_str(&written).expect("JSON");
    let made = schema::schema().expect("the shipped file");
    assert!(written == made, "run: postrider config schema > config/postrider.schema.json");
}

#[test]
fn every_shipped_configuration_passes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    for name in ["postrider.toml", "dev.toml"] {
        let text = fs::read_to_string(folder.join(name)).expect("read");
        assert_eq!(faults_of(&text), Vec::<String>::new(), "{name}");
    }
    // With everything in it that is only shown.
    let shown = "[stream.news]\nretry = { first = \"2m\", factor = 1.8, cap = \"4h\" }\n\
        [[rule]]\ntenant = \"shop\"\nsplit = [{ route = \"ses\", weight = 3 }]\n\
        [[source]]\nname = \"a\"\nwarm_up = { starts = \"2026-12-01\", first_day = 50, growth = 1.5, until = 100000 }\n";
    assert_eq!(faults_of(shown), Vec::<String>::new());
}

#[test]
fn every_key_of_the_reference_is_known() {
    let schema = schema::schema().expect("the shipped file");
    for entry in reference::entries().expect("the shipped file") {
        let mut node = &schema;
        let path = format!("{}.{}", entry.section.replace("[]", ""), entry.key);
        for part in path.split('.') {
            let inner = if node["items"].is_object() { &node["items"] } else { node };
            let known = &inner["properties"][part];
            node = if known.is_null() { &inner["additionalProperties"] } else { known };
            assert!(node.is_object(), "{path}: {part} is not in the schema");
        }
        assert!(node["description"].is_string(), "{path}");
    }
}

#[test]
fn what_the_readers_refuse_is_refused() {
    for (bad, what) in [
        ("[queue]\nclaim_bach = 5\n", "unknown key"),
        ("[queue]\nclaim_batch = \"many\"\n", "expected"),
        ("[queue]\nclaim_batch = 100000000\n", "above"),
        ("[log]\nformat = \"xml\"\n", "none of the words"),
        ("[queue]\npoll_interval = \"5 minutes\"\n", "does not match"),
        ("[secrets]\nkey = \"MDEy\"\n", "unknown key"),
    ] {
        let wrong = faults_of(bad);
        assert!(wrong.len() == 1 && wrong[0].contains(what), "{bad}: {wrong:?}");
    }
    assert_eq!(json!(faults_of("[log]\nlevel = \"info\"\n")), json!([]));
}
