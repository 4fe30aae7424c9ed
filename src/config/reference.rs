//! The reference of all keys: what the code asks for, with the words of the shipped file.
//!
//! The shipped file explains every key; the sections know what each may hold and what holds
//! otherwise. Here both come together, so that neither can be forgotten: a key that the
//! file does not explain, or explains although nobody asks for it, is an error of
//! `tests/config_reference.rs`.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::asked::Asked;
use super::fault::ConfigError;
use super::load::survey_of;
use super::reload::applies_live;

/// The configuration as shipped.
const SHIPPED: &str = include_str!("../../config/postrider.toml");

/// One key of the reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its section, without brackets: `queue`, `route[]`, `stream.bulk`.
    pub section: String,
    /// Its name.
    pub key: String,
    /// What holds when nobody says; `None`: nothing, or the key must be there.
    pub default: Option<String>,
    /// What it may hold; `None`: nobody asks for it.
    pub expected: Option<String>,
    /// What it is for; empty: the shipped file does not say.
    pub words: String,
}

/// Every key that the sections ask for.
pub(super) fn surveyed() -> Result<Vec<Asked>, ConfigError> {
    survey_of(&read(SHIPPED).text)
}

/// All keys, in the order of the shipped file.
pub fn entries() -> Result<Vec<Entry>, ConfigError> {
    let told = read(SHIPPED);
    let mut asked = BTreeMap::new();
    for key in survey_of(&told.text)? {
        asked.entry(key.general()).or_insert(key);
    }
    let mut entries = Vec::new();
    for mut entry in told.entries {
        let path = format!("{}.{}", entry.section, entry.key);
        // Of an inline table, or of a list of them.
        let inner = [format!("{path}."), format!("{path}[].")];
        let is_inner = |key: &str| inner.iter().any(|inner| key.starts_with(inner));
        match asked.remove(&path) {
            Some(found) => {
                entry.expected = Some(found.expected);
                // An example is no default.
                let is_optional = is_optional(&entry.key, &entry.words);
                entry.default = found.default.or(entry.default).filter(|_| !is_optional);
                entries.push(entry);
            }
            // Its own keys were asked for.
            None if asked.keys().any(|key| is_inner(key)) => {
                let keys: Vec<String> = asked.keys().filter(|key| is_inner(key)).cloned().collect();
                for found in keys.iter().filter_map(|key| asked.remove(key)) {
                    let name = found.key.rsplit('.').next().unwrap_or_default();
                    entries.push(Entry {
                        key: format!("{}.{name}", entry.key),
                        default: found.default,
                        expected: Some(found.expected),
                        ..entry.clone()
                    });
                }
            }
            None => entries.push(entry),
        }
    }
    // What nobody explained.
    for (path, found) in asked {
        let (section, key) = path.rsplit_once('.').unwrap_or(("", &path));
        entries.push(Entry {
            section: section.to_owned(),
            key: key.to_owned(),
            default: found.default,
            expected: Some(found.expected),
            words: String::new(),
        });
    }
    Ok(entries)
}

/// docs/config.md.
pub fn markdown() -> Result<String, ConfigError> {
    let mut page = String::from(
        "# Configuration\n\n\
         Made by `postrider config reference`; `make test` fails when it is stale. The file with the \
         same words is [config/postrider.toml](../config/postrider.toml). Every key can be set by a \
         variable, which wins over the file: `POSTRIDER__QUEUE__CLAIM_BATCH=200`. What applies *at \
         once* changes with `postrider reload` or SIGHUP; the rest waits for a restart.\n",
    );
    let mut section = None;
    for entry in entries()? {
        if section.as_ref() != Some(&entry.section) {
            let live = if applies_live(&entry.section) { "at once" } else { "after a restart" };
            let title = match entry.section.strip_suffix("[]") {
                Some(list) => format!("[[{list}]]"),
                None => format!("[{}]", entry.section),
            };
            let _ = write!(
                page,
                "\n## `{title}`\n\nApplies {live}.\n\n| key | default | may be | what |\n|---|---|---|---|\n"
            );
            section = Some(entry.section.clone());
        }
        let cell = |text: &str| text.replace('|', "\\|");
        let default = entry.default.map_or_else(String::new, |text| format!("`{text}`"));
        let mut words = cell(&entry.words);
        if entry.section == "log" && applies_live(&format!("log.{}", entry.key)) {
            words.push_str(" Applies at once.");
        }
        let expected = entry.expected.as_deref().unwrap_or("(nobody asks for it)");
        let _ = writeln!(page, "| `{}` | {default} | {} | {words} |", entry.key, cell(expected));
    }
    Ok(page)
}

