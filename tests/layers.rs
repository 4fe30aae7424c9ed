//! Imports go down the shelves only (docs/architecture.md): a folder may use what lies on a
//! lower shelf, and itself; never a neighbour, never what lies above.
//!
//! Looks at every path that begins with `crate::` under src/, in `use` and elsewhere, and at
//! `postrider::` in src/bin/. Comments and tests count too: what a test needs from above
//! belongs into tests/.

use std::fs;
use std::path::{Path, PathBuf};

/// The shelves, from the bottom. A part is on exactly one.
const SHELVES: [&[&str]; 9] = [
    &["domain"],
    &["config"],
    &["telemetry"],
    &["message", "reply", "feedback"],
    &["tenant"],
    &["queue", "throttle", "route", "bounce", "event", "health"],
    &["smtp", "provider", "sink", "cell", "webhook", "inbound", "callback"],
    &["worker", "maintenance", "api", "cli"],
    &["boot"],
];

/// What the bottom shelf may name (proptest in its tests).
const DOMAIN_CRATES: [&str; 5] = ["std", "core", "serde", "proptest", "super"];

#[test]
fn imports_go_down_only() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for file in rust_files(&root) {
        let text = fs::read_to_string(&file).expect("read");
        let inside = file.strip_prefix(&root).expect("below src");
        check(inside, &text, &mut wrong);
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_part_is_on_a_shelf() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for entry in fs::read_dir(root).expect("list src").flatten() {
        let name = entry.file_name().to_string_lossy().trim_end_matches(".rs").to_owned();
        assert!(
            name == "lib" || name == "bin" || shelf(&name).is_some(),
            "src/{name}: put it on a shelf in tests/layers.rs and docs/architecture.md"
        );
    }
}

#[test]
fn every_file_of_tests_is_run() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let named = fs::read_to_string(root.join("main.rs")).expect("read");
    for entry in fs::read_dir(root).expect("list tests").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(promise) = name.strip_suffix(".rs").filter(|name| *name != "main") else {
            continue;
        };
        let line = format!("mod {promise};");
        assert!(named.lines().any(|known| known == line), "tests/{name}: name it in tests/main.rs");
    }
}

fn check(file: &Path, text: &str, wrong: &mut Vec<String>) {
    let part = part_of(file);
    for (n, line) in text.lines().enumerate() {
        let mut complain = |what: String| {
            wrong.push(format!("src/{}:{}: {what}", file.display(), n + 1));
        };
        if part == "bin" {
            if line.contains("crate::") {
                complain("bin/ uses the library as `postrider::…`".into());
            }
            continue;
        }
        if part == "lib" {
            continue;
        }
        let Some(own) = shelf(&part) else { continue };
        if line.trim_end().ends_with("crate::{") {
            complain(
                "name one part of the crate in each `use`, so that this check can read it".into(),
            );
        }
        // Tests sit one module deeper, and are indented.
        if !line.starts_with(' ') && line.matches("super::").count() >= depth_of(file) {
            complain("reaches the crate's root by `super::`; write `crate::…`".into());
        }
        for used in parts_used(line) {
            match shelf(&used) {
                None => complain(format!("crate::{used}: on no shelf; lib.rs holds no code")),
                Some(_) if used == part => {}
                Some(other) if other > own => complain(format!(
                    "{part} (shelf {own}) uses {used} (shelf {other}): imports go down only"
                )),
                Some(other) if other == own => complain(format!(
                    "{part} uses {used} on the same shelf {own}: move what they share down, or what combines them up"
                )),
                Some(_) => {}
            }
        }
        if part == "domain"
            && let Some(used) = line.trim_start().strip_prefix("use ")
        {
            let root = used.split([':', ';', ' ']).next().unwrap_or_default();
            if root != "crate" && !DOMAIN_CRATES.contains(&root) {
                complain(format!("domain uses {root}: only std and serde on the bottom shelf"));
            }
        }
    }
}

/// `queue` for queue/claim.rs, `boot` for boot.rs.
fn part_of(file: &Path) -> String {
    let first = file.components().next().expect("a path").as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// How many `super` lead from a file's module to the root.
fn depth_of(file: &Path) -> usize {
    file.components().count() - usize::from(file.ends_with("mod.rs"))
}

fn shelf(part: &str) -> Option<usize> {
    SHELVES.iter().position(|parts| parts.contains(&part))
}

/// The parts that a line names after `crate::`, also in `crate::{a::B, c}`.
fn parts_used(line: &str) -> Vec<String> {
    let mut parts = Vec::new();
    for (at, _) in line.match_indices("crate::") {
        // `in crate::x` of a visibility is not a use; `$crate::` is another matter.
        if line[..at].ends_with('$') || line[..at].ends_with("in ") {
            continue;
        }
        let rest = &line[at + "crate::".len()..];
        let names: Vec<&str> = match rest.strip_prefix('{') {
            Some(group) => top_level(group),
            None => vec![rest],
        };
        for name in names {
            let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let name = &name[..end.unwrap_or(name.len())];
            if !name.is_empty() {
                parts.push(name.to_owned());
            }
        }
    }
    parts
}

/// `a::{b, c}, d}` → `a::{b, c}`, `d`.
fn top_level(group: &str) -> Vec<&str> {
    let (mut depth, mut from, mut items) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                items.push(group[from..at].trim());
                return items;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                items.push(group[from..at].trim());
                from = at + 1;
            }
            _ => {}
        }
    }
    items.push(group[from..].trim());
    items
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("list").flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

// --- the check checks ----------------------------------------------------------------

#[test]
fn a_wrong_import_is_named_with_file_and_line() {
    let complaints = |file: &str, text: &str| {
        let mut wrong = Vec::new();
        check(Path::new(file), text, &mut wrong);
        wrong
    };
    let up = complaints("config/load.rs", "//! x\nuse crate::queue::claim;\n");
    assert_eq!(
        up,
        ["src/config/load.rs:2: config (shelf 1) uses queue (shelf 5): imports go down only"]
    );
    assert_eq!(complaints("queue/claim.rs", "let x = crate::route::plan::X;").len(), 1);
    assert_eq!(
        complaints("queue/claim.rs", "use crate::{domain::ids::{A, B}, api::x, smtp};").len(),
        2
    );
    assert_eq!(complaints("domain/ids.rs", "use sqlx::Row;").len(), 1);
    assert_eq!(complaints("bin/postrider.rs", "use crate::boot;").len(), 1);
    assert_eq!(complaints("config/load.rs", "use super::super::queue;").len(), 1);
    assert_eq!(complaints("config/mod.rs", "use super::queue;").len(), 1);
    assert_eq!(complaints("config/load.rs", "use crate::{").len(), 1);
    assert!(complaints("boot.rs", "    use super::*;").is_empty());
    assert!(
        complaints("worker/pump.rs", "use crate::queue::claim;\nuse crate::worker::slots;")
            .is_empty()
    );
    assert!(complaints("config/x.rs", "pub(in crate::config) fn read() {}").is_empty());
    assert!(complaints("domain/ids.rs", "use std::fmt;\nuse serde::Serialize;").is_empty());
}
