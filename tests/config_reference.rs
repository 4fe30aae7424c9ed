//! Promise: every key that the code asks for is explained in the shipped file and in
//! docs/config.md, and nothing else is.

use std::fs;
use std::path::Path;

use crate::support::command::{bare, ran};
use postrider::config::reference::{entries, markdown};

#[test]
fn every_key_is_explained_and_asked_for() {
    let entries = entries().expect("the shipped file is sound");
    assert!(entries.len() > 80, "{}", entries.len());
    let idle: Vec<_> = entries.iter().filter(|entry| entry.expected.is_none()).collect();
    assert!(idle.is_empty(), "in config/postrider.toml, and nobody asks for it: {idle:#?}");
    // Sections that repeat another one are explained there.
    let repeats = |section: &str| ["cell[]", "stream.bulk"].contains(&section);
    let mute: Vec<_> = entries
        .iter()
        .filter(|entry| entry.words.is_empty() && !repeats(&entry.section))
        .map(|entry| format!("{}.{}", entry.section, entry.key))
        .collect();
    assert!(mute.len() < entries.len() / 2, "{mute:#?}");
}

#[test]
fn the_page_is_up_to_date() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/config.md");
    let found = fs::read_to_string(&page).unwrap_or_default();
    let made = markdown().expect("the shipped file is sound");
    assert!(found == made, "stale: run postrider config reference > docs/config.md");
}

#[test]
fn what_is_in_force_is_shown_with_its_origin_and_without_secrets() {
    let folder = tempfile::tempdir().expect("folder");
    let (path, other) = (folder.path().join("p.toml"), folder.path().join("q.toml"));
    let file = |n: u32, level: &str| {
        format!(
            "[database]\nurl = \"postgres://me@db.example/x\"\n[queue]\nclaim_batch = {n}\n[log]\nlevel = \"{level}\"\n"
        )
    };
    fs::write(&path, file(77, "warn")).expect("write");
    fs::write(&other, file(78, "debug")).expect("write");
    let path = path.to_str().expect("UTF-8");
    let show = |args: &[&str]| {
        let mut command = bare(&[&["config"], args, &["--config", path]].concat());
        ran(&command.env("POSTRIDER__API__MAX_RECIPIENTS", "5").output().expect("run"))
    };
    let shown = show(&["show", "--effective"]);
    assert_eq!(shown.code, 0, "{}", shown.err);
    let line = |key: &str| {
        let found = shown.out.lines().find(|line| line.starts_with(&format!("{key} ")));
        found.unwrap_or_else(|| panic!("{key} in {}", shown.out)).to_owned()
    };
    assert!(line("queue.claim_batch").contains("77"));
    assert!(line("queue.claim_batch").contains("p.toml:4"));
    assert!(line("api.max_recipients").contains("POSTRIDER__API__MAX_RECIPIENTS"));
    assert!(line("queue.settle_batch").contains("default"));
    assert!(line("database.url").contains("(not shown)"));
    assert!(!shown.out.contains("db.example"));

    let differs = show(&["diff", other.to_str().expect("UTF-8")]);
    assert_eq!(differs.code, 1, "{}", differs.out);
    assert!(differs.out.contains("log.level: \"warn\" -> \"debug\" (at once)"), "{}", differs.out);
    let waits = "queue.claim_batch: 77 -> 78 (after a restart)";
    assert!(differs.out.contains(waits), "{}", differs.out);
    assert_eq!(show(&["diff", path]).code, 0);
}
