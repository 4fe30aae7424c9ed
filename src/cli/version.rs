//! `postrider version`.

use super::error::CliError;
use super::print::Answer;
use crate::queue::migrate;

/// Runs the command.
pub fn run() -> Result<Answer, CliError> {
    let (version, schema) = (env!("CARGO_PKG_VERSION"), migrate::wanted());
    Answer::new(
        format!("postrider {version}, schema {schema}"),
        &serde_json::json!({"version": version, "schema": schema}),
    )
}