/// What a line begins with that goes on with the comment beside a key.
const BESIDE: &str = "          ";

/// What the shipped file says.
struct Told {
    entries: Vec<Entry>,
    /// The file with every key and section in it that is only shown there.
    text: String,
}

fn read(shipped: &str) -> Told {
    let mut told = Told { entries: Vec::new(), text: String::new() };
    let (mut section, mut example) = (String::new(), false);
    let mut words: Vec<&str> = Vec::new();
    let mut group: Vec<&str> = Vec::new();
    // Whether the last key has its comment beside it, which may go on below.
    let mut goes_on = false;
    // Keys of the table at hand: a key may be shown in two ways.
    let mut seen: Vec<&str> = Vec::new();
    for line in shipped.lines() {
        let (bare, commented) = match line.strip_prefix("# ") {
            Some(rest) => (rest, true),
            None => (line, false),
        };
        if let Some(name) = header(bare) {
            (section, example) = (name, commented);
            words.clear();
            group.clear();
            seen.clear();
            goes_on = false;
            told.text.push_str(bare);
        } else if let Some((key, value, beside)) = setting(bare) {
            // One comment may stand before several keys.
            if !words.is_empty() {
                group = std::mem::take(&mut words);
            }
            let mut all = group.join(" ");
            if let Some(beside) = beside {
                beside.clone_into(&mut all);
            }
            let known = told.entries.iter().any(|e: &Entry| e.section == section && e.key == key);
            goes_on = beside.is_some() && !known;
            if !known {
                told.entries.push(Entry {
                    section: section.clone(),
                    key: key.to_owned(),
                    default: (commented && !example).then(|| value.to_owned()),
                    expected: None,
                    words: all,
                });
            }
            if !seen.contains(&key) {
                seen.push(key);
                told.text.push_str(bare);
            }
        } else {
            match line.strip_prefix('#') {
                Some(comment) if goes_on && comment.starts_with(BESIDE) => {
                    if let Some(last) = told.entries.last_mut() {
                        last.words = format!("{} {}", last.words, comment.trim());
                    }
                }
                Some(comment) if !comment.trim().is_empty() => words.push(comment.trim()),
                _ => {
                    words.clear();
                    group.clear();
                    goes_on = false;
                }
            }
            told.text.push_str(line);
        }
        told.text.push('\n');
    }
    told
}

/// Whether the key may be left out without a value in its place: what is shown is an example.
fn is_optional(key: &str, words: &str) -> bool {
    key.ends_with("_file") || words.contains("left out") || words.contains("absent")
}

/// The path of a section's header.
fn header(line: &str) -> Option<String> {
    let line = line.trim_end();
    let is_path = |path: &str| {
        !path.is_empty() && path.bytes().all(|b| b.is_ascii_lowercase() || b"_.".contains(&b))
    };
    if let Some(path) = line.strip_prefix("[[").and_then(|rest| rest.strip_suffix("]]")) {
        return is_path(path).then(|| format!("{path}[]"));
    }
    let path = line.strip_prefix('[')?.strip_suffix(']')?;
    is_path(path).then(|| path.to_owned())
}

/// Key, value, and the comment beside them.
fn setting(line: &str) -> Option<(&str, &str, Option<&str>)> {
    let (key, rest) = line.split_once(" = ")?;
    let is_key = key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') && !key.is_empty();
    let (value, beside) = match rest.split_once("  #") {
        Some((value, beside)) => (value.trim_end(), Some(beside.trim())),
        None => (rest.trim_end(), None),
    };
    is_key.then_some((key, value, beside))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_defaults_and_examples_are_told_apart() {
        let told = read(
            "[a]\n# What it is.\n# one = 1\n# two = 2   # beside\n#             it\n\n# [[b]]\n# three = 3\n",
        );
        let facts: Vec<_> = told
            .entries
            .iter()
            .map(|e| (&*e.section, &*e.key, e.default.as_deref(), &*e.words))
            .collect();
        let expected = [
            ("a", "one", Some("1"), "What it is."),
            ("a", "two", Some("2"), "beside it"),
            ("b[]", "three", None, ""),
        ];
        assert_eq!(facts, expected);
        assert_eq!(
            told.text,
            "[a]\n# What it is.\none = 1\ntwo = 2   # beside\n#             it\n\n[[b]]\nthree = 3\n"
        );
    }
}
