//! The real `postrider`, run on a test's database.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::postgres::TestDb;

/// What a run of the tool left.
pub struct Ran {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// Runs the tool on `db` and waits for it.
pub fn postrider(db: &TestDb, args: &[&str]) -> Ran {
    ran(&command(&db.url(), args).output().expect("run postrider"))
}

/// The same with `--json`; it must succeed.
pub fn facts(db: &TestDb, args: &[&str]) -> Value {
    let ran = postrider(db, &[args, &["--json"]].concat());
    assert_eq!(ran.code, 0, "{args:?}: {}", ran.err);
    serde_json::from_str(&ran.out).expect("JSON on standard output")
}

/// The tool on a database of this address, with nothing of our environment but a key.
pub fn command(url: &str, args: &[&str]) -> Command {
    let mut command = bare(args);
    command.args(["--database-url", url]);
    command
}

/// The tool without a database.
pub fn bare(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postrider"));
    command.args(args).env_clear().env("POSTRIDER_KEY", KEY).stdin(Stdio::null());
    command
}

/// Reads what a process left.
pub fn ran(output: &Output) -> Ran {
    Ran {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// 32 bytes in base64: the key of the tests' installations.
pub const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
