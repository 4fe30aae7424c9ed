//! Promises: every query of the dashboards and of the rules names metrics and labels that exist
//! (docs/metrics.md, which tests/metric_names.rs holds against the source), and every alert
//! leads to a page that says what to do and has a test.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::support::dashboards::{dashboards, queries, shipped};

/// Labels that Prometheus itself gives.
const OF_PROMETHEUS: [&str; 3] = ["job", "instance", "le"];

/// Metrics with their labels, as documented.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let page = fs::read_to_string(page).expect("read");
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| `")?.split('|');
        let name = cells.next()?.trim().trim_end_matches('`').to_owned();
        let labels = cells.next()?.split(',').map(|label| label.trim().to_owned());
        Some((name, labels.filter(|label| !label.is_empty()).collect()))
    };
    page.lines().filter_map(row).collect()
}

/// Names that rules record.
fn recorded() -> BTreeSet<String> {
    let rules = fs::read_to_string(shipped("prometheus/recording.rules.yml")).expect("read");
    let name = |line: &str| line.trim().strip_prefix("- record: ").map(ToOwned::to_owned);
    rules.lines().filter_map(name).collect()
}

/// Names of series in a text, each with the labels that it is matched by.
fn series(text: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("postrider") {
        let before = text[..at].chars().next_back();
        if before.is_some_and(|c| c.is_ascii_alphanumeric() || "_-/\".".contains(c)) {
            continue;
        }
        let rest = &text[at..];
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        let (name, rest) = rest.split_at(rest.find(|c| !is_name(c)).unwrap_or(rest.len()));
        let braces = rest.strip_prefix('{').and_then(|inner| inner.split('}').next());
        let labels = braces.unwrap_or_default().split(',').filter(|part| part.contains('='));
        let labels = labels.map(|part| part.split(['=', '!']).next().unwrap_or("").trim().into());
        if name.contains('_') || name.contains(':') {
            found.push((name.to_owned(), labels.collect()));
        }
    }
    found
}

fn complaints(of: &str, text: &str) -> Vec<String> {
    let (documented, recorded) = (documented(), recorded());
    let mut wrong = Vec::new();
    for (name, labels) in series(text) {
        if recorded.contains(&name) {
            continue;
        }
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let known = documented.get(&name).or_else(|| documented.get(base?));
        let Some(known) = known else {
            wrong.push(format!("{of}: there is no {name}"));
            continue;
        };
        for label in labels {
            if !known.contains(&label) && !OF_PROMETHEUS.contains(&&*label) {
                wrong.push(format!("{of}: {name} has no label {label}"));
            }
        }
    }
    wrong
}

#[test]
fn every_panel_names_what_exists() {
    let queries = queries();
    assert!(queries.len() > 60, "{}", queries.len());
    let wrong: Vec<_> = queries.iter().flat_map(|q| complaints(&q.of, &q.text)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn dashboards_have_names_of_their_own_and_panels_that_do_not_overlap() {
    let mut uids = BTreeSet::new();
    for (file, dashboard) in dashboards() {
        let uid = dashboard["uid"].as_str().expect("a uid");
        assert_eq!(format!("{uid}.json"), file);
        assert!(uids.insert(uid.to_owned()), "{uid} twice");
        let mut taken = BTreeSet::new();
        for panel in dashboard["panels"].as_array().expect("panels") {
            let at = |key: &str| panel["gridPos"][key].as_u64().expect("a number");
            assert!(at("x") + at("w") <= 24, "{file}: {}", panel["title"]);
            for cell in (at("x")..at("x") + at("w"))
                .flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y)))
            {
                assert!(taken.insert(cell), "{file}: {} lies on another", panel["title"]);
            }
        }
    }
}

#[test]
fn every_rule_names_what_exists() {
    for file in ["recording.rules.yml", "alerts.rules.yml"] {
        let rules = fs::read_to_string(shipped(&format!("prometheus/{file}"))).expect("read");
        let code = rules.lines().filter(|line| !line.trim().starts_with('#'));
        let code = code.filter(|line| !line.contains("name:") && !line.contains("docs/"));
        let code: String = code.flat_map(|line| [line, "\n"]).collect();
        let wrong = complaints(file, &code);
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

#[test]
fn every_alert_leads_to_a_page_and_has_a_test() {
    let rules = fs::read_to_string(shipped("prometheus/alerts.rules.yml")).expect("read");
    let tests = fs::read_to_string(shipped("prometheus/tests/alerts.yml")).expect("read");
    let mut alerts = 0;
    for rule in rules.split("- alert: ").skip(1) {
        let name = rule.lines().next().expect("a name").trim();
        alerts += 1;
        let page = rule.split("runbook: ").nth(1).and_then(|rest| rest.lines().next());
        let page = page.unwrap_or_else(|| panic!("{name} has no runbook")).trim();
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
        let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{name}: {page}: {e}"));
        assert!(text.contains(name), "{page} does not name {name}");
        // With and without: a test that only shows silence would hold for a rule that is broken.
        assert!(
            tests.contains(&format!("alertname: {name}\n        exp_alerts:\n")),
            "{name} has no test that shows it"
        );
    }
    assert!(alerts >= 20, "{alerts}");
}

#[test]
fn the_reader_of_queries_sees_names_and_labels() {
    let text = r#"sum by (le) (rate(postrider_claim_seconds_bucket{le="1",result!="x"}[5m])) > postrider:a:b"#;
    let expected = [
        ("postrider_claim_seconds_bucket".to_owned(), vec!["le".to_owned(), "result".to_owned()]),
        ("postrider:a:b".to_owned(), vec![]),
    ];
    assert_eq!(series(text), expected);
    assert!(series(r#"up{job="postriderd"} docs/postrider_x"#).is_empty());
    assert_eq!(complaints("x", "postrider_nothing").len(), 1);
    assert_eq!(complaints("x", r#"postrider_claim_seconds{tenant="a"}"#).len(), 1);
}
