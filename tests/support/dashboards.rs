//! What is shipped for Prometheus and Grafana, as the tests read it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// One expression of a panel.
pub struct Query {
    /// Dashboard and panel.
    pub of: String,
    /// The expression.
    pub text: String,
}

/// A path below config/.
pub fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(path)
}

/// The dashboards' files with their content.
pub fn dashboards() -> Vec<(String, Value)> {
    let folder = fs::read_dir(shipped("grafana/dashboards")).expect("list");
    let mut all: Vec<(String, Value)> = folder
        .flatten()
        .map(|entry| {
            let text = fs::read_to_string(entry.path()).expect("read");
            let name = entry.file_name().to_string_lossy().into_owned();
            let content = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
            (name, content)
        })
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

/// Every expression of every panel.
pub fn queries() -> Vec<Query> {
    let mut all = Vec::new();
    for (file, dashboard) in dashboards() {
        for panel in dashboard["panels"].as_array().expect("panels") {
            let title = panel["title"].as_str().expect("a title");
            for target in panel["targets"].as_array().into_iter().flatten() {
                let text = target["expr"].as_str().expect("an expression").to_owned();
                all.push(Query { of: format!("{file}: {title}"), text });
            }
        }
    }
    all
}
