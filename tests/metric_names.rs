//! Metrics are a contract: what the source counts is described and documented, and nothing else is.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn what_is_counted_is_described_and_documented() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut counted, mut described) = (BTreeSet::new(), BTreeSet::new());
    for file in rust_files(&project.join("src")) {
        let text = fs::read_to_string(&file).expect("read");
        for kind in ["counter!(", "gauge!(", "histogram!("] {
            for (at, _) in text.match_indices(kind) {
                let Some(name) = literal(&text[at + kind.len()..]) else { continue };
                if text[..at].ends_with("describe_") {
                    described.insert(name);
                } else {
                    counted.insert(name);
                }
            }
        }
        if file.ends_with("telemetry/catalogue.rs") {
            described.extend(text.split('"').filter(|word| is_name(word)).map(ToOwned::to_owned));
        }
    }
    let page = fs::read_to_string(project.join("docs/metrics.md")).expect("read");
    let documented: BTreeSet<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .filter(|word| is_name(word))
        .map(ToOwned::to_owned)
        .collect();

    let nameless: Vec<_> = counted.difference(&described).collect();
    assert!(nameless.is_empty(), "counted, but not described: {nameless:?}");
    let idle: Vec<_> = described.difference(&counted).collect();
    assert!(idle.is_empty(), "described, but never counted: {idle:?}");
    let secret: Vec<_> = counted.difference(&documented).collect();
    assert!(secret.is_empty(), "counted, but not in docs/metrics.md: {secret:?}");
    let stale: Vec<_> = documented.difference(&counted).collect();
    assert!(stale.is_empty(), "in docs/metrics.md, but never counted: {stale:?}");
}

/// The text literal at the start of a macro's arguments.
fn literal(arguments: &str) -> Option<String> {
    let inner = arguments.trim_start().strip_prefix('"')?;
    inner.split('"').next().map(ToOwned::to_owned)
}

fn is_name(word: &str) -> bool {
    let plain = |rest: &str| rest.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    word.strip_prefix("postrider_").is_some_and(|rest| !rest.is_empty() && plain(rest))
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
    files
}
