//! Promise: the container image can be built from what it is given, and its Quadlet units are
//! understood. That the image runs is shown by `scripts/container.sh`.

use std::fs;
use std::path::{Component, Path, PathBuf};

/// Keys of `[Container]` that Podman 4.4, the first with Quadlet, knows and we use. A unit with a
/// key that is unknown is refused as a whole; what came later is said by `PodmanArgs`.
const KEYS: [&str; 11] = [
    "ContainerName",
    "DropCapability",
    "Environment",
    "Exec",
    "Image",
    "Network",
    "NoNewPrivileges",
    "Notify",
    "PodmanArgs",
    "ReadOnly",
    "Volume",
];

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = project().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What the stage that compiles is given.
fn given() -> Vec<PathBuf> {
    let text = read("Containerfile");
    let stage = text.split("\nFROM ").find(|stage| stage.contains(" AS build")).expect("a stage");
    let copied = stage.lines().filter_map(|line| line.strip_prefix("COPY "));
    let mut given = Vec::new();
    for line in copied {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        words.pop();
        given.extend(words.iter().map(PathBuf::from));
    }
    assert!(given.contains(&PathBuf::from("src")), "{given:?}");
    given
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("list").flatten() {
        let path = entry.path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// A path without `..`, seen from the project.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        if part == Component::ParentDir {
            plain.pop();
        } else {
            plain.push(part);
        }
    }
    plain.strip_prefix(project()).expect("a path of the project").to_path_buf()
}

#[test]
fn the_builder_is_given_all_that_is_compiled_in() {
    let given = given();
    let mut files = Vec::new();
    rust_files(&project().join("src"), &mut files);
    let mut seen = 0;
    for file in files {
        let text = fs::read_to_string(&file).expect("read");
        let calls = text.split("include_str!(\"").chain(text.split("include_bytes!(\"").skip(1));
        for included in calls.skip(1).filter_map(|call| call.split('"').next()) {
            let path = plain(&file.parent().expect("a folder").join(included));
            let covered = given.iter().any(|given| path.starts_with(given));
            assert!(covered, "{}: {} is not copied", file.display(), path.display());
            seen += usize::from(!path.starts_with("src"));
        }
    }
    assert!(seen > 0, "nothing outside of src/ is compiled in any more: drop this test");
}

#[test]
fn nothing_of_it_is_held_back_from_the_build() {
    let kept = read(".containerignore");
    let kept: Vec<&str> = kept.lines().filter_map(|line| line.strip_prefix('!')).collect();
    for path in given() {
        let named = kept.iter().any(|kept| path.starts_with(kept));
        assert!(named, "{} is ignored by .containerignore", path.display());
    }
}

#[test]
fn the_quadlets_say_only_what_podman_understands() {
    for unit in ["postriderd", "postrider-api"] {
        let text = read(format!("systemd/quadlet/{unit}.container"));
        let section = text.split("[Container]").nth(1).expect("a section");
        let section = section.split("\n[").next().expect("its end");
        let lines = section.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        for line in lines {
            let (key, value) = line.split_once('=').expect("key=value");
            assert!(KEYS.contains(&key), "{unit}: {key} came after Podman 4.4");
            let into_run = value.contains("--secret") && !value.contains(",target=/etc/");
            assert!(!into_run, "{unit}: a read-only container has no /run/secrets: {value}");
        }
        for locked in ["ReadOnly=true", "DropCapability=all", "NoNewPrivileges=true"] {
            assert!(section.contains(locked), "{unit} lacks {locked}");
        }
        assert!(section.contains("--read-only-tmpfs=false"), "{unit} may write to /tmp");
    }
}
