//! `postrider dev` from nothing to the sum, as a newcomer starts it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs::Permissions;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

/// A folder that Postgres's own user may enter, as a checkout is.
fn folder() -> TempDir {
    tempfile::Builder::new().permissions(Permissions::from_mode(0o755)).tempdir().unwrap()
}

/// The first of four free ports in a row, below those that the system gives out.
fn port_base() -> u16 {
    let start = 20_000 + u16::try_from(std::process::id() % 1_000).unwrap() * 8;
    (start..32_000)
        .step_by(4)
        .find(|base| (0..4).all(|n| TcpListener::bind(("127.0.0.1", base + n)).is_ok()))
        .unwrap()
}

fn dev(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_postrider"))
        .current_dir(folder)
        .args(["dev", "--exit", "--port-base", &port_base().to_string()])
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
fn every_recipient_of_a_campaign_comes_to_an_end_with_faults_and_without() {
    let folder = folder();
    for arguments in [&["--recipients", "300"][..], &["--recipients", "300", "--faults"]] {
        let ended = dev(folder.path(), arguments);
        let (said, wrong) =
            (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
        assert!(ended.status.success(), "{arguments:?}: {said}\n{wrong}");
        assert!(said.contains("adds up: every recipient came to an end"), "{said}");
        let left = folder.path().join("target/dev/postgres");
        let runs = std::fs::read_dir(left)
            .unwrap()
            .flatten()
            .any(|entry| entry.path().join("postmaster.pid").exists());
        assert!(!runs, "Postgres was left running");
    }
}

#[test]
fn a_port_that_is_taken_is_named_before_anything_starts() {
    let folder = folder();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let ended = Command::new(env!("CARGO_BIN_EXE_postrider"))
        .current_dir(folder.path())
        .args(["dev", "--exit", "--port-base", &port.to_string()])
        .output()
        .unwrap();
    let wrong = String::from_utf8_lossy(&ended.stderr);
    assert!(!ended.status.success());
    assert!(wrong.contains(&port.to_string()) && wrong.contains("--port-base"), "{wrong}");
    assert!(!folder.path().join("target/dev/postgres").exists());
}
